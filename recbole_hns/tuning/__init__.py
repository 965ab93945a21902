"""Many runs on Ray Tune: searches and sweeps over hyperparameters, and samplers over seeds.

``space`` says which points a sweep has, ``joint`` and ``suggest`` those of a search; ``trial`` is
the run at one of them, ``trials`` has Ray do all. ``sweep``, ``search`` and ``comparison`` are the
jobs; ``report``, ``statistics`` and ``comparison_page`` what they leave.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_hns.tuning.sweep import tune

__all__ = ["tune"]

#: The samplers that are compared unless others are named, and how many seeds.
SAMPLERS = "rns,dns,dns_mn,softmax_v,ahns"
SEEDS = 5


def __getattr__(name: str) -> Any:
    # what a command's help needs of this package is there without PyTorch, which takes seconds
    if name != "tune":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recbole_hns.tuning.sweep import tune

    return tune
