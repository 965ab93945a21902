"""SSM: the sampled softmax loss (Wu et al., TOIS 2024)."""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.data import NegativePool
from recbole_hns.errors import UserError
from recbole_hns.sampler.base import Count, HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler


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

    can_share = True
    takes_all = True
    default_loss = "softmax"

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

    def loss_parameters(self) -> dict[str, Any]:
        """tau, and whether the positive is in the sum beside the candidates."""
        # in a batch, a row's own positive is among the candidates
        return {
            "loss_tau": self.ssm_tau,
            "softmax_positive": self.ssm_negatives != "in_batch",
        }

    def shared_items(self, batch: Batch, pool: NegativePool) -> Tensor | None:
        """The items of ``ssm_negatives``; for ``uniform``, by ``candidate_sharing``."""
        if self.ssm_negatives == "in_batch":
            return batch.pos_item.unsqueeze(0)
        if self.ssm_negatives == "popularity":
            return pool.draw_shared(self.candidate_num, batch.user.device).unsqueeze(0)
        return super().shared_items(batch, pool)

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """Draw N for each user, or take what the batch shares, a user's own items included."""
        if self.ssm_negatives != "uniform":
            return Candidates(part.shared)
        return super().propose(part, encoded, pool)

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Take all candidates."""
        return Selection()

    def scored_num(self, item_num: int, batch_size: int) -> int:
        """N, or the rows of the batch."""
        in_batch = self.ssm_negatives == "in_batch"
        return batch_size if in_batch else super().scored_num(item_num, batch_size)
