"""``recbole-hns export``: what serves a model without this package's training stack."""

from __future__ import annotations

from pydantic import Field

from recbole_hns.cli.options import Command, Given, options
from recbole_hns.cli.recommend import CHECKPOINT, LOADING, needed

OPTIONS = {
    **CHECKPOINT,
    **options(
        output=(str | None, Field(None, description="directory, new or empty; needed")),
        index=(bool, Field(False, description="add an HNSW index of the items; needs faiss")),
    ),
}

HELP = """\
Write what serves a model: vectors of users and items, their names, what each user knows, and a
model card.

recbole_hns.serving.Recommender reads it with NumPy and pyarrow only; so can a system of your own.
"""


def run(given: Given) -> None:
    """Write the directory."""
    values = needed(given, "checkpoint", "output")

    # PyTorch takes seconds to import
    from recbole_hns.recommendation.export import export

    print(export(**values))


COMMAND = Command(
    "export",
    run,
    "--checkpoint=F --output=DIR [--index]",
    HELP,
    {"Options": OPTIONS, "Reading the checkpoint": LOADING},
)
