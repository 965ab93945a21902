"""What a user would pick instead: ALS and EASE on the same splits, by the same evaluation.

``python experiments/alternatives.py --help`` lists the options.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from selection import select
from tabulate import tabulate
from threadpoolctl import threadpool_limits

from recbole_hns.cli import run_command
from recbole_hns.cli.options import Command, Given, options
from recbole_hns.errors import UserError
from recbole_hns.files import replace_file, writable_directory
from recbole_hns.protocol import Protocol

Count = PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Positive | Annotated[list[Positive], Field(min_length=1)]

#: Hyperparameters of each model; a list is a grid.
GRIDS = {
    "als": options(
        factors=(Count, Field(64, description="dimension of the embeddings")),
        alpha=(Weight, Field(10.0, description="confidence of an observed pair")),
        regularization=(Weight, Field(30.0, description="L2")),
        iterations=(Count, Field(15, description="passes over users and items")),
    ),
    "ease": options(
        reg_weight=(Weight, Field(250.0, description="L2, lambda")),
    ),
}

OPTIONS = options(
    model=(Literal["als", "ease"], Field("als", description="implicit's ALS or RecBole's EASE")),
    dataset=(str, Field("ml-100k", min_length=1, description="data set, as in recbole-hns run")),
    data_path=(str, Field("dataset", min_length=1, description="directory it is read from")),
    protocol=(Protocol, Field("valid", description="what selects: validation or test part")),
    seed=(NonNegativeInt, Field(2020, lt=2**32, description="of the split and of ALS")),
    output=(str, Field("alternatives", min_length=1, description="directory for the result file")),
)

HELP = """\
Fit a model to the training part for every combination of the values given, such as --alpha=3,10
--regularization=10,30, and select by NDCG@20 on the validation part. Writes MODEL-DATASET.json and
prints the selected one as a row of Markdown. One thread is used.
"""

METRICS = ("Recall@20", "NDCG@20", "Recall@50", "NDCG@50")


def run(given: Given) -> None:
    """Fit, select, test and report."""
    values = given.values
    own = GRIDS[values["model"]]
    for name in given.named - OPTIONS.keys() - own.keys():
        allowed = f"no option of model={values['model']}, whose are {', '.join(own)}"
        raise UserError.of(name, values[name], allowed)
    output = writable_directory("output", values["output"])
    with threadpool_limits(1):
        report = select(values, {name: values[name] for name in own})
    path = output / f"{report['model']}-{report['dataset']}.json"
    replace_file(path, lambda file: file.write(json.dumps(report, indent=1).encode() + b"\n"))
    print(f"\n{markdown(report)}\n\nresult file: {path}")


def markdown(report: Mapping[str, Any]) -> str:
    """A table of one row: settings, results on both parts and cost.

    With the protocol ``paper`` the two parts are one, and a line says so.
    """
    selected = {"valid NDCG@20": f"{report['valid']['ndcg@20']:.4f}"}
    if report["protocol"] == "paper":
        selected = {}
    row = {
        "data": report["dataset"],
        "model": report["model"],
        "settings": ", ".join(f"{key} {value:g}" for key, value in report["chosen"].items()),
        **selected,
        **{f"test {spelt}": f"{report['test'][spelt.lower()]:.4f}" for spelt in METRICS},
        "seconds": f"{report['seconds']:.1f}",
        "process MiB": f"{report['process_mib']:.0f}",
    }
    table = tabulate([row], headers="keys", tablefmt="pipe", disable_numparse=True)
    return f"{table}\n\n{report['note']}" if "note" in report else table


COMMAND = Command(
    "alternatives",
    run,
    "[--OPTION=VALUE ...]",
    HELP,
    {"Options": OPTIONS, "Of --model=als": GRIDS["als"], "Of --model=ease": GRIDS["ease"]},
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return run_command(COMMAND, list(arguments), "alternatives")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
