"""The base class of samplers that choose at every layer and learn from embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from recbole_hns.sampler.base import HardNegativeSampler

if TYPE_CHECKING:
    from recbole_hns.data.candidates import CandidateSampler
    from recbole_hns.model.layered import Layers


class Learnt(NamedTuple):
    """What a batch is learnt from.

    Attributes:
        losses: loss of each positive, ``[batch]``.
        negatives: what entered the loss as the negative at layer 0, ``[batch, dim]``, which an L2
            term sees.
        pos_scores: scores of the positives, ``[batch]``, for the hardness.
        scores: scores of the negatives, ``[batch]``, for the hardness.
    """

    losses: Tensor
    negatives: Tensor
    pos_scores: Tensor
    scores: Tensor


class LayeredSampler(HardNegativeSampler):
    """Chooses a negative at every layer of BPR (one layer) or LightGCN, and may change it.

    Notation: e_u^h, e_i^h, e_j^h are the embeddings of a user, positive and candidate at layer h of
    H; pool is the mean over layers, so that r_uj = <pool(e_u), pool(e_j)>. A subclass defines
    :meth:`learn` in place of :meth:`select`.
    """

    needs = "layers"

    def learn(
        self, layers: Layers, user: Tensor, pos_item: Tensor, candidates: CandidateSampler
    ) -> Learnt:
        """Draw, choose and compute the loss. Runs with gradient.

        Args:
            layers: the model's embeddings.
            user: ``[batch]``, int64.
            pos_item: ``[batch]``, int64.
            candidates: what :meth:`draw` draws from.
        """
        raise NotImplementedError


def pool(layers: Tensor) -> Tensor:
    """Mean over layers, the first dimension."""
    # a gradient of the sum is not copied for each layer
    return layers.sum(dim=0) / len(layers)
