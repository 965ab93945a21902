"""The pool of negatives: candidates drawn for a whole batch, never one of a user's own items."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recbole_hns.data.interactions import UsedItems, pairs, rows
from recbole_hns.ops import devices, kernels, threads

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

#: Bits of the mask for each interaction, where a bit for each pair of user and item would be more;
#: so few of them are set that few draws have to be looked at twice.
BITS_PER_INTERACTION = 32

#: Rows that draw from one sequence where there are several threads.
ROWS_PER_DRAW = 256


class NegativePool:
    """Every item but a user's own, to draw from for a whole batch.

    A draw is exact in one pass, with no rejection loop. Give every item the integer mass 1
    (``uniform``) or its popularity to the power ``alpha``, scaled and rounded to an integer
    (``popularity``). A uniform position in a user's allowed mass is moved up by the mass of that
    user's items below it, which a search in sorted keys finds. On the CPU, draws go a shorter way:
    draw from all items, and redraw by that search only those that hit one of the user's items, as
    a bit mask shows. Both give each allowed item the same probability.

    An item without any interaction is never drawn by ``popularity``.

    Args:
        used: the items that each user has interacted with.
        popularity: number of interactions of each item, ``[item_num]``, int64.
        dataset: RecBole's data set, for the names of users in messages.

    Attributes:
        distribution: ``uniform`` (default) or ``popularity``.
        alpha: power of the popularity; None for its logarithm, log(1 + count). Default 1.
        user_num: number of users, the padding id among them.
        item_num: number of items, likewise.
    """

    def __init__(self, used: UsedItems, popularity: np.ndarray, dataset: Dataset) -> None:
        self.used, self.popularity = used, popularity
        self.user_num, self.item_num = len(used), len(popularity)
        self.distribution: str = "uniform"
        self.alpha: float | None = 1.0
        self._dataset = dataset
        self._tables: dict[torch.device, _Tables] = {}

    @classmethod
    def of(cls, dataset: Dataset) -> NegativePool:
        """The pool of one data set."""
        user, item = pairs(dataset)
        used = UsedItems(user, item, dataset.user_num, dataset.item_num)
        return cls(used, np.bincount(item, minlength=dataset.item_num), dataset)

    def with_distribution(self, distribution: str, alpha: float | None) -> NegativePool:
        """A copy that draws by another distribution.

        Args:
            distribution: ``uniform``, ``popularity``, or ``in_batch``, which does not draw.
            alpha: power of the popularity; None for its logarithm.

        Raises:
            NotImplementedError: for any other distribution.
        """
        if distribution == "in_batch":
            distribution = "uniform"
        if distribution not in ("uniform", "popularity"):
            raise NotImplementedError(
                f"The sampling distribution [{distribution}] is not implemented."
            )
        if distribution == self.distribution and (distribution == "uniform" or alpha == self.alpha):
            return self
        pool = copy.copy(self)
        pool.distribution, pool.alpha, pool._tables = distribution, alpha, {}
        return pool

    def of_items(self) -> NegativePool:
        """A copy that numbers rows by an item, and leaves out that item alone."""
        every = np.arange(self.item_num)
        return self._with_used(UsedItems(every, every, self.item_num, self.item_num))

    def of_rows(self, items: Tensor) -> NegativePool:
        """A copy that numbers the rows of a batch, and leaves out what each of them lists.

        Args:
            items: item ids, ``[B, L]``, int64; 0 is none, and repeats are allowed.
        """
        listed = items.cpu().numpy()
        row, column = listed.nonzero()
        return self._with_used(UsedItems(row, listed[row, column], len(listed), self.item_num))

    def _with_used(self, used: UsedItems) -> NegativePool:
        pool = copy.copy(self)
        pool.used, pool.user_num, pool._tables = used, len(used), {}
        return pool

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
        users = np.unique(self.used.user)
        stuck = users[allowed[users] <= 0]
        if len(stuck):
            token = self._dataset.id2token(self._dataset.uid_field, int(stuck[0]))
            raise ValueError(
                f"user {token} (one of {len(stuck)}) has interacted with every item that can be "
                f"drawn, which leaves no negative: filter such users, "
                f"e.g. with user_inter_num_interval"
            )

    def draw(self, user: Tensor, num: int) -> Tensor:
        """Draw candidate negatives, independently and with replacement.

        Args:
            user: user ids, ``[batch]``, int64; the draw happens on their device.
            num: candidates per user.

        Returns:
            Item ids, ``[batch, num]``, int64: never 0 (the padding id), never a used item.
        """
        return self.tables(user.device).draw(user, num)

    def draw_shared(self, num: int, device: torch.device) -> Tensor:
        """Draw items of the whole catalogue, independently and with replacement.

        Args:
            num: how many.
            device: where.

        Returns:
            Item ids, ``[num]``, int64: never 0; no user's items are left out.
        """
        return self.tables(device).draw_shared(num)

    def log_mass(self, item: Tensor) -> Tensor:
        """Logarithm of what each item's probability of being drawn is proportional to.

        A user's used items are drawn never, which changes the probability of each of the others
        by the same factor.

        Args:
            item: item ids, any shape, int64, each with a probability above 0.

        Returns:
            The shape of ``item``, float32.
        """
        return self.tables(item.device).log_mass[item]

    def log_popularity(self, item: Tensor) -> Tensor:
        """Logarithm of each item's number of interactions, float32, in the shape of ``item``."""
        return self.tables(item.device).log_popularity[item]

    def negative_num(self, user: Tensor) -> Tensor:
        """Number of items that each user has not interacted with, ``[batch]``, int64."""
        offset = self.tables(user.device).offset
        return self.item_num - 1 - (offset[user + 1] - offset[user])

    def is_used(self, user: Tensor, item: Tensor) -> Tensor:
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

    def exclude(self, user: Tensor, scores: Tensor) -> Tensor:
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

    def own_items(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """Every item that is no negative of its row: the user's own, and the padding id.

        Args:
            user: ``[B]``, int64.

        Returns:
            Row and item of each, two int64 tensors of one length.
        """
        tables = self.tables(user.device)
        row, item = rows(tables.offset, tables.item, user)
        every = torch.arange(len(user), device=user.device)
        return torch.cat([row, every]), torch.cat([item, torch.zeros_like(every)])

    def own_columns(self, user: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Where shared items are no negatives of a row.

        Args:
            user: ``[B]``, int64.
            items: the items that all rows share, ``[1, N]`` or ``[N]``, int64; repeats are
                allowed.

        Returns:
            Row and column of each, two int64 tensors of one length.
        """
        items = items.reshape(-1)
        if devices.on_cpu(items):
            return self._find_shared(user, items)
        # a search for each pair, which another device has many of at once
        rows, columns = [], []
        size = max(1, devices.pairs_at_once(items) // len(items))
        for start, users in zip(range(0, len(user), size), user.split(size), strict=True):
            own = self.is_used(users.unsqueeze(1), items) | (items == 0)
            row, column = own.nonzero().t().contiguous()
            rows.append(row + start if start else row)
            columns.append(column)
        return (rows[0], columns[0]) if len(rows) == 1 else (torch.cat(rows), torch.cat(columns))

    def _find_shared(self, user: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`own_columns`, by a loop over the users of each item.

        These are fewer than the items of each user, as most items that are drawn are seldom used.
        """
        offset, users = self.used.by_item
        item = items.numpy()
        # that many are found where no user has several rows
        size = int((offset[item + 1] - offset[item]).sum())
        last = np.full(self.user_num, -1)
        before = np.empty(len(user), np.int64)
        while True:
            row, column = torch.empty(2, size, dtype=torch.int64).unbind()
            arrays = user.numpy(), item, last, before, row.numpy(), column.numpy()
            num = kernels.find_shared(offset, users, *arrays)
            if num <= size:
                return row[:num], column[:num]
            size = num


class _Tables:
    """The look-up tables of one phase, distribution and device.

    With the users' items sorted by id, ``key`` holds for each of them ``user * total`` plus the
    allowed mass below it, so keys ascend over the whole array and one search serves all users.
    """

    def __init__(self, pool: NegativePool, device: torch.device) -> None:
        used = pool.used
        self.item_num = pool.item_num
        self.uniform = pool.distribution == "uniform"
        weight = self._weights(pool)
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

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.offset, self.item = put(used.offset), put(used.item)
        self.key, self.below = put(key), put(below)
        self.mass, self.allowed = put(mass), put(allowed)
        self._used, self._popularity = used, pool.popularity

    @staticmethod
    def _weights(pool: NegativePool) -> np.ndarray:
        """Integer mass of each item, ``[item_num]``, int64; the padding id has none."""
        if pool.distribution == "uniform":
            weight = np.ones(pool.item_num, dtype=np.int64)
        else:
            count = pool.popularity.copy()
            count[0] = 0
            # of the most popular item's, which no power can overflow
            fraction = count / max(count.max(), 1)
            fraction = np.log1p(count) if pool.alpha is None else fraction**pool.alpha
            fraction = np.where(count > 0, fraction, 0.0)
            # user * total has to fit 63 bits, and a float64 draw resolves 53.
            bits = min(62 - int(pool.user_num).bit_length(), 53)
            scale = (2.0**bits - pool.item_num) / max(fraction.sum(), 1.0)
            weight = np.where(count > 0, np.maximum(np.rint(fraction * scale), 1), 0).astype(
                np.int64
            )
        weight[0] = 0
        return weight

    @cached_property
    def pair(self) -> Tensor:
        """``user * item_num + item`` of the interactions, ``[nnz]``, int64, ascending."""
        return torch.from_numpy(self._used.pair).to(self.item.device)

    @cached_property
    def log_mass(self) -> Tensor:
        """Logarithm of each item's mass, ``[item_num]``, float32."""
        return self.mass.diff(prepend=self.mass[:1]).double().log().float()

    @cached_property
    def log_popularity(self) -> Tensor:
        """Logarithm of each item's number of interactions, ``[item_num]``, float32."""
        return torch.from_numpy(self._popularity).to(self.item.device).log()

    def draw_shared(self, num: int) -> Tensor:
        uniform = torch.rand(num, dtype=torch.float64, device=self.mass.device)
        if self.uniform:
            return self._at(uniform)
        item = self.guide[(uniform * len(self.guide)).long()]
        # the few whose stretch several items lie in
        several = (item < 0).nonzero().squeeze(1)
        item[several] = self._at(uniform[several])
        return item

    def _at(self, fraction: Tensor) -> Tensor:
        """The item at each fraction of the total mass, which is in [0, 1]."""
        # a product just below the total may round up to it
        position = (fraction * self.total).long().clamp_(max=self.total - 1)
        if self.uniform:
            return position + 1
        return torch.searchsorted(self.mass, position, right=True)

    @cached_property
    def guide(self) -> Tensor:
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
        return UsedMask(self._used, self.item_num) if devices.on_cpu(self.key) else None

    def draw(self, user: Tensor, num: int) -> Tensor:
        if self.mask is None:
            return self._search(user.unsqueeze(1).expand(-1, num))
        if self.uniform:
            return self.mask.draw(user, num)
        item = self.draw_shared(len(user) * num).view(len(user), num)
        hit = self.mask.hits(user, item)
        if len(hit):
            item.view(-1)[hit] = self._search(user[hit // num])
        return item

    def _search(self, user: Tensor) -> Tensor:
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
    """Knows which pairs of a user and an item are interactions, by one look at a bit for most.

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

    def draw(self, user: Tensor, num: int) -> Tensor:
        """Draw uniformly from the items that are no interactions, ``[batch, num]``, int64.

        On several threads, however many, the numbers are others than on one.
        """
        items = torch.empty(len(user), num, dtype=torch.int64)
        seed = int(torch.randint(2**63 - 1, ()))
        size = ROWS_PER_DRAW if threads.number() > 1 else max(len(user), 1)

        def draw(part: int) -> None:
            rows = slice(part * size, (part + 1) * size)
            # no draw takes more than two numbers
            skip = 2 * num * rows.start
            kernels.draw_unused(*self._arrays, user[rows].numpy(), items[rows].numpy(), seed, skip)

        threads.run(draw, -(-len(user) // size))
        return items

    def hits(self, user: Tensor, items: Tensor) -> Tensor:
        """Which pairs are interactions.

        Args:
            user: ``[batch]``, int64.
            items: ``[batch, num]``, int64.

        Returns:
            Their indices in the flattened ``items``, int64.
        """
        parts = threads.parts(len(user))
        size = -(-len(user) // parts)
        hits: list[Any] = [None] * parts

        def find(part: int) -> None:
            rows = slice(part * size, (part + 1) * size)
            drawn = items[rows]
            found = torch.empty(drawn.numel(), dtype=torch.int64)
            arrays = user[rows].numpy(), drawn.numpy(), found.numpy()
            num = kernels.find_used(*self._arrays, *arrays)
            hits[part] = found[:num] + rows.start * items.shape[1]

        threads.run(find, parts)
        return torch.cat(hits)
