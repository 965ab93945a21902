"""SSM: the sampled softmax loss (Wu et al., TOIS 2024)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from recbole_hns.data.candidates import CandidateSampler
from recbole_hns.errors import UserError
from recbole_hns.model import InnerProductModel, PairwiseModel
from recbole_hns.sampler.base import Count, HardNegativeSampler, Negatives, register_sampler


@register_sampler("ssm")
class SSM(HardNegativeSampler):
    """All N candidates by -log(exp(s_ui/tau) / (exp(s_ui/tau) + sum_j exp(s_uj/tau))).

    In training, s is the model's score, or with ``ssm_similarity: cosine`` the cosine of user and
    item embedding; what is evaluated is the model's score. By ``ssm_negatives``, the candidates are

    - ``uniform``: N for each positive, none of the user's own items;
    - ``popularity``: N drawn once a batch for all of its rows, with probability proportional to
      popularity^candidate_alpha; the users' own items are not left out;
    - ``in_batch``: the positives of the other rows, a user's own items and equal items included; N
      has no part. A batch of one row has no negative and no loss.

    With one uniform candidate and tau = 1 it is BPR. The three sources and the cosine, which is the
    default there, are those of the authors' program; the inner product with tau = 1 and uniform
    candidates is most likely what the AHNS paper compares with. A model's L2 term takes the mean of
    the candidates' squared norms, in-batch ones included, where the program leaves these out. The
    program has no correction for popularity, and there is none here.
    """

    candidate_num: Count = Field(32, description="N, candidates per positive, or per batch")
    candidate_distribution: Literal["uniform", "popularity"] = Field(
        "uniform", description="follows ssm_negatives"
    )
    candidate_alpha: float = Field(1.0, ge=0, description="power of the popularity")
    ssm_tau: float = Field(1.0, gt=0, description="tau, the temperature")
    ssm_similarity: Literal["inner", "cosine"] = Field("inner", description="s of the loss")
    ssm_negatives: Literal["uniform", "popularity", "in_batch"] = Field(
        "uniform", description="where the candidates come from"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.ssm_negatives == "popularity":
            self.candidate_distribution = "popularity"
        elif self.candidate_distribution == "popularity":
            allowed = "follows ssm_negatives; set ssm_negatives=popularity instead"
            raise UserError.of("candidate_distribution", "popularity", allowed)

    def attach(self, model: PairwiseModel) -> None:
        """Have the scores be cosines if they are to be.

        Raises:
            UserError: if that needs embeddings and the model gives none.
        """
        super().attach(model)
        if self.ssm_similarity == "cosine":
            if not isinstance(model, InnerProductModel):
                name = type(model.model).__name__
                reason = f"needs a model that scores by an inner product; {name} does not"
                raise UserError.of("ssm_similarity", "cosine", reason)
            model.cosine = True

    def start_batch(self, user: Tensor, pos_item: Tensor) -> None:
        """Note what all parts of the batch share."""
        in_batch = self.ssm_negatives == "in_batch"
        self._shared = pos_item.unsqueeze(0) if in_batch else None

    def scored_num(self, item_num: int) -> int:
        """N, or the rows of the batch."""
        return self.candidate_num if self._shared is None else self._shared.shape[1]

    def draw(self, candidates: CandidateSampler, user: Tensor) -> Tensor:
        """Draw N for each user, or take what the batch shares."""
        if self.ssm_negatives == "uniform":
            return candidates.draw(user, self.candidate_num)
        if self._shared is None:
            self._shared = candidates.draw_shared(self.candidate_num, user.device).unsqueeze(0)
        return self._shared

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Take all candidates."""
        return Negatives(index=None)

    def loss(self, pos_scores: Tensor, scores: Tensor, weight: Tensor | None) -> Tensor:
        """The sampled softmax loss of each positive; ``weight`` has no part."""
        total = torch.logsumexp((scores - pos_scores) / self.ssm_tau, dim=1)
        # in a batch, a row's own positive is among the candidates
        return total if self.ssm_negatives == "in_batch" else F.softplus(total)
