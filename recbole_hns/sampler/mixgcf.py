"""MixGCF: hard negatives by positive mixing and hop mixing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recbole_hns.batch import Batch, Scores
from recbole_hns.data import NegativePool
from recbole_hns.sampler.layered import (
    EncodedLayers,
    LayeredLosses,
    LayeredSampler,
    mean_over_layers,
    of_rows,
)
from recbole_hns.sampler.registry import register_sampler

if TYPE_CHECKING:
    from recbole_hns.sampler.layered import LossFunction


@register_sampler("mixgcf")
class MixGCF(LayeredSampler):
    """At every layer the hardest of N candidates, mixed with the positive (Huang et al., KDD 2021).

    For each positive and layer h, a_h is drawn from U[0, 1). Candidate j there is the mixture
    m_j^h = a_h e_i^h + (1 - a_h) e_j^h, and j_h = argmax_j <mean(e_u), m_j^h> is chosen, which is
    the argmax of <mean(e_u), e_j^h>, a_h being the same for all candidates. The negative is the
    mean over layers of m_{j_h}^h, and may combine layers of different items. An L2 term
    sees the mixture of layer 0. a_h and j_h carry no gradient.

    With one layer (BPR) this is DNS whose margin is shrunk: l((1 - a) (r_ui - r_uj)).

    The rule is that of the authors' program. The hardness logged is that of the chosen candidates,
    not of the mixtures, which is a + (1 - a) times it.
    """

    def batch_losses(
        self, part: Batch, encoded: EncodedLayers, pool: NegativePool, loss: LossFunction
    ) -> LayeredLosses:
        """Draw, choose and compute the loss."""
        layers, user = encoded.layers, part.user
        user_e = mean_over_layers(layers.users(user))
        with torch.no_grad():
            items, num = None, self.candidate_num
            if num != "all":
                items = part.drawn(lambda rows: pool.draw(rows.user, num))
            scores = layers.scores(user_e, items)
            if items is None:
                scores = torch.stack([pool.exclude(user, layer) for layer in scores])
            index = scores.argmax(dim=2, keepdim=True)
            hardest = scores.gather(2, index).mean(dim=0)
            picked = index.squeeze(2)
            if items is not None:
                picked = items.gather(1, picked.t()).t()
        # scores are linear, so that only layer 0, which an L2 term sees, has to be mixed
        pairs = layers.pairs(part.pos_item, picked)
        positive, negative = (pairs * user_e).sum(dim=3).unbind(dim=1)  # [H, batch]
        weight = part.drawn(
            lambda rows: self.mixing_weights(of_rows(positive, len(rows.user))), dim=1
        )
        mixture = torch.lerp(pairs[0, 1], pairs[0, 0], weight[0].unsqueeze(1))
        pos = mean_over_layers(positive).unsqueeze(1)
        neg = mean_over_layers(negative.lerp(positive, weight)).unsqueeze(1)
        value = self._loss_of(Scores(pos, neg), part, loss)
        return LayeredLosses(value, mixture, Scores(pos, hardest))

    def mixing_weights(self, scores: Tensor) -> Tensor:
        """Draw a_h, the positive's weight in each mixture, of the shape of ``scores``."""
        return torch.rand_like(scores)
