"""RecBole's pairwise models, as the trainer sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.utils import InputType, ModelType

from recbole_hns.errors import UserError
from recbole_hns.model.base import PairwiseModel, is_pairwise_loss
from recbole_hns.model.inner_product import InnerProductModel
from recbole_hns.model.layered import LayeredModel
from recbole_hns.model.predicted import PredictedModel

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_hns.sampler.base import HardNegativeSampler

__all__ = [
    "InnerProductModel",
    "LayeredModel",
    "PairwiseModel",
    "PredictedModel",
    "check_model",
    "check_sampler",
    "pairwise_model",
]

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


#: What a sampler may need beside scores, the view that gives it, and how to tell a user.
VIEWS = {
    "layers": (
        LayeredModel,
        "mixes the embeddings of every layer, which a model must have as BPR and LightGCN do",
    ),
    "embeddings": (
        InnerProductModel,
        "needs a model whose scores are inner products of embeddings, as most but ConvNCF's are",
    ),
}


def check_sampler(model: type[AbstractRecommender], sampler: type[HardNegativeSampler]) -> None:
    """See, before any data is read, that a model class gives what a sampler needs.

    Raises:
        UserError: if it does not.
    """
    if sampler.needs in VIEWS:
        view, reason = VIEWS[sampler.needs]
        if not view.knows(model):
            raise UserError.of("model", model.__name__, f"sampler={sampler.name} {reason}")


def pairwise_model(
    model: AbstractRecommender, sampler: type[HardNegativeSampler] | None = None
) -> PairwiseModel:
    """The trainer's view of a model.

    Args:
        model: the RecBole model.
        sampler: the sampler's class; default one that needs scores only.

    Raises:
        UserError: if the model is not trained with a BPR loss, or not for this sampler.
    """
    check_model(type(model))
    if sampler is not None:
        check_sampler(type(model), sampler)
        if sampler.needs == "layers":
            return LayeredModel(model)
    if InnerProductModel.knows(type(model)):
        return InnerProductModel(model)
    if not any(is_pairwise_loss(module) for module in model.modules()):
        raise UserError.of("model", type(model).__name__, SUPPORTED)
    return PredictedModel(model)
