"""``recbole-hns convert``: the field's data formats to RecBole's, with a ready split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from recbole_hns.cli.options import Command, Given, options
from recbole_hns.convert import COLUMN_OPTIONS, PARTS
from recbole_hns.errors import UserError
from recbole_hns.files import new_directory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from recbole_hns.convert.interactions import Interactions

COLUMN = "name of the column of {}, in the header of csv, where it is not understood"

OPTIONS = options(
    format=(
        Literal["adjacency", "mat", "csv"] | None,
        Field(None, description="of the source, see above"),
    ),
    train=(str | None, Field(None, description="training part, of adjacency and csv")),
    valid=(str | None, Field(None, description="validation part, where there is one")),
    test=(str | None, Field(None, description="test part, of adjacency and csv")),
    input=(str | None, Field(None, description="the file, of mat and csv")),
    user_column=(str | None, Field(None, description=COLUMN.format("users"))),
    item_column=(str | None, Field(None, description=COLUMN.format("items"))),
    rating_column=(str | None, Field(None, description=COLUMN.format("ratings"))),
    time_column=(str | None, Field(None, description=COLUMN.format("timestamps"))),
    min_rating=(
        Annotated[float, Field(allow_inf_nan=False)] | None,
        Field(None, description="interactions of csv with a lower rating are left out"),
    ),
    validation=(
        float,
        Field(
            0.1,
            ge=0,
            lt=1,
            description="fraction of each user's training part that becomes the validation part, "
            "unless --valid is; 0 is none, for protocol=paper only",
        ),
    ),
    seed=(NonNegativeInt, Field(2020, description="seed of the split")),
    output=(
        str | None,
        Field(None, description="new directory for the files, whose name is the data set's"),
    ),
)

HELP = """\
Convert data to RecBole's atomic files NAME.train.inter, NAME.valid.inter and NAME.test.inter, which
--dataset=NAME then reads. --format is one of

\b
  adjacency  lines "user item item ...", whole numbers, in a file for each part
  mat        MATLAB sparse matrix named data, users x items
  csv        lines of columns, separated by tabs, commas, semicolons, :: or spaces. A header says
             which are user, item, rating and timestamp, by the usual names (userId, movie_id,
             asin, stars, time, ...) or those of --user_column and so on; further columns are left
             out. Without a header they are user, item, rating and timestamp, in this order. Files
             of a ready split have the same columns; where two are all, other names in the header
             are user and item, in this order

adjacency and csv may be compressed by gzip. Each is read from

\b
  --train=FILE [--valid=FILE] --test=FILE  a ready split, of adjacency and csv
  --input=FILE                             one file, of mat and csv

A split that is ready is kept, but for the part of the training part that becomes the validation
part. mat and csv of one file are split at random: a fifth of each user's interactions, rounded, is
the test part. Of a pair that is there twice the first is kept, and it is no test pair if it was
trained with. A user with one interaction has it in the training part.
"""

#: What each format is read from: one file, or those of a ready split.
ONE, READY = "--input=FILE", "--train=FILE and --test=FILE, with --valid=FILE where there is one"
SOURCES = {"adjacency": (READY,), "mat": (ONE,), "csv": (ONE, READY)}


def run(given: Given) -> None:
    """Convert."""
    values = dict(given.values)
    _check_given(values)
    if values["valid"] is not None:
        if "validation" in given.named:
            allowed = f"leave it out; the validation part is valid={values['valid']}"
            raise UserError.of("validation", values["validation"], allowed)
        values["validation"] = 0
    if Path(values["output"]).name == "ml-100k":
        allowed = "must be named otherwise; ml-100k is the data set that RecBole brings"
        raise UserError.of("output", values["output"], allowed)
    # NumPy and SciPy take a while to import
    import numpy as np
    from tabulate import tabulate

    from recbole_hns.convert.atomic import write_parts
    from recbole_hns.convert.split import split

    with new_directory("output", values["output"]) as folder:
        interactions = _read(values)
        low = _drop_low(interactions, values["min_rating"])
        repeats = interactions.drop_repeats()
        part = split(interactions, values["validation"], values["seed"])
        _check_parts(part, values)
        paths = write_parts(interactions, part, folder, folder.name)
    print(tabulate(**_counts(interactions, part), intfmt=","))
    if interactions.columns:
        read = (f"{name} as {field}" for field, name in interactions.columns.items())
        print(f"columns read: {', '.join(read)}")
    if interactions.other_columns:
        print(f"columns left out: {', '.join(interactions.other_columns)}")
    if low:
        print(f"interactions with a rating below {values['min_rating']:g} left out: {low:,}")
    if repeats:
        print(f"repeated pairs left out: {repeats:,}")
    for what, codes in (("users", interactions.user), ("items", interactions.item)):
        only = len(np.setdiff1d(codes[part > 0], codes[part == 0]))
        if only:
            print(f"{what} without a training interaction: {only:,}")
    print(f"files in {values['output']}: {', '.join(path.name for path in paths)}")


def _check_given(values: Mapping[str, Any]) -> None:
    if values["format"] is None:
        raise UserError(f"--format: is needed, one of {', '.join(SOURCES)}")
    if not values["output"]:
        raise UserError("--output: is needed, such as --output=dataset/NAME")
    sources = SOURCES[values["format"]]
    allowed = f"format={values['format']} is read from {', or from '.join(sources)}"
    ready = READY in sources and (ONE not in sources or values["input"] is None)
    refused, needed = (("input",), ("train", "test")) if ready else ((*PARTS,), ("input",))
    for key in refused:
        if values[key] is not None:
            raise UserError.of(key, values[key], allowed)
    for key in needed:
        if values[key] is None:
            raise UserError(f"--{key}: is needed; {allowed}")
    for key in (*COLUMN_OPTIONS.values(), "min_rating"):
        if values["format"] != "csv" and values[key] is not None:
            raise UserError.of(key, values[key], "is for format=csv")


def _read(values: Mapping[str, Any]) -> Interactions:
    from recbole_hns.convert.readers import read_adjacency, read_csv, read_mat

    paths = {key: values[key] for key in (*PARTS, "input") if values[key] is not None}
    if values["format"] == "adjacency":
        return read_adjacency(paths)
    if values["format"] == "mat":
        return read_mat(values["input"])
    names = {field: values[option] for field, option in COLUMN_OPTIONS.items()}
    return read_csv(paths, names)


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
            raise UserError.of(name, values[name], f"has no pair{low}{new}")
    if not (part == PARTS.index("test")).any():
        allowed = "no user has the 3 interactions of which one would be the test part"
        raise UserError.of("input", values["input"], allowed)
    if values["validation"] and not (part == PARTS.index("valid")).any():
        allowed = "no user has so many interactions that one would be the validation part"
        raise UserError.of("validation", values["validation"], allowed)


def _counts(interactions: Interactions, part: NDArray[np.int8]) -> dict[str, Any]:
    """Users, items and interactions of every part and of all."""
    import numpy as np

    chosen = {name: part == place for place, name in enumerate(PARTS)}
    chosen["all"] = np.ones(len(part), dtype=np.bool_)
    rows = [
        [
            name,
            np.count_nonzero(np.bincount(interactions.user[mask])),
            np.count_nonzero(np.bincount(interactions.item[mask])),
            np.count_nonzero(mask),
        ]
        for name, mask in chosen.items()
    ]
    return {"tabular_data": rows, "headers": ["part", "users", "items", "interactions"]}


COMMAND = Command("convert", run, "[--OPTION=VALUE ...]", HELP, {"Options": OPTIONS})
