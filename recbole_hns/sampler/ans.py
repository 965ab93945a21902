"""ANS: augmented negative sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

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
    from recbole.model.abstract_recommender import GeneralRecommender

    from recbole_hns.sampler.layered import LossFunction

#: The margin is sigmoid(1 / x); x is not taken nearer to 0 than this, keeping its sign.
SMALLEST = 1e-6


@register_sampler("ans")
class ANS(LayeredSampler):
    """Candidates augmented in the part that is easy to tell from the positive (RecSys 2023).

    At every layer, with * elementwise and xi drawn from U(0, 1)^d for each candidate:

    - gate g_j = sigmoid((W_n e_j + b_n) * (W_u e_u + b_u)); hard part n_h = e_j * g_j, easy part
      n_e = e_j - n_h; the positive by the same gate, p_h = e_i * g_j, p_e = e_i - p_h;
    - margin m_j = sigmoid(1 / (w . (n_h * p_h) + b));
    - augmented candidate n'_j = e_j + c m_j sign(p_e - n_e) * xi / |xi|.

    The candidate of the largest <e_u, n'_j> + eps (<e_u, n'_j> - <e_u, e_j>) is chosen, and its
    n'_j is the negative of this layer, in the loss and in an L2 term. Three terms over all
    candidates are added, gamma (C1 + C2 + C3): C1, the mean over layers of
    log(1 + sum_j exp(<e_u, n_e> - <e_u, n_h>)); C2, the mean of |n_h - p_h + 1e-6|; C3, the mean
    over candidates of |p_e * n_e|, summed over layers. Sign and choice carry no gradient.

    All of this follows the authors' program, with logsumexp for C1; c is 1 there, and 0.1 in their
    version for RecBole. The paper's formulas were not compared. C2 and C3 pull embeddings together
    however small they are, so gamma has to be tuned: on ml-100k BPR ends near 0 everywhere with
    0.4, with three of five seeds still with 0.01, and trains with gamma = 0.001 and c = 0.1.
    """

    rows_per_pair = 24

    candidate_num: Annotated[int, Field(gt=0, le=10**6)] = Field(
        6, description="N, candidates per positive"
    )
    ans_gamma: float = Field(0.4, ge=0, description="gamma, weight of the gates' loss")
    ans_eps: float = Field(0.2, ge=0, description="eps, weight of the augmentation's gain")
    ans_c: float = Field(1.0, ge=0, description="c, length of the augmentation")

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make the gates."""
        dim = model.item_embedding.embedding_dim
        self.user_gate = nn.Linear(dim, dim)
        self.item_gate = nn.Linear(dim, dim)
        self.margin = nn.Linear(dim, 1)

    def batch_losses(
        self, part: Batch, encoded: EncodedLayers, pool: NegativePool, loss: LossFunction
    ) -> LayeredLosses:
        """Draw, choose and compute the loss."""
        layers = encoded.layers
        items = part.drawn(lambda rows: pool.draw(rows.user, self.candidate_num))
        user_e = layers.users(part.user)
        positive = layers.items(part.pos_item.unsqueeze(1))  # [H, batch, 1, dim]
        raw = layers.items(items)  # [H, batch, N, dim]
        gate = torch.sigmoid(self.item_gate(raw) * self.user_gate(user_e).unsqueeze(2))
        product, difference = positive * raw, positive - raw

        x = self.margin(product * gate.square()).squeeze(3)
        x = torch.where(x.abs() < SMALLEST, torch.full_like(x, SMALLEST).copysign(x), x)
        length = self.ans_c * torch.sigmoid(1 / x)
        with torch.no_grad():
            # p_e - n_e = (e_i - e_j) * (1 - g_j), where 1 - g_j > 0
            noise = part.drawn(lambda rows: self.noise(of_rows(raw, len(rows.user))), dim=1)
            direction = F.normalize(noise, dim=3) * difference.sign()
            gain = length * _scores(user_e, direction)
            index = (_scores(user_e, raw) + (1 + self.ans_eps) * gain).argmax(dim=2, keepdim=True)
        rows = index.unsqueeze(3).expand(-1, -1, -1, raw.shape[3])
        picked, direction, length = (
            tensor.gather(2, column).squeeze(2)
            for tensor, column in ((raw, rows), (direction, rows), (length, index))
        )
        negative = picked + length.unsqueeze(2) * direction

        query = mean_over_layers(user_e)
        pos = (query * mean_over_layers(positive.squeeze(2))).sum(dim=1, keepdim=True)
        neg = (query * mean_over_layers(negative)).sum(dim=1, keepdim=True)
        scores = Scores(pos, neg)
        value = self._loss_of(scores, part, loss)
        if self.ans_gamma:
            easier = _scores(user_e, raw - 2 * raw * gate)
            c1 = torch.logsumexp(F.pad(easier, (1, 0)), dim=2).mean(dim=0)
            apart = torch.linalg.vector_norm(1e-6 - difference * gate, dim=3)
            alike = torch.linalg.vector_norm(product * (1 - gate).square(), dim=3)
            terms = c1 + apart.mean(dim=(0, 2)) + alike.sum(dim=0).mean(dim=1)
            value = value + self.ans_gamma * terms.sum() / part.size
        return LayeredLosses(value, negative[0], scores)

    def noise(self, embeddings: Tensor) -> Tensor:
        """Draw xi, of the shape of ``embeddings``."""
        return torch.rand_like(embeddings)


def _scores(user_e: Tensor, embeddings: Tensor) -> Tensor:
    """Inner products of users, ``[H, batch, dim]``, with ``[H, batch, N, dim]``, layer by layer."""
    return (user_e.unsqueeze(2) * embeddings).sum(dim=3)
