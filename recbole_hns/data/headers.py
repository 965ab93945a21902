"""The first lines of a data set's files, checked before RecBole reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from recbole.config import Config

#: RecBole's types of columns.
TYPES = ("token", "token_seq", "float", "float_seq")


def check_headers(config: Config) -> None:
    """See that the interaction files have columns ``name:type``, with ids of type ``token``.

    Files that are missing are left to RecBole, which may download them.

    Raises:
        UserError: naming the file and the column.
    """
    parts = config["benchmark_filename"] or [""]
    for part in parts:
        name = ".".join(filter(None, (config["dataset"], str(part), "inter")))
        path = Path(config["data_path"]) / name
        if path.is_file():
            _check_header(path, config)


def _check_header(path: Path, config: Config) -> None:
    try:
        with path.open(encoding=config["encoding"]) as file:
            columns = file.readline().rstrip("\n").split(config["field_separator"])
    except (OSError, ValueError) as error:
        raise UserError.of("dataset", config["dataset"], f"{path}: {error}") from error
    ids = (config["USER_ID_FIELD"], config["ITEM_ID_FIELD"])
    for column in columns:
        name, _, kind = column.partition(":")
        if kind not in TYPES or (name in ids and kind != "token"):
            types = "token" if name in ids else ", ".join(TYPES)
            allowed = f"{path}: column {column!r} of its first line must be NAME:TYPE, TYPE {types}"
            raise UserError.of("dataset", config["dataset"], allowed)
