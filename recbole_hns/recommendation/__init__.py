"""What is done with a trained model: to load it, lists of items, other metrics, its export."""

from recbole_hns.recommendation.loading import (
    AXES,
    Trained,
    build_model,
    checkpoint_config,
    read_checkpoint,
    restore,
)
from recbole_hns.recommendation.result import RunResult, load

__all__ = [
    "AXES",
    "RunResult",
    "Trained",
    "build_model",
    "checkpoint_config",
    "load",
    "read_checkpoint",
    "restore",
]
