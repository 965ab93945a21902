"""Hard negative sampling for RecBole."""

from typing import Any

from recbole_hns import compat

compat.mend()

from recbole_hns import evaluation  # noqa: E402

evaluation.register()

from recbole_hns.batch import Batch, Candidates, Negatives, Scores, Selection  # noqa: E402
from recbole_hns.errors import UserError  # noqa: E402
from recbole_hns.loss import Loss, register_loss  # noqa: E402
from recbole_hns.quick_start import load_data_and_model, run  # noqa: E402
from recbole_hns.recommendation import RunResult, load  # noqa: E402
from recbole_hns.sampler import HardNegativeSampler, register_sampler  # noqa: E402

__all__ = [
    "Batch",
    "Candidates",
    "HardNegativeSampler",
    "Loss",
    "Negatives",
    "RunResult",
    "Scores",
    "Selection",
    "UserError",
    "load",
    "load_data_and_model",
    "register_loss",
    "register_sampler",
    "run",
    "tune",
]


def __getattr__(name: str) -> Any:
    # Ray takes a second to import, which only sweeps should
    if name == "tune":
        from recbole_hns.tuning import tune

        return tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
