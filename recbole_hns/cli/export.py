"""``recbole-hns export``: what serves a model without this package's training stack."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from recbole_hns.cli.options import option_help, options, parse, typed
from recbole_hns.cli.recommend import LOADING, given_only
from recbole_hns.recommendation.export import export

OPTIONS = {
    **options(
        checkpoint=(str, Field("", description="of the model; needed")),
        output=(str, Field("", description="directory, new or empty; needed")),
        index=(bool, Field(False, description="add an HNSW index of the items; needs faiss")),
    ),
    **LOADING,
}

USAGE = """\
usage: recbole-hns export --checkpoint=F --output=DIR [--index]

Write the vectors of users and items, their names, what each user knows, and a model card, for
recbole_hns.serving.Recommender, which needs NumPy and pyarrow only, or for a system of your own.

Options, with their defaults and what is allowed:

"""


def main(arguments: Sequence[str]) -> int:
    """Write the directory; returns the exit status."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE + option_help(OPTIONS))
        return 0
    values = typed(parse(arguments, flags=("index",)), OPTIONS)
    print(export(**given_only(values, "checkpoint", "output")))
    return 0
