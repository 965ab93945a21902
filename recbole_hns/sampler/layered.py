"""The base class of samplers that choose at every layer and learn from embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.data import NegativePool
from recbole_hns.ops.tables import Layers
from recbole_hns.sampler.base import HardNegativeSampler

if TYPE_CHECKING:
    from collections.abc import Callable

    #: The configured loss: a scalar from scores, negatives and part.
    LossFunction = Callable[[Scores, Negatives, Batch], Tensor]


class EncodedLayers(Protocol):
    """A batch that is encoded at every layer.

    Attributes:
        layers: embeddings of all users and items at each of H layers.
    """

    @property
    def layers(self) -> Layers: ...


def of_rows(values: Tensor, num: int) -> Tensor:
    """What random numbers for ``num`` rows are drawn like: ``values``, ``[H, B, ...]``, if B is it.

    Of other numbers of rows it has the shape and type alone.
    """
    layer_num, rows, *shape = values.shape
    return values if rows == num else values.new_empty(layer_num, num, *shape)


class LayeredLosses(NamedTuple):
    """What a part of a batch is learned from.

    Attributes:
        loss: what the part adds to the mean loss of the batch, a scalar.
        negatives: what entered the loss as the negative at layer 0, ``[B, dim]``, which an L2 term
            sees.
        scores: of positives and negatives, ``[B, 1]`` each, for the hardness.
    """

    loss: Tensor
    negatives: Tensor
    scores: Scores


class LayeredSampler(HardNegativeSampler):
    """Chooses a negative at every layer of BPR (one layer) or LightGCN, and may change it.

    Notation: e_u^h, e_i^h, e_j^h are the embeddings of a user, positive and candidate at layer h of
    H; mean is the mean over layers, so that r_uj = <mean(e_u), mean(e_j)>. A subclass defines
    :meth:`batch_losses` in place of :meth:`select`.
    """

    needs: ClassVar[Literal["scores", "embeddings", "layers"]] = "layers"
    can_share: ClassVar[bool] = False

    def batch_losses(
        self, part: Batch, encoded: EncodedLayers, pool: NegativePool, loss: LossFunction
    ) -> LayeredLosses:
        """Draw, choose and compute the loss. Runs with gradient.

        Args:
            part: users and positives.
            encoded: the model's embeddings.
            pool: what candidates are drawn from.
            loss: the configured loss of the resulting scores.
        """
        raise NotImplementedError

    def _loss_of(self, scores: Scores, part: Batch, loss: LossFunction) -> Tensor:
        """The configured loss of one negative a row, which may be no item."""
        detached = Scores(*(each.detach() for each in scores))
        return loss(scores, Negatives(None, detached, None, None), part)


def mean_over_layers(layers: Tensor) -> Tensor:
    """Mean over layers, the first dimension."""
    # a gradient of the sum is not copied for each layer
    return layers.sum(dim=0) / len(layers)
