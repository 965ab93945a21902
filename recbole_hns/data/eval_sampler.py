"""RecBole's sampler of the negatives that evaluation ranks, drawn for a whole batch at once."""

from __future__ import annotations

import copy
from functools import cached_property

import numpy as np
import torch
from recbole.sampler import Sampler

from recbole_hns.data.interactions import UsedItems, pairs
from recbole_hns.data.pool import NegativePool


class EvalSampler(Sampler):
    """RecBole's ``Sampler`` over a :class:`~recbole_hns.data.pool.NegativePool` of each phase.

    It can stand wherever RecBole uses its own. Popularity counts the interactions up to and
    including the phase, so training never sees validation or test data.

    Args:
        phases: names of the phases, such as ``["train", "valid", "test"]``.
        datasets: RecBole's data set of each phase.
        distribution: ``uniform`` or ``popularity``; default ``uniform``.
        alpha: power of the popularity; None for its logarithm, log(1 + count). Default 1.
    """

    def get_used_ids(self) -> dict[str, UsedItems]:
        """Used items of every phase; a phase includes the ones before it."""
        return {phase: self._pool_of(phase).used for phase in self.phases}

    def _pool_of(self, phase: str) -> NegativePool:
        """What a phase draws from uniformly."""
        if phase not in self._uniform:
            known = [pairs(part) for part in self.datasets[: self.phases.index(phase) + 1]]
            user, item = map(np.concatenate, zip(*known, strict=True))
            used = UsedItems(user, item, self.user_num, self.item_num)
            popularity = np.bincount(item, minlength=self.item_num)
            self._uniform[phase] = NegativePool(used, popularity, self.datasets[0])
        return self._uniform[phase]

    def set_distribution(self, distribution: str) -> None:
        """Draw by another distribution from now on."""
        # RecBole's constructor calls this before it asks for the used items
        if "_uniform" not in self.__dict__:
            self._uniform: dict[str, NegativePool] = {}
        self._pools: dict[str, NegativePool] = {}
        self.distribution = distribution

    def with_distribution(self, distribution: str, alpha: float | None) -> EvalSampler:
        """A copy of this sampler that draws by another distribution."""
        sampler = copy.copy(self)
        sampler.alpha = alpha
        sampler.set_distribution(distribution)
        return sampler

    @property
    def pool(self) -> NegativePool:
        """What the phase draws from."""
        if self.phase not in self._pools:
            uniform = self._pool_of(self.phase)
            self._pools[self.phase] = uniform.with_distribution(self.distribution, self.alpha)
        return self._pools[self.phase]

    def sample_by_key_ids(self, key_ids: np.ndarray | list[int], num: int) -> torch.Tensor:
        """Draw in RecBole's layout: ``[num * batch]``, all users' first draws first."""
        user = torch.as_tensor(np.asarray(key_ids), dtype=torch.int64)
        if len(user) and not 0 <= int(user.min()) <= int(user.max()) < self.user_num:
            raise IndexError("user_id out of range")
        if (self.pool.tables("cpu").allowed[user] <= 0).any():
            self.pool.check()
        return self.pool.draw(user, num).t().reshape(-1)

    def _pop_sampling(self, sample_num: int) -> np.ndarray:
        mass = self.pool.tables("cpu").mass
        draw = (np.random.random(sample_num) * int(mass[-1])).astype(np.int64)
        return np.searchsorted(mass.numpy(), draw, side="right")


class RepeatableEvalSampler(EvalSampler):
    """RecBole's ``RepeatableSampler`` likewise, for users who come back to what they know.

    No item counts as used in evaluation: there is no history to mask, and all but the positive
    itself can be its negative. What training draws from is as ever.
    """

    def get_used_ids(self) -> dict[str, UsedItems]:
        """Used items of every phase: none."""
        none = np.empty(0, dtype=np.int64)
        return dict.fromkeys(self.phases, UsedItems(none, none, self.user_num, self.item_num))

    def set_distribution(self, distribution: str) -> None:
        """Draw by another distribution from now on."""
        super().set_distribution(distribution)
        self.__dict__.pop("_others", None)

    def sample_by_user_ids(
        self, user_ids: np.ndarray, item_ids: np.ndarray, num: int
    ) -> torch.Tensor:
        """Draw for each positive, in RecBole's layout: ``[num * batch]``."""
        item = torch.as_tensor(np.asarray(item_ids), dtype=torch.int64)
        if (self._others.tables("cpu").allowed[item] <= 0).any():
            raise ValueError("a positive is the only item that can be drawn")
        return self._others.draw(item, num).t().reshape(-1)

    @cached_property
    def _others(self) -> NegativePool:
        """A pool that draws for items instead of users, every one but the item itself."""
        every = np.arange(self.item_num)
        used = UsedItems(every, every, self.item_num, self.item_num)
        pool = NegativePool(used, self.pool.popularity, self.datasets[0])
        return pool.with_distribution(self.distribution, self.alpha)
