"""The first lines of a data set's files, checked before RecBole reads them."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recbole.utils import ModelType

from recbole_hns.data.reading import opened
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from recbole.config import Config

#: RecBole's types of columns.
TYPES = ("token", "token_seq", "float", "float_seq")

#: Separators that are looked for where the config's is not that of the file.
SEPARATORS = ("\t", ",", ";", "|", "::", " ")

#: The key that names the column by which a file is joined to the interactions.
ID_FIELDS = {"user": "USER_ID_FIELD", "item": "ITEM_ID_FIELD"}


class Named(NamedTuple):
    """A column that the config names.

    Attributes:
        column: its name.
        key: the config key that names it.
        use: what needs it.
        types: of which it may be.
        files: suffixes of the files that may have it.
    """

    column: str
    key: str
    use: str
    types: tuple[str, ...] = ("float",)
    files: tuple[str, ...] = ("inter",)


def by_time(config: Config) -> bool:
    """Whether the times of the interactions tell their parts."""
    return not config["benchmark_filename"] and config["eval_args"].get("order") == "TO"


def is_sequential(config: Config) -> bool:
    """Whether the model learns from sequences."""
    return config["MODEL_TYPE"] == ModelType.SEQUENTIAL


def columns_named(config: Config) -> list[Named]:
    """The columns that the config names, beside those of ``load_col``."""
    named = [Named(config[key], key, key, ("token",)) for key in ID_FIELDS.values()]
    if by_time(config):
        named.append(Named(config["TIME_FIELD"], "TIME_FIELD", "order TO"))
    named += [Named(column, "threshold", "threshold") for column in config["threshold"] or ()]
    if "labeled" in config["eval_args"]["mode"].values() and not config["threshold"]:
        named.append(Named(config["LABEL_FIELD"], "LABEL_FIELD", "mode labeled"))
    for key, types in (
        ("val_interval", TYPES),
        ("alias_of_user_id", TYPES[:2]),
        ("alias_of_item_id", TYPES[:2]),
        ("normalize_field", TYPES[2:]),
    ):
        # a ready split is not filtered
        if key != "val_interval" or not config["benchmark_filename"]:
            files = ("inter", *ID_FIELDS)
            named += [Named(column, key, key, types, files) for column in config[key] or ()]
    return named


def columns_to_load(config: Config) -> dict[str, set[str]]:
    """See that the data set's files have every column that the config names.

    Files that are missing are left to RecBole, which reports them.

    Returns:
        By suffix of a file, the columns that other keys name and ``load_col``, left to its default,
        does not: they are to be loaded too.

    Raises:
        UserError: naming the key and the column, or the file whose first line does not hold
            ``name:type`` of each column.
    """
    load_col, unload_col = config["load_col"], config["unload_col"] or {}
    default = load_col == config.internal_config_dict.get("load_col")
    added: dict[str, set[str]] = {}
    for part in config["benchmark_filename"] or [""]:
        headers = _Headers(config, f"{part}.inter" if part else "inter")
        if not headers["inter"]:
            continue
        named = columns_named(config)
        if is_sequential(config):
            _check_length_field(config, headers)
            if part:
                named.append(_of_sequences(config, headers["inter"]))
        for column, key, use, types, files in named:
            file = next((file for file in files if column in headers[file]), None)
            if file is None:
                why = "" if use == key else f"{use} needs it; "
                has = f"{config['dataset']}.{headers.inter} has {', '.join(headers['inter'])}"
                raise UserError.of(key, config[key], f"{why}{has}")
            kind = headers[file][column]
            if kind not in types:
                allowed = f"{use} needs type {' or '.join(types)}; the file has {column}:{kind}"
                raise UserError.of(key, config[key], allowed)
            if column in unload_col.get(file, ()):
                raise UserError.of("unload_col", unload_col, f"{use} needs {column}")
            listed = "*" if load_col is None else load_col.get(file, [])
            if listed == "*" or column in listed:
                continue
            if not default:
                allowed = f"{use} needs {column}; the file has {', '.join(headers[file])}"
                raise UserError.of("load_col", load_col, allowed)
            added.setdefault(file, set()).add(column)
        _check_threshold(config, named)
        if not default:
            _tell_what_is_missing(load_col or {}, headers)
    for file in added.keys() & ID_FIELDS.keys():
        added[file].add(config[ID_FIELDS[file]])
    return added


def _lists_of_items(config: Config) -> str:
    """The column of the items that came before, where a file has them."""
    return f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"


def _of_sequences(config: Config, header: dict[str, str]) -> Named:
    """What a file of a ready split has for a sequential model: the lists, or times to make them.

    Raises:
        UserError: if the items of the lists would get other ids than the items.
    """
    lists = _lists_of_items(config)
    if lists not in header:
        return Named(config["TIME_FIELD"], "TIME_FIELD", "a sequential model")
    alias = config["alias_of_item_id"]
    if lists not in (alias or ()):
        raise UserError.of("alias_of_item_id", alias, f"must have {lists}, whose items are items")
    return Named(lists, "LIST_SUFFIX", "a sequential model", ("token_seq",))


def _check_length_field(config: Config, headers: _Headers) -> None:
    """See that the lengths of sequences take the place of nothing else.

    Raises:
        UserError: if a column, or the lists of one, have their name.
    """
    name = config["ITEM_LIST_LENGTH_FIELD"]
    taken = {config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]}
    taken |= {f"{column}{config['LIST_SUFFIX']}" for column in headers["inter"]}
    taken |= headers["user"].keys() | headers["item"].keys()
    # a ready split that has the lists may have their lengths too
    if _lists_of_items(config) not in headers["inter"]:
        taken |= headers["inter"].keys()
    if name in taken:
        allowed = "must be a name that no column of the data, and no list of one, has"
        raise UserError.of("ITEM_LIST_LENGTH_FIELD", name, allowed)


def _check_threshold(config: Config, named: list[Named]) -> None:
    """See that a column which becomes the label is used for nothing else; RecBole takes it away."""
    threshold = config["threshold"] or {}
    for column, key, use, *_ in named:
        if column in threshold and key != "threshold":
            allowed = f"takes the place of {column}, which {use} needs"
            raise UserError.of("threshold", threshold, allowed)


class _Headers(dict[str, dict[str, str]]):
    """The columns of the ``inter``, ``user`` and ``item`` file, read when asked for."""

    def __init__(self, config: Config, inter: str) -> None:
        self.config, self.inter = config, inter

    def __missing__(self, file: str) -> dict[str, str]:
        self[file] = _header(self.config, self.inter if file == "inter" else file)
        return self[file]


def _tell_what_is_missing(load_col: dict[str, Any], headers: _Headers) -> None:
    """Warn of columns to load that a file does not have, as RecBole does not."""
    for file in ("inter", *ID_FIELDS):
        listed = load_col.get(file, "*")
        if listed == "*":
            continue
        missing = [column for column in listed if column not in headers[file]]
        if missing and headers[file]:
            getLogger().warning(
                f"load_col: there is no column {', '.join(map(str, missing))} in the {file} file, "
                f"which has {', '.join(headers[file])}"
            )


def _header(config: Config, suffix: str) -> dict[str, str]:
    """The type of each column of a file; none if there is no such file."""
    path = Path(config["data_path"]) / f"{config['dataset']}.{suffix}"
    separator = config["field_separator"]
    if not isinstance(separator, str) or not separator:
        raise UserError.of("field_separator", separator, "must be a string, such as a tab")
    if not path.is_file():
        return {}
    try:
        with opened(path, config) as file:
            line = file.readline().rstrip("\n")
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError.of("dataset", config["dataset"], f"{path}: {error}") from error
    columns = line.split(separator)
    if not all(map(_typed, columns)):
        for other in SEPARATORS:
            if other in line and all(map(_typed, line.split(other))):
                allowed = f"the first line of {path} is separated by {other!r}"
                raise UserError.of("field_separator", repr(separator), allowed)
    header: dict[str, str] = {}
    for column in columns:
        name, _, kind = column.partition(":")
        is_id = name in [config[key] for key in ID_FIELDS.values()]
        if not _typed(column) or (is_id and kind != "token"):
            types = "token" if is_id else ", ".join(TYPES)
            allowed = f"{path}: column {column!r} of its first line must be NAME:TYPE, TYPE {types}"
            raise UserError.of("dataset", config["dataset"], allowed)
        if name in header:
            raise UserError.of("dataset", config["dataset"], f"{path}: column {name!r} is twice")
        header[name] = kind
    return header


def _typed(column: str) -> bool:
    return column.partition(":")[2] in TYPES
