"""``recbole-hns recommend``: lists of items from a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pydantic import Field, PositiveInt

from recbole_hns.cli.options import option_help, options, parse, typed
from recbole_hns.errors import UserError
from recbole_hns.recommendation.commands import recommend

#: What reads a checkpoint that was moved, or has classes of the user's own.
LOADING = options(
    data_path=(str, Field("", description="folder of the data set's, if it was moved")),
    model=(str, Field("", description="package.module:Class of a model of your own")),
    sampler=(str, Field("", description="likewise of a sampler")),
    loss=(str, Field("", description="likewise of a loss")),
)

OPTIONS = {
    **options(
        checkpoint=(str, Field("", description="of the model; needed")),
        output=(str, Field("", description="file, .parquet, .csv or .jsonl; needed")),
        users=(str, Field("", description="file that names users; unset is all")),
        topk=(PositiveInt, Field(10, description="length of a list")),
        related_to=(str, Field("", description="an item: the list is of those similar to it")),
        keep_known=(bool, Field(False, description="items that a user knows may be in the list")),
    ),
    **LOADING,
}

USAGE = """\
usage: recbole-hns recommend --checkpoint=F --output=F.parquet|.csv|.jsonl [--users=F] [--topk=10]
                             [--related-to=ITEM] [--keep_known]

Write the items that a model ranks highest for each user, as lines of user, item, rank and score, by
the names that the data set has for them. Items that a user has interacted with, in whatever part of
the data, are left out. A file of users has one name a line, or a column user or user_id (csv, tsv,
parquet). With --related-to, the items whose vectors have the highest cosine with that item's.

Options, with their defaults and what is allowed:

"""


def main(arguments: Sequence[str]) -> int:
    """Write the lists; returns the exit status."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE + option_help(OPTIONS))
        return 0
    given = parse(arguments, flags=("keep_known", "keep-known"))
    values = typed({key.replace("-", "_"): value for key, value in given.items()}, OPTIONS)
    lists, entries = recommend(
        **given_only(values, "checkpoint", "output"), show_progress=sys.stderr.isatty()
    )
    print(f"{lists} lists, {entries} items: {values['output']}")
    return 0


def given_only(values: dict[str, Any], *needed: str) -> dict[str, Any]:
    """The options without those that are left empty.

    Raises:
        UserError: if one without which the command has nothing to do is.
    """
    for key in needed:
        if values[key] == "":
            raise UserError(f"--{key}: is needed, --{key}=VALUE")
    return {key: value for key, value in values.items() if value != ""}
