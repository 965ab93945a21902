"""``recbole-hns simulate``: the HNS paper's simulation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from recbole_hns.cli.options import Command, Given, options
from recbole_hns.files import replace_file, writable_directory

if TYPE_CHECKING:
    import pandas as pd

OPTIONS = options(
    n_pos=(PositiveInt, Field(100, le=10**7, description="N+, positives in a ranking")),
    n_neg=(PositiveInt, Field(1000, le=10**15, description="N-, negatives in a ranking")),
    topk=(
        PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)],
        Field([5, 10, 20, 50], description="the K's, separated by commas"),
    ),
    trials=(PositiveInt, Field(100_000, description="random rankings to draw")),
    seed=(NonNegativeInt, Field(2020, description="seed of the rankings")),
    output=(str, Field("simulation", min_length=1, description="directory for the files")),
)

HELP = """\
Simulate how OPAUC and top-K metrics go together (HNS paper, section 3.2): draw uniformly random
rankings of N+ positives and N- negatives, and correlate NormOPAUC(beta) with Precision@K, Recall@K
and NDCG@K. Writes correlations.csv, correlations.png and correlations.pdf.
"""


def run(given: Given) -> None:
    """Run the simulation and write its files."""
    # NumPy, pandas and matplotlib take a while to import
    from recbole_hns.figures import opauc_correlation, style
    from recbole_hns.theory.simulation import peaks, simulate

    values = dict(given.values)
    output = writable_directory("output", values.pop("output"))
    if isinstance(values["topk"], int):
        values["topk"] = [values["topk"]]
    correlations = simulate(**values, show_progress=sys.stderr.isatty())
    table = correlations.to_csv(index=False).encode()
    replace_file(output / "correlations.csv", lambda file: file.write(table))
    style.save(opauc_correlation.draw(correlations), output, "correlations")
    print("\n".join(_peak_lines(peaks(correlations))))
    print("Recall@K is proportional to Precision@K in rankings of as many positives each.")
    print(f"files: {output / 'correlations'}.csv, .png, .pdf")


def _peak_lines(table: pd.DataFrame) -> list[str]:
    """Where the peaks lie, a line for each metric."""
    lines = []
    for metric, rows in table.groupby("metric", sort=False):
        found = [
            f"K={row.k} at beta={row.beta:.4g} ({row.correlation:.3f}, at 1 {row.at_auc:.3f})"
            for row in rows.itertuples()
        ]
        lines.append(f"{metric}@K, correlation peaks: {', '.join(found)}")
    return lines


COMMAND = Command("simulate", run, "[--OPTION=VALUE ...]", HELP, {"Options": OPTIONS})
