"""Hard negative sampling for RecBole.

Names are imported when they are first used: PyTorch and RecBole take seconds, which a command that
needs neither should not wait for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_hns.batch import Batch, Candidates, Negatives, Scores, Selection
    from recbole_hns.errors import UserError
    from recbole_hns.loss import Loss, register_loss
    from recbole_hns.quick_start import load_data_and_model, run
    from recbole_hns.recommendation import RunResult, load
    from recbole_hns.sampler import HardNegativeSampler, register_sampler
    from recbole_hns.tuning import tune

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

#: The module of each name, as the imports above say to type checkers.
_MODULES = {
    **dict.fromkeys(("Batch", "Candidates", "Negatives", "Scores", "Selection"), "batch"),
    "UserError": "errors",
    **dict.fromkeys(("Loss", "register_loss"), "loss"),
    **dict.fromkeys(("load_data_and_model", "run"), "quick_start"),
    **dict.fromkeys(("RunResult", "load"), "recommendation"),
    **dict.fromkeys(("HardNegativeSampler", "register_sampler"), "sampler"),
    "tune": "tuning",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
