"""``recbole-hns recommend``: lists of items from a checkpoint."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import Field, PositiveInt

from recbole_hns.cli.options import Command, Given, options
from recbole_hns.errors import UserError

CHECKPOINT = options(checkpoint=(str | None, Field(None, description="file of the model; needed")))

#: What reads a checkpoint that was moved, or has classes of the user's own.
LOADING = options(
    data_path=(str | None, Field(None, description="folder of the data set's, if it was moved")),
    model=(str | None, Field(None, description="package.module:Class of a model of your own")),
    sampler=(str | None, Field(None, description="likewise of a sampler")),
    loss=(str | None, Field(None, description="likewise of a loss")),
)

OPTIONS = {
    **CHECKPOINT,
    **options(
        output=(str | None, Field(None, description="file, .parquet, .csv or .jsonl; needed")),
        users=(str | None, Field(None, description="file that names users; unset is all")),
        topk=(PositiveInt, Field(10, description="length of a list")),
        related_to=(
            str | None,
            Field(None, description="an item: the list is of those similar to it"),
        ),
        keep_known=(bool, Field(False, description="items that a user knows may be in the list")),
    ),
}

HELP = """\
Write the items that a model ranks highest for each user, as lines of user, item, rank and score, by
the names that the data set has for them.

Items that a user has interacted with, in whatever part of the data, are left out. A file of users
has one name a line, or a column user, customer_id or the like (csv, tsv, parquet, jsonl). With
--related-to, the list is of the items whose vectors have the highest cosines with that item's.
"""


def run(given: Given) -> None:
    """Write the lists."""
    values = needed(given, "checkpoint", "output")

    # PyTorch takes seconds to import
    from recbole_hns.recommendation.commands import recommend

    lists, entries = recommend(**values, show_progress=sys.stderr.isatty())
    counts = f"{lists} list{'s' * (lists != 1)}, {entries} item{'s' * (entries != 1)}"
    print(f"{counts}: {values['output']}")


def needed(given: Given, *names: str) -> dict[str, Any]:
    """The options that are set.

    Raises:
        UserError: if one of those without which there is nothing to do is not.
    """
    for name in names:
        if not given.values[name]:
            raise UserError(f"--{name}: is needed, --{name}=VALUE")
    return {name: value for name, value in given.values.items() if value is not None}


COMMAND = Command(
    "recommend",
    run,
    "--checkpoint=F --output=F.parquet|.csv|.jsonl [--users=F] [--related-to=ITEM]",
    HELP,
    {"Options": OPTIONS, "Reading the checkpoint": LOADING},
)
