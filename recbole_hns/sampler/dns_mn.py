"""DNS(M,N) of the HNS paper (WWW 2023), Algorithm 1."""

from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Scores, Selection
from recbole_hns.errors import UserError
from recbole_hns.ops.highest import highest
from recbole_hns.sampler.base import CandidateNum, HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler


@register_sampler("dns_mn")
class DNSMN(HardNegativeSampler):
    """The M highest-scored of N candidates (HNS paper, Algorithm 1).

    With ``dns_mode: mean`` each of them has weight 1/M; with ``draw`` one of them, taken at
    random, is the negative, the form in which the AHNS paper used it as a baseline. By Theorem 1
    it optimises OPAUC(beta) at beta = M/N, so ``opauc_beta`` sets M = beta N, rounded. With
    ``candidate_num: all`` or ``candidate_distribution: in_batch``, N is each row's number of
    negatives, and so M is each row's own. Where candidates are shared and fewer than M of them
    are negatives of a row, all of these are used.

    Raises:
        UserError: if M > N, or if ``opauc_beta`` < 1/N.
    """

    hardness_key = "dns_m"

    candidate_num: CandidateNum = Field(
        200, description="N, candidates per positive; all = every negative, exactly"
    )
    dns_m: PositiveInt = Field(40, description="M, the highest-scored candidates that are used")
    dns_mode: Literal["mean", "draw"] = Field(
        "mean", description="weight the M by 1/M, or draw one of them"
    )
    opauc_beta: float | None = Field(
        None, gt=0, le=1, description="hardness M/N; sets dns_m in its place"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        num, beta = self.candidate_num, self.opauc_beta
        if self.candidate_distribution == "in_batch":
            num = "all"  # of the batch, whatever candidate_num is
        self._num_varies = num == "all"
        if beta is not None:
            if num != "all":
                if beta * num < 1:
                    raise UserError.of(
                        "opauc_beta", beta, f"must be >= 1/candidate_num = {1 / num}"
                    )
                self.dns_m = round(beta * num)
        elif num != "all" and self.dns_m > num:
            default = self.hyperparameters["dns_m"].default
            allowed = f"must be <= candidate_num={num}; it is {default} unless set"
            raise UserError.of("dns_m", self.dns_m, allowed)

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Choose the M highest-scored candidates, or one of them at random."""
        neg, excludes = scores.neg, candidates.excluded is not None
        if not excludes:
            columns = highest(neg, self.dns_m)
            return Selection(
                _one_of(columns, self.dns_m, part) if self.dns_mode == "draw" else columns
            )
        if self.dns_mode == "mean" and not self._num_varies:
            # where fewer than M are negatives, the others among these M are excluded
            return Selection(highest(neg, self.dns_m))
        num = (neg > -torch.inf).sum(dim=1)
        if self._num_varies and self.opauc_beta is not None:
            m = torch.round(self.opauc_beta * num).long()
        else:
            m = num.clamp(max=self.dns_m)
        m = m.clamp(min=1)
        columns = highest(neg, m)
        m = m.unsqueeze(1)
        if self.dns_mode == "draw":
            return Selection(_one_of(columns, m, part))
        inside = torch.arange(columns.shape[1], device=neg.device) < m
        return Selection(columns, weight=inside.to(neg.dtype) / m)


def _one_of(columns: Tensor, m: int | Tensor, part: Batch) -> Tensor:
    """One of the first m columns of each row, at random."""
    uniform = part.drawn(lambda rows: torch.rand(len(rows.user), 1, device=columns.device))
    pick = (uniform * m).long()
    # a product just below m may round up to it
    return columns.gather(1, pick.clamp(max=m - 1))
