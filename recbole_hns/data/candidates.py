"""Candidate negatives: drawn for a whole batch at once, never one of the user's own items."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recbole.sampler import Sampler
from torch import Tensor

from recbole_hns import kernels

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

#: Bits of the mask for each interaction, where a bit for each pair of user and item would be more;
#: so few of them are set that few draws have to be looked at twice.
BITS_PER_INTERACTION = 32


class UsedItems:
    """The items each user has interacted with, as sorted rows of a CSR matrix.

    Memory is proportional to the interactions. Indexing with a user gives a Python set, made when
    asked for, because RecBole's own evaluation data loaders expect one.

    Attributes:
        offset: ``[user_num + 1]``, int64; the items of user ``u`` are
            ``item[offset[u]:offset[u + 1]]``.
        item: ``[nnz]``, int64, ascending and without repeats within a user.
        pair: ``[nnz]``, int64, ascending: ``user * item_num + item``.
    """

    def __init__(self, user: np.ndarray, item: np.ndarray, user_num: int, item_num: int) -> None:
        self.pair = np.unique(user.astype(np.int64) * item_num + item)
        self.item = self.pair % item_num
        self.offset = np.zeros(user_num + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.pair // item_num, minlength=user_num), out=self.offset[1:])

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, user: int | None) -> set[int]:
        if user is None:  # RecBole's loader asks for the user before the first
            return set()
        return set(self.item[self.offset[user] : self.offset[user + 1]].tolist())

    def __iter__(self) -> Iterator[set[int]]:
        return (self[user] for user in range(len(self)))

    @cached_property
    def user(self) -> np.ndarray:
        """``[nnz]``, int64: the user of each entry of :attr:`item`."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset))


def rows(offset: Tensor, item: Tensor, user: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a CSR matrix, one after the other.

    Args:
        offset: ``[user_num + 1]``, int64; row ``u`` is ``item[offset[u]:offset[u + 1]]``.
        item: ``[nnz]``.
        user: which rows, ``[batch]``, int64.

    Returns:
        For every entry of these rows, its row's place in ``user``, int64, and its ``item``.
    """
    start = offset[user]
    count = offset[user + 1] - start
    row = torch.repeat_interleave(torch.arange(len(user), device=user.device), count)
    first = torch.cumsum(count, 0) - count
    entry = torch.arange(len(row), device=user.device) + (start - first)[row]
    return row, item[entry]


class CandidateSampler(Sampler):
    """RecBole's ``Sampler`` with draws for a whole batch and without per-user sets.

    It can stand wherever RecBole uses its own; :meth:`draw` is what training with hard negatives
    calls. A draw is exact in one pass, with no rejection loop. Give every item the integer mass 1
    (``uniform``) or its popularity to the power ``alpha``, scaled and rounded to an integer
    (``popularity``). A uniform position in a user's allowed mass is moved up by the mass of that
    user's items below it, which a search in sorted keys finds. On the CPU, draws go a shorter way:
    draw from all items, and redraw by that search only those that hit one of the user's items, as
    a bit mask tells. Both give each allowed item the same probability.

    Popularity counts the interactions up to and including the phase, so training never sees
    validation or test data; an item without any is never drawn by ``popularity``.

    Args:
        phases: names of the phases, such as ``["train", "valid", "test"]``.
        datasets: RecBole's data set of each phase.
        distribution: ``uniform`` or ``popularity``; default ``uniform``.
        alpha: power of the popularity; None for its logarithm, log(1 + count). Default 1.
    """

    def get_used_ids(self) -> dict[str, UsedItems]:
        """Used items of every phase; a phase includes the ones before it."""
        used, user, item = {}, [], []
        for phase, dataset in zip(self.phases, self.datasets, strict=True):
            user.append(dataset.inter_feat[self.uid_field].numpy())
            item.append(dataset.inter_feat[self.iid_field].numpy())
            used[phase] = UsedItems(
                np.concatenate(user), np.concatenate(item), self.user_num, self.item_num
            )
        self._popularity = {
            phase: np.bincount(np.concatenate(item[: k + 1]), minlength=self.item_num)
            for k, phase in enumerate(self.phases)
        }
        return used

    def set_distribution(self, distribution: str) -> None:
        """Draw by another distribution from now on."""
        if distribution not in ("uniform", "popularity"):
            raise NotImplementedError(
                f"The sampling distribution [{distribution}] is not implemented."
            )
        self.distribution = distribution
        self._tables: dict[torch.device, _Tables] = {}

    def set_phase(self, phase: str) -> CandidateSampler:
        """The sampler of one phase, as RecBole's ``set_phase``."""
        sampler = super().set_phase(phase)
        sampler._tables = {}
        return sampler

    def with_distribution(self, distribution: str, alpha: float | None) -> CandidateSampler:
        """A copy of this sampler that draws by another distribution."""
        if distribution == self.distribution and (distribution == "uniform" or alpha == self.alpha):
            return self
        sampler = copy.copy(self)
        sampler.alpha = alpha
        sampler.set_distribution(distribution)
        return sampler

    @classmethod
    def of(cls, dataset: Dataset) -> CandidateSampler:
        """The training sampler of one data set."""
        return cls(["train"], [dataset]).set_phase("train")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}}

    def tables(self, device: torch.device | str) -> _Tables:
        """What draws on ``device`` look up, built at the first use."""
        device = torch.device(device)
        if device not in self._tables:
            self._tables[device] = _Tables(self, device)
        return self._tables[device]

    def check(self) -> None:
        """See that every user of this phase has an item left to draw.

        Raises:
            ValueError: naming a user who has none.
        """
        allowed = self.tables("cpu").allowed.numpy()
        users = np.unique(self.used_ids.user)
        stuck = users[allowed[users] <= 0]
        if len(stuck):
            token = self.datasets[0].id2token(self.uid_field, int(stuck[0]))
            raise ValueError(
                f"user {token} (one of {len(stuck)}) has interacted with every item that can be "
                f"drawn, which leaves no negative: filter such users, "
                f"e.g. with user_inter_num_interval"
            )

    def draw(self, user: torch.Tensor, num: int) -> torch.Tensor:
        """Draw candidate negatives, independently and with replacement.

        Args:
            user: user ids, ``[batch]``, int64; the draw happens on their device.
            num: candidates per user.

        Returns:
            Item ids, ``[batch, num]``, int64: never 0 (the padding id), never a used item.
        """
        return self.tables(user.device).draw(user, num)

    def draw_shared(self, num: int, device: torch.device) -> torch.Tensor:
        """Draw items of the whole catalogue, independently and with replacement.

        Args:
            num: how many.
            device: where.

        Returns:
            Item ids, ``[num]``, int64: never 0; no user's items are left out.
        """
        return self.tables(device).draw_shared(num)

    def log_mass(self, item: torch.Tensor) -> torch.Tensor:
        """Logarithm of what each item's probability of being drawn is proportional to.

        A user's used items are drawn never, which changes the probability of each of the others
        by the same factor.

        Args:
            item: item ids, any shape, int64, each with a probability above 0.

        Returns:
            The shape of ``item``, float32.
        """
        return self.tables(item.device).log_mass[item]

    def negative_num(self, user: torch.Tensor) -> torch.Tensor:
        """Number of items that each user has not interacted with, ``[batch]``, int64."""
        offset = self.tables(user.device).offset
        return self.item_num - 1 - (offset[user + 1] - offset[user])

    def is_used(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Which items the users have interacted with.

        Args:
            user: int64.
            item: int64, of a shape that fits that of ``user``.

        Returns:
            The common shape, bool.
        """
        pair = self.tables(user.device).pair
        wanted = user * self.item_num + item
        entry = torch.searchsorted(pair, wanted).clamp_(max=len(pair) - 1)
        return pair[entry] == wanted

    def exclude(self, user: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Set the scores of the padding id and of each user's used items to minus infinity.

        Args:
            user: user ids, ``[batch]``, int64.
            scores: ``[batch, item_num]``, changed in place.

        Returns:
            ``scores``.
        """
        tables = self.tables(user.device)
        row, item = rows(tables.offset, tables.item, user)
        scores[row, item] = -torch.inf
        scores[:, 0] = -torch.inf
        return scores

    def sample_by_key_ids(self, key_ids: np.ndarray | list[int], num: int) -> torch.Tensor:
        """As :meth:`draw`, in RecBole's layout: ``[num * batch]``, all users' first draws first."""
        user = torch.as_tensor(np.asarray(key_ids), dtype=torch.int64)
        if len(user) and not 0 <= int(user.min()) <= int(user.max()) < self.user_num:
            raise IndexError("user_id out of range")
        if (self.tables("cpu").allowed[user] <= 0).any():
            self.check()
        return self.draw(user, num).t().reshape(-1)

    def _pop_sampling(self, sample_num: int) -> np.ndarray:
        mass = self.tables("cpu").mass
        draw = (np.random.random(sample_num) * int(mass[-1])).astype(np.int64)
        return np.searchsorted(mass.numpy(), draw, side="right")


class _Tables:
    """The look-up tables of one phase, distribution and device.

    With the users' items sorted by id, ``key`` holds for each of them ``user * total`` plus the
    allowed mass below it, so keys ascend over the whole array and one search serves all users.
    """

    def __init__(self, sampler: CandidateSampler, device: torch.device) -> None:
        used: UsedItems = sampler.used_ids
        self.item_num = sampler.item_num
        self.uniform = sampler.distribution == "uniform"
        weight = self._weights(sampler)
        mass = np.cumsum(weight)
        self.total = int(mass[-1])

        item_weight = weight[used.item]
        below = np.zeros(len(used.item) + 1, dtype=np.int64)
        # Sums over all users can pass 2**63; what is read are differences within one user, and
        # those are exact modulo 2**64.
        np.cumsum(item_weight, out=below[1:])
        within = below[:-1] - below[used.offset[used.user]]
        key = used.user * self.total + (mass[used.item] - item_weight - within)
        allowed = self.total - (below[used.offset[1:]] - below[used.offset[:-1]])

        def put(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        self.offset, self.item = put(used.offset), put(used.item)
        self.key, self.below = put(key), put(below)
        self.mass, self.allowed = put(mass), put(allowed)
        self._used = used

    @staticmethod
    def _weights(sampler: CandidateSampler) -> np.ndarray:
        """Integer mass of each item, ``[item_num]``, int64; the padding id has none."""
        if sampler.distribution == "uniform":
            weight = np.ones(sampler.item_num, dtype=np.int64)
        else:
            count = sampler._popularity[sampler.phase].copy()
            count[0] = 0
            # of the most popular item's, which no power can overflow
            share = count / max(count.max(), 1)
            share = np.log1p(count) if sampler.alpha is None else share**sampler.alpha
            share = np.where(count > 0, share, 0.0)
            # user * total has to fit 63 bits, and a float64 draw resolves 53.
            bits = min(62 - int(sampler.user_num).bit_length(), 53)
            scale = (2.0**bits - sampler.item_num) / max(share.sum(), 1.0)
            weight = np.where(count > 0, np.maximum(np.rint(share * scale), 1), 0).astype(np.int64)
        weight[0] = 0
        return weight

    @cached_property
    def pair(self) -> torch.Tensor:
        """``user * item_num + item`` of the interactions, ``[nnz]``, int64, ascending."""
        return torch.from_numpy(self._used.pair).to(self.item.device)

    @cached_property
    def log_mass(self) -> torch.Tensor:
        """Logarithm of each item's mass, ``[item_num]``, float32."""
        return self.mass.diff(prepend=self.mass[:1]).double().log().float()

    def draw_shared(self, num: int) -> torch.Tensor:
        uniform = torch.rand(num, dtype=torch.float64, device=self.mass.device)
        item = self.guide[(uniform * len(self.guide)).long()]
        # the few whose stretch several items share
        place = (item < 0).nonzero().squeeze(1)
        item[place] = self._at(uniform[place])
        return item

    def _at(self, share: torch.Tensor) -> torch.Tensor:
        """The item at each share of the total mass, ``share`` being in [0, 1]."""
        # a product just below the total may round up to it
        position = (share * self.total).long().clamp_(max=self.total - 1)
        return torch.searchsorted(self.mass, position, right=True)

    @cached_property
    def guide(self) -> torch.Tensor:
        """The item that equal stretches of the mass lie in, int64; -1 where that is several.

        With many more stretches than items it answers nearly all searches at once.
        """
        # a power of two, of which every fraction is a float
        size = 2 ** min((16 * self.item_num).bit_length(), 22)
        bound = torch.arange(size + 1, dtype=torch.float64, device=self.mass.device) / size
        item = self._at(bound)
        return torch.where(item[:-1] == item[1:], item[:-1], -1)

    @cached_property
    def mask(self) -> UsedMask | None:
        """Only for draws on the CPU: elsewhere to wait for the hits costs more."""
        return UsedMask(self._used, self.item_num) if self.key.is_cpu else None

    def draw(self, user: torch.Tensor, num: int) -> torch.Tensor:
        if self.mask is None:
            return self._search(user.unsqueeze(1).expand(-1, num))
        if self.uniform:
            return self.mask.draw(user, num)
        item = self.draw_shared(len(user) * num).view(len(user), num)
        hit = self.mask.hits(user, item)
        if len(hit):
            item.view(-1)[hit] = self._search(user[hit // num])
        return item

    def _search(self, user: torch.Tensor) -> torch.Tensor:
        allowed = self.allowed[user]
        position = (
            torch.rand(user.shape, dtype=torch.float64, device=user.device) * allowed
        ).long()
        # A product just below `allowed` may round up to it.
        position = torch.minimum(position, allowed - 1)
        entry = torch.searchsorted(self.key, user * self.total + position, right=True)
        position += self.below[entry] - self.below[self.offset[user]]
        if self.uniform:
            return position + 1
        return torch.searchsorted(self.mass, position, right=True)


class UsedMask:
    """Tells which pairs of a user and an item are interactions, by one look at a bit for most.

    The number of a pair, ``user * item_num + item``, is its bit's where that takes no more than
    :data:`BITS_PER_INTERACTION`. Otherwise the number is hashed to as many bits, and the few pairs
    whose bit is set are looked up among the user's items.

    Args:
        used: the interactions.
        item_num: number of items.
    """

    def __init__(self, used: UsedItems, item_num: int) -> None:
        size, most = len(used) * item_num, BITS_PER_INTERACTION * len(used.pair)
        shift = np.uint64(0)
        if size > most:
            bits = max(3, most.bit_length() - 1)
            shift, size = np.uint64(64 - bits), 2**bits
        mask = np.zeros(-(-size // 8), dtype=np.uint8)
        kernels.set_bits(mask, used.pair, shift)
        self._arrays = mask, shift, used.offset, used.item, item_num

    def draw(self, user: torch.Tensor, num: int) -> torch.Tensor:
        """Draw uniformly from the items that are no interactions, ``[batch, num]``, int64."""
        items = torch.empty(len(user), num, dtype=torch.int64)
        seed = int(torch.randint(2**63 - 1, ()))
        kernels.draw_unused(*self._arrays, user.numpy(), seed, items.numpy())
        return items

    def hits(self, user: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Which pairs are interactions.

        Args:
            user: ``[batch]``, int64.
            items: ``[batch, num]``, int64.

        Returns:
            Their places in the flattened ``items``, int64.
        """
        found = torch.empty(items.numel(), dtype=torch.int64)
        num = kernels.find_used(*self._arrays, user.numpy(), items.numpy(), found.numpy())
        return found[:num]
