"""From files or data frames to RecBole's atomic files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from recbole_hns.convert import COLUMN_OPTIONS, PARTS, How
from recbole_hns.convert.atomic import write_parts
from recbole_hns.convert.options import PARAMETERS
from recbole_hns.convert.readers import (
    read_adjacency,
    read_csv,
    read_jsonl,
    read_mat,
    read_sequences,
)
from recbole_hns.convert.split import TEST_SHARE
from recbole_hns.convert.split import split as split_parts
from recbole_hns.errors import UserError
from recbole_hns.files import new_directory, write_yaml
from recbole_hns.protocol import SPLIT_SUFFIX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recbole_hns.convert.interactions import Interactions

#: What each format is read from: one file, or those of a ready split.
ONE, READY = "--input=FILE", "--train=FILE and --test=FILE, with --valid=FILE where there is one"
SOURCES = {
    "adjacency": (READY,),
    "sequence": (ONE,),
    "mat": (ONE,),
    "csv": (ONE, READY),
    "jsonl": (ONE, READY),
    "parquet": (ONE, READY),
    "frame": (ONE, READY),
}

#: The formats without columns that could be named.
WITHOUT_COLUMNS = ("adjacency", "sequence", "mat")

#: The format that the suffix of a file tells, ``.gz`` after it being left aside.
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".inter": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".mat": "mat",
}


@dataclass(frozen=True)
class Conversion:
    """What was converted; as text, a report.

    Attributes:
        path: the directory of the files, whose name is the data set's.
        counts: users, items and interactions of ``train``, ``valid``, ``test`` and ``all``.
        notes: what else there is to tell, a line each.
    """

    path: Path
    counts: Mapping[str, tuple[int, int, int]]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        rows = [[name, *counts] for name, counts in self.counts.items()]
        headers = ["part", "users", "items", "interactions"]
        return "\n".join([tabulate(rows, headers=headers, intfmt=","), *self.notes])


def convert(
    input: Any = None,
    output: str | os.PathLike[str] | None = None,
    *,
    train: Any = None,
    valid: Any = None,
    test: Any = None,
    format: str | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    min_rating: float | None = None,
    split: How | None = None,
    validation: float | None = None,
    seed: int = 2020,
) -> Conversion:
    """Convert a data frame, or a file, to RecBole's atomic files with a ready split.

    Args:
        input: a pandas or Polars ``DataFrame``, a pyarrow ``Table``, what else gives Arrow a
            stream, or the path of a file; split by ``split``.
        output: new directory for the files, such as ``dataset/mine``; its name is the data set's.
        train: training part of a ready split, in place of ``input``.
        valid: its validation part, where there is one.
        test: its test part.
        format: of files: ``adjacency``, ``sequence``, ``mat``, ``csv``, ``jsonl`` or ``parquet``;
            default what the suffix tells.
        user_column: name of the column of users, where it is not understood.
        item_column: that of items.
        rating_column: that of ratings.
        time_column: that of times: numbers, dates, timestamps or ISO 8601 text.
        min_rating: interactions with a lower rating are left out.
        split: how ``input`` is split: ``random``, the default, a fifth of each user's interactions
            is the test part; ``temporal``, the last fifth of all by time; ``leave-last``, the last
            interaction of each user, the one before being the validation part. The latter two need
            times. ``format=sequence`` is split by ``leave-last``.
        validation: fraction of each user's training part, of ``temporal`` of all of it, that
            becomes the validation part; default 0.1, unless ``valid`` is given. With
            ``leave-last``, 0 leaves the validation part out.
        seed: of a random split.

    Raises:
        UserError: for what cannot be read or a value that is not allowed; nothing is written then.
    """
    values = dict(locals())
    for key in (*COLUMN_OPTIONS.values(), "min_rating", "split", "seed"):
        values[key] = PARAMETERS[key].check(values[key])
    if valid is not None and validation is not None:
        allowed = f"leave it out; the validation part is valid={_shown(valid)}"
        raise UserError.of("validation", validation, allowed)
    share = PARAMETERS["validation"].default if validation is None else validation
    values["validation"] = 0 if valid is not None else PARAMETERS["validation"].check(share)
    sources = {key: values[key] for key in ("input", *PARTS) if values[key] is not None}
    values["format"] = _format(format, sources)
    _check_given(values)
    of_sequences = values["format"] == "sequence"
    if split is None:
        values["split"] = "leave-last" if of_sequences else "random"
    _check_split(values, validation is not None)
    if Path(values["output"]).name == "ml-100k":
        allowed = "must be named otherwise; ml-100k is the data set that RecBole brings"
        raise UserError.of("output", values["output"], allowed)

    target = os.fspath(values["output"])
    with new_directory("output", target) as folder:
        interactions = _read(values["format"], sources, values)
        low = _drop_low(interactions, values["min_rating"])
        if values["split"] != "random" and not of_sequences:
            _check_times(interactions, values)
            # of a pair that is there twice the first in time is kept
            interactions.sort_by_time()
        # an item may come back in a sequence
        repeats = 0 if of_sequences else interactions.drop_repeats()
        # IR-Benchmark's protocol, for splits in its format
        at_least_one = values["format"] != "adjacency" and values["train"] is not None
        part = split_parts(
            interactions, values["validation"], values["seed"], at_least_one, values["split"]
        )
        _check_parts(part, values)
        paths = write_parts(interactions, part, folder, folder.name)
        told = _split_told(values, at_least_one)
        write_yaml({"split": told}, folder / f"{folder.name}{SPLIT_SUFFIX}")
    notes = column_notes(interactions)
    if low:
        notes.append(f"interactions with a rating below {min_rating:g} left out: {low:,}")
    if repeats:
        notes.append(f"repeated pairs left out: {repeats:,}")
    for what, codes in (("users", interactions.user), ("items", interactions.item)):
        only = len(np.setdiff1d(codes[part > 0], codes[part == 0]))
        if only:
            notes.append(f"{what} without a training interaction: {only:,}")
    notes.append(f"split: {told}")
    notes.append(f"files in {target}: {', '.join(path.name for path in paths)}")
    return Conversion(Path(target), _counts(interactions, part), tuple(notes))


def column_notes(interactions: Interactions) -> list[str]:
    """What was read from which column, and which were left out."""
    notes = []
    if interactions.columns:
        read = (f"{name} as {field}" for field, name in interactions.columns.items())
        notes.append(f"columns read: {', '.join(read)}")
    if interactions.other_columns:
        notes.append(f"columns left out: {', '.join(interactions.other_columns)}")
    return notes


def _format(given: str | None, sources: Mapping[str, Any]) -> str:
    """The format that is given, or that suffixes tell; ``frame`` for data frames."""
    known = ", ".join(name for name in SOURCES if name != "frame")
    framed = [key for key, source in sources.items() if not isinstance(source, (str, os.PathLike))]
    if framed:
        key, source = framed[0], sources[framed[0]]
        # pyarrow takes a while to import
        from recbole_hns.convert.frames import is_frame

        if not is_frame(source):
            allowed = "must be a path or a data frame of pandas, Polars (collected) or pyarrow"
            raise UserError.of(key, _shown(source), allowed)
        if given is not None:
            raise UserError.of("format", given, f"is of files, and {key} is a data frame")
        if len(framed) < len(sources):
            raise UserError.of(key, _shown(source), "must be a path, as the other parts are")
        return "frame"
    if given is not None:
        if given not in SOURCES or given == "frame":
            raise UserError.of("format", given, f"must be one of {known}")
        return given
    told = {key: told_format(path) for key, path in sources.items()}
    unknown = [key for key, format_ in told.items() if format_ is None]
    if unknown or not told:
        which = f"; {_shown(sources[unknown[0]])} does not tell" if unknown else ""
        raise UserError(f"--format: is needed, one of {known}{which}")
    if len(set(told.values())) > 1:
        files = ", ".join(f"{key}={_shown(sources[key])}" for key in told)
        raise UserError(f"{files}: the parts must be of one format")
    return str(next(iter(told.values())))


def told_format(path: str | os.PathLike[str]) -> str | None:
    """The format that the suffix of a file tells; None if it tells none."""
    name = Path(path).name.lower()
    return SUFFIXES.get(Path(name.removesuffix(".gz")).suffix)


def _shown(source: Any) -> str:
    """What a message calls a source."""
    return str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def _check_given(values: Mapping[str, Any]) -> None:
    if not values["output"]:
        raise UserError("--output: is needed, such as --output=dataset/NAME")
    sources = SOURCES[values["format"]]
    allowed = f"format={values['format']} is read from {', or from '.join(sources)}"
    if values["format"] == "frame":
        allowed = "data frames are given as input, or as train, test and, where there is one, valid"
    ready = READY in sources and (ONE not in sources or values["input"] is None)
    refused, needed = (("input",), ("train", "test")) if ready else ((*PARTS,), ("input",))
    for key in refused:
        if values[key] is not None:
            raise UserError.of(key, _shown(values[key]), allowed)
    for key in needed:
        if values[key] is None:
            raise UserError(f"--{key}: is needed; {allowed}")
    for key in (*COLUMN_OPTIONS.values(), "min_rating"):
        if values["format"] in WITHOUT_COLUMNS and values[key] is not None:
            columns = ", ".join(name for name in SOURCES if name not in WITHOUT_COLUMNS)
            raise UserError.of(key, values[key], f"is for format={columns}")


def _check_split(values: Mapping[str, Any], validated: bool) -> None:
    """See that the way to split has a meaning with the sources and ``validation``.

    Args:
        values: all that was given or is the default.
        validated: whether ``validation`` was given.
    """
    how = values["split"]
    if values["format"] == "sequence" and how != "leave-last":
        raise UserError.of("split", how, "must be leave-last with format=sequence")
    if how == "random":
        return
    if values["train"] is not None:
        raise UserError.of("split", how, "is of --input; a split that is ready is kept")
    if values["format"] == "mat":
        raise UserError.of("split", how, "needs times, and format=mat has none")
    if how == "leave-last" and validated and values["validation"]:
        allowed = "with split=leave-last it is one interaction of each user; leave it out, or 0"
        raise UserError.of("validation", values["validation"], allowed)


def _check_times(interactions: Interactions, values: Mapping[str, Any]) -> None:
    if "timestamp" not in interactions.fields:
        allowed = "needs times; name their column with --time_column=NAME"
        raise UserError.of("split", values["split"], allowed)


def _split_told(values: Mapping[str, Any], at_least_one: bool) -> str:
    """How the parts came to be, for whoever reads the data or what was made with it."""
    given = values["validation"] > 0
    test, share = (f"{100 * part:g}%" for part in (TEST_SHARE, values["validation"]))
    if values["split"] == "temporal":
        told = f"temporal, the last {test} of all interactions by time are the test part"
        return told + f", the last {share} before them the validation part" * given
    if values["split"] == "leave-last":
        told = "leave-last, the last interaction of each user is the test part"
        return told + ", the one before it the validation part" * given
    told = f"random, {test} of each user's interactions are the test part"
    if values["train"] is not None:
        told = "ready"
    if given:
        least = ", at least one," if at_least_one else ""
        told += f", {share} of each user's others{least} the validation part"
    return told + f", seed {values['seed']}" * (given or values["train"] is None)


def _read(format_: str, sources: Mapping[str, Any], values: Mapping[str, Any]) -> Interactions:
    names = {field: values[option] for field, option in COLUMN_OPTIONS.items()}
    if format_ == "frame":
        from recbole_hns.convert.frames import read_frames

        return read_frames(sources, names)
    paths = {key: os.fspath(path) for key, path in sources.items()}
    if format_ == "adjacency":
        return read_adjacency(paths)
    if format_ == "sequence":
        return read_sequences(paths["input"])
    if format_ == "mat":
        return read_mat(paths["input"])
    if format_ == "parquet":
        from recbole_hns.convert.frames import read_parquet

        return read_parquet(paths, names)
    return (read_csv if format_ == "csv" else read_jsonl)(paths, names)


def _drop_low(interactions: Interactions, rating: float | None) -> int:
    """Leave out the interactions with lower ratings; how many there were."""
    if rating is None:
        return 0
    if "rating" not in interactions.fields:
        allowed = "needs ratings; name their column with --rating_column=NAME"
        raise UserError.of("min_rating", rating, allowed)
    return interactions.drop_below(rating)


def _check_parts(part: NDArray[np.int8], values: Mapping[str, Any]) -> None:
    for place, name in enumerate(PARTS):
        if values[name] is not None and not (part == place).any():
            rating = values["min_rating"]
            low = "" if rating is None else f" with a rating of {rating:g} or more"
            new = " that was not trained with" if place else ""
            if name == "test" and values["valid"] is not None:
                new += " or validated by"
            raise UserError.of(name, _shown(values[name]), f"has no pair{low}{new}")
    if values["split"] == "temporal" and not (part == PARTS.index("train")).any():
        allowed = "the times leave no training part; too many interactions are of the same time"
        raise UserError.of("split", values["split"], allowed)
    if not (part == PARTS.index("test")).any():
        few = {"random": "no user has the 3", "leave-last": "no user has the 2"}
        allowed = f"{few.get(values['split'], 'there are not the 3')} interactions of which one "
        raise UserError.of("input", _shown(values["input"]), f"{allowed}would be the test part")
    if values["validation"] and not (part == PARTS.index("valid")).any():
        few = {"temporal": "there are not so many interactions that one"}
        allowed = few.get(values["split"], "no user has so many interactions that one")
        allowed += " would be the validation part"
        raise UserError.of("validation", values["validation"], allowed)


def _counts(interactions: Interactions, part: NDArray[np.int8]) -> dict[str, tuple[int, int, int]]:
    """Users, items and interactions of every part and of all."""
    chosen = {name: part == place for place, name in enumerate(PARTS)}
    chosen["all"] = np.ones(len(part), dtype=np.bool_)
    return {
        name: (
            np.count_nonzero(np.bincount(interactions.user[mask])),
            np.count_nonzero(np.bincount(interactions.item[mask])),
            np.count_nonzero(mask),
        )
        for name, mask in chosen.items()
    }
