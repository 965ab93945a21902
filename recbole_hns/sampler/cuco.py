"""CuCo as the AHNS paper compares with it: DNS with fewer candidates from epoch to epoch."""

import math
from typing import Literal

from pydantic import Field

from recbole_hns.sampler.base import Count
from recbole_hns.sampler.dns import DNS
from recbole_hns.sampler.registry import register_sampler


@register_sampler("cuco")
class CuCo(DNS):
    """The highest-scored of N_t candidates, N_t changing with the epoch t = 0, 1, ...

    From hard to easy, N_t = max(1, floor(N (1 - t/T)^power)): DNS(1, N) at first and RNS at the
    end of the T epochs, and after them. From easy to hard, N_t = max(1, floor(N ((t + 1)/T)^power))
    up to N.

    This is the rule of the AHNS authors' program (``cns``), whose paper calls it an
    anti-curriculum; power and the other direction are this package's generalisation. CuCo itself
    (Chu et al., IJCAI 2021, graph-level contrastive learning) goes from easy to hard: its program
    sorts the negatives by similarity and draws several from a growing prefix, which is not what the
    comparison ran.
    """

    candidate_num: Count = Field(32, description="N, the most candidates per positive")
    candidate_distribution: Literal["uniform", "popularity"] = Field(
        "uniform", description="distribution that candidates are drawn from"
    )
    cuco_epochs: Count = Field(100, description="T, epochs of the schedule")
    cuco_direction: Literal["hard_to_easy", "easy_to_hard"] = Field(
        "hard_to_easy", description="from N candidates to 1, or from few to N"
    )
    cuco_power: float = Field(1.0, gt=0, description="power of the schedule; 1 is linear")

    @property
    def num_drawn(self) -> int:
        """N_t of the epoch under way."""
        if self.cuco_direction == "hard_to_easy":
            fraction = max(self.cuco_epochs - self.epoch, 0) / self.cuco_epochs
        else:
            fraction = min(self.epoch + 1, self.cuco_epochs) / self.cuco_epochs
        # what rounding leaves just below a whole number is that number
        return max(1, math.floor(self.candidate_num * fraction**self.cuco_power + 1e-9))
