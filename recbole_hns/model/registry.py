"""Which adapter a RecBole model has, and which models and samplers go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recbole.utils import InputType, ModelType

from recbole_hns.component import Component
from recbole_hns.errors import UserError
from recbole_hns.model.base import ModelAdapter
from recbole_hns.model.bert4rec import BERT4RecAdapter
from recbole_hns.model.core import COREAdapter
from recbole_hns.model.fpmc import FPMCAdapter
from recbole_hns.model.lightgcn import LightGCNAdapter
from recbole_hns.model.mf import MFAdapter
from recbole_hns.model.ncl import NCLAdapter
from recbole_hns.model.predicted import PredictedAdapter
from recbole_hns.model.propagated import PropagatedAdapter
from recbole_hns.model.sequential import SequentialAdapter
from recbole_hns.model.sgl import SGLAdapter

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

#: The first that knows a model is its adapter; any other is scored by its ``predict``.
ADAPTERS: tuple[type[ModelAdapter], ...] = (
    MFAdapter,
    LightGCNAdapter,
    SGLAdapter,
    NCLAdapter,
    PropagatedAdapter,
    SequentialAdapter,
    FPMCAdapter,
    COREAdapter,
    BERT4RecAdapter,
)

#: The sequential models of RecBole's that are trained here.
SEQUENTIAL = tuple(
    model.__name__ for adapter in ADAPTERS if adapter.sequential for model in adapter.models
)

#: RecBole declares these pairwise too, but they have another loss or are auto-encoders.
NOT_WITH_BPR = ("GCMC", "LINE", "MacridVAE", "MultiDAE", "MultiVAE", "RaCT", "RecVAE", "SimpleX")

SUPPORTED = (
    "must be a general recommender trained pairwise with BPRLoss: BPR, LightGCN, NGCF, DGCF, SGL, "
    "NCL, SpectralCF, ConvNCF or one like them; or a sequential one that scores by a product with "
    f"item embeddings: {', '.join(SEQUENTIAL)}"
)


def check_model(model: type[AbstractRecommender]) -> None:
    """See, before any data is read, that a model class may be trained with hard negatives.

    Raises:
        UserError: if it is neither a general recommender trained pairwise nor a sequential one
            whose scores are known to be products.
    """
    if model.type == ModelType.SEQUENTIAL and adapter_class(model).sequential:
        return
    pairwise = getattr(model, "input_type", None) == InputType.PAIRWISE
    if not pairwise or model.type != ModelType.GENERAL or model.__name__ in NOT_WITH_BPR:
        raise UserError.of("model", model.__name__, SUPPORTED)


def adapter_class(model: type[AbstractRecommender]) -> type[ModelAdapter]:
    """The adapter of a model class."""
    return next((cls for cls in ADAPTERS if cls.knows(model)), PredictedAdapter)


def check_part(model: type[AbstractRecommender], part: Any) -> None:
    """See, before any data is read, that a model class gives what a sampler or a loss needs.

    Args:
        model: the model class.
        part: the class of the sampler or the loss. A sampler ``needs`` ``scores``, ``embeddings``
            or ``layers``; one with a ``start_epoch`` needs scores of users then.

    Raises:
        UserError: if it does not.
    """
    adapter, needs = adapter_class(model), getattr(part, "needs", "scores")
    renewed = part.start_epoch is not Component.start_epoch
    reason = None
    if needs == "layers" and not adapter.has_layers:
        reason = (
            "mixes the embeddings of every layer, which a model must have as BPR and LightGCN do"
        )
    elif adapter.sequential and renewed:
        reason = "scores users between two batches, of whom a sequential model has no query"
    elif needs == "embeddings" and not adapter.has_embeddings:
        reason = (
            "needs a model whose scores are inner products of embeddings, as most but ConvNCF's are"
        )
    if reason:
        raise UserError.of("model", model.__name__, f"{part.kind}={part.name} {reason}")


def make_adapter(model: AbstractRecommender, config: Mapping[str, Any]) -> ModelAdapter:
    """The adapter of a model.

    Args:
        model: the RecBole model.
        config: as :class:`~recbole_hns.model.base.ModelAdapter` takes it.

    Raises:
        UserError: if the model is not trained with a BPR loss.
    """
    check_model(type(model))
    cls = adapter_class(type(model))
    if cls is PredictedAdapter and not PredictedAdapter.trains(model):
        raise UserError.of("model", type(model).__name__, SUPPORTED)
    return cls(model, config)
