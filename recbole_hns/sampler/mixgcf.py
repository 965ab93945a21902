"""MixGCF: hard negatives by positive mixing and hop mixing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recbole_hns.sampler.base import register_sampler
from recbole_hns.sampler.layered import LayeredSampler, Learnt, pool

if TYPE_CHECKING:
    from recbole_hns.data.candidates import CandidateSampler
    from recbole_hns.model.layered import Layers


@register_sampler("mixgcf")
class MixGCF(LayeredSampler):
    """At every layer the hardest of N candidates, mixed with the positive (Huang et al., KDD 2021).

    For each positive and layer h, a_h is drawn from U[0, 1). Candidate j there is the mixture
    m_j^h = a_h e_i^h + (1 - a_h) e_j^h, and j_h = argmax_j <pool(e_u), m_j^h> is chosen, which is
    the argmax of <pool(e_u), e_j^h>, a_h being the same for all candidates. The negative is the
    mean over layers of m_{j_h}^h, and may combine layers of different items; the loss is BPR's. An
    L2 term sees the mixture of layer 0. a_h and j_h carry no gradient.

    With one layer (BPR) this is DNS whose margin is shrunk: l((1 - a) (r_ui - r_uj)).

    The rule is that of the authors' program. The hardness logged is that of the chosen candidates,
    not of the mixtures, which is a + (1 - a) times it.
    """

    def learn(
        self, layers: Layers, user: Tensor, pos_item: Tensor, candidates: CandidateSampler
    ) -> Learnt:
        """As the base class says."""
        user_e = pool(layers.users(user))
        with torch.no_grad():
            items = self.draw(candidates, user)
            scores = layers.scores(user_e, items)
            if items is None:
                scores = torch.stack([candidates.exclude(user, layer) for layer in scores])
            index = scores.argmax(dim=2, keepdim=True)
            hardest = scores.gather(2, index).mean(dim=0)
            picked = index.squeeze(2)
            if items is not None:
                picked = items.gather(1, picked.t()).t()
        # scores are linear, so that only layer 0, which an L2 term sees, has to be mixed
        pairs = layers.pairs(pos_item, picked)
        positive, negative = (pairs * user_e).sum(dim=3).unbind(dim=1)  # [H, batch]
        share = self.shares(positive)
        mixture = torch.lerp(pairs[0, 1], pairs[0, 0], share[0].unsqueeze(1))
        pos_scores = pool(positive).unsqueeze(1)
        losses = self.loss(pos_scores, pool(negative.lerp(positive, share)).unsqueeze(1), None)
        return Learnt(losses, mixture, pos_scores, hardest)

    def shares(self, scores: Tensor) -> Tensor:
        """Draw a_h, the positives' share in each mixture, of the shape of ``scores``."""
        return torch.rand_like(scores)
