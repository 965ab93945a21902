"""RecBole's models trained pairwise, one adapter a kind of model."""

from recbole_hns.compat import anomaly_detection_kept

with anomaly_detection_kept():
    import recbole.model.sequential_recommender  # noqa: F401

from recbole_hns.model.base import Losses, ModelAdapter
from recbole_hns.model.cosine import predict_by_cosine
from recbole_hns.model.registry import adapter_class, check_model, check_part, make_adapter

__all__ = [
    "Losses",
    "ModelAdapter",
    "adapter_class",
    "check_model",
    "check_part",
    "make_adapter",
    "predict_by_cosine",
]
