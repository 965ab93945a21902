"""``recbole-hns evaluate``: metrics of a checkpoint, without training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from tabulate import tabulate

from recbole_hns.cli.options import option_help, options, parse, typed
from recbole_hns.cli.recommend import LOADING, given_only
from recbole_hns.recommendation.commands import evaluate

Names = Annotated[list[str], Field(min_length=1)]
Numbers = Annotated[list[PositiveInt], Field(min_length=1)]

OPTIONS = {
    **options(
        checkpoint=(str, Field("", description="of the model; needed")),
        metrics=(
            str | Names | None,
            Field(None, description="RecBole's or this package's, separated by commas"),
        ),
        topk=(PositiveInt | Numbers | None, Field(None, description="their K's, likewise")),
        part=(Literal["test", "valid"], Field("test", description="of the data")),
    ),
    **LOADING,
}

USAGE = """\
usage: recbole-hns evaluate --checkpoint=F [--metrics=NDCG,Recall] [--topk=10,50]
                            [--part=test|valid]

Evaluate a model on the validation or the test part of its data, without training. What is not given
is the run's.

Options, with their defaults and what is allowed:

"""


def main(arguments: Sequence[str]) -> int:
    """Print the metrics; returns the exit status."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE + option_help(OPTIONS))
        return 0
    values = parse(arguments)
    if "," in values.get("metrics", ""):
        values["metrics"] = str(values["metrics"].split(","))
    checked = typed(values, OPTIONS)
    result = evaluate(**given_only(checked, "checkpoint"), show_progress=sys.stderr.isatty())
    print(tabulate(list(result.items()), headers=["metric", checked["part"]], floatfmt=".4f"))
    return 0
