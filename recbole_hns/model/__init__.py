"""RecBole's pairwise models, as the trainer sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.utils import InputType, ModelType

from recbole_hns.errors import UserError
from recbole_hns.model.base import PairwiseModel, is_pairwise_loss
from recbole_hns.model.inner_product import InnerProductModel
from recbole_hns.model.predicted import PredictedModel

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

__all__ = ["InnerProductModel", "PairwiseModel", "PredictedModel", "check_model", "pairwise_model"]

SUPPORTED = (
    "must be a general recommender trained pairwise with BPRLoss: BPR, LightGCN, NGCF, DGCF, SGL, "
    "NCL, SpectralCF, ConvNCF or one like them"
)


def check_model(model: type[AbstractRecommender]) -> None:
    """See, before any data is read, that a model class may be trained with hard negatives.

    Raises:
        UserError: if it is not a general recommender trained pairwise.
    """
    pairwise = getattr(model, "input_type", None) == InputType.PAIRWISE
    if not pairwise or model.type != ModelType.GENERAL or model.__name__ in NOT_WITH_BPR:
        raise UserError.of("model", model.__name__, SUPPORTED)


#: RecBole declares these pairwise too, but they have another loss or are auto-encoders.
NOT_WITH_BPR = ("GCMC", "LINE", "MacridVAE", "MultiDAE", "MultiVAE", "RaCT", "RecVAE", "SimpleX")


def pairwise_model(model: AbstractRecommender) -> PairwiseModel:
    """The trainer's view of a model.

    Raises:
        UserError: if the model is not trained with a BPR loss.
    """
    check_model(type(model))
    if InnerProductModel.knows(model):
        return InnerProductModel(model)
    if not any(is_pairwise_loss(module) for module in model.modules()):
        raise UserError.of("model", type(model).__name__, SUPPORTED)
    return PredictedModel(model)
