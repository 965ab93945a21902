"""``recbole-hns evaluate``: metrics of a checkpoint, without training."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from recbole_hns.cli.options import Command, Given, options
from recbole_hns.cli.recommend import CHECKPOINT, LOADING, needed

OPTIONS = {
    **CHECKPOINT,
    **options(
        metrics=(
            str | None,
            Field(None, description="RecBole's or this package's, separated by commas"),
        ),
        topk=(
            PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)] | None,
            Field(None, description="their K's, separated by commas"),
        ),
        part=(Literal["test", "valid"], Field("test", description="of the data")),
    ),
}

HELP = """\
Evaluate a model on the test or the validation part of its data, without training.

What is not given is the run's.
"""


def run(given: Given) -> None:
    """Print the metrics."""
    values = needed(given, "checkpoint")
    if "metrics" in values:
        values["metrics"] = [name.strip() for name in values["metrics"].split(",")]

    # PyTorch takes seconds to import
    from tabulate import tabulate

    from recbole_hns.recommendation.commands import evaluate

    result = evaluate(**values, show_progress=sys.stderr.isatty())
    print(tabulate(list(result.items()), headers=["metric", values["part"]], floatfmt=".4f"))


COMMAND = Command(
    "evaluate",
    run,
    "--checkpoint=F [--metrics=NDCG,Recall] [--topk=10,50] [--part=test|valid]",
    HELP,
    {"Options": OPTIONS, "Reading the checkpoint": LOADING},
)
