"""Lists of the items with the highest scores, a part of the users at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from torch import Tensor
from tqdm import tqdm

from recbole_hns.data.interactions import UsedItems, pairs, rows
from recbole_hns.data.loader import SEQUENCES
from recbole_hns.errors import UserError
from recbole_hns.evaluation.top_items import ITEMS, USERS, highest_of_blocks, score_blocks
from recbole_hns.model import make_adapter
from recbole_hns.model.cosine import CosineTables
from recbole_hns.model.embeddings import SMALLEST_NORM, EmbeddingAdapter
from recbole_hns.model.predicted import PredictedAdapter
from recbole_hns.model.sequential import SequentialAdapter
from recbole_hns.ops import devices, threads
from recbole_hns.ops.unit_rows import unit_rows

if TYPE_CHECKING:
    from recbole_hns.recommendation.loading import Trained

Ids = NDArray[np.int64]

#: Scores in memory where they are not computed in blocks of items.
SCORES = 2**24

#: Entries of the lists that are handed on at a time.
ENTRIES = 2**20


class Ranked(NamedTuple):
    """Some users' lists, one after the other.

    Attributes:
        of: whose list an entry is in, a user or an item, ``[n]``.
        item: ``[n]``.
        rank: from 1, ``[n]``, int32.
        score: ``[n]``, falling within a list.
    """

    of: Ids
    item: Ids
    rank: NDArray[np.int32]
    score: NDArray[np.floating]


class Lists:
    """What a model ranks highest, by internal ids, of which 0 is nobody.

    Args:
        trained: the model and its data.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained, self._config = trained, trained.config
        self._dataset: Any = trained.dataset
        self._train = trained.train_data._dataset
        self._model: Any = trained.model
        self._adapter: Any = make_adapter(trained.model, trained.config)
        self.user_num, self.item_num = self._dataset.user_num, self._dataset.item_num

    @cached_property
    def vectors(self) -> tuple[Tensor, Tensor] | None:
        """Users' and items' vectors, whose inner products are the scores; None if there are none.

        ``[user_num, dim]`` and ``[item_num, dim]``; for cosines they are of length 1. A sequential
        model's vector of a user is the query that it makes of the user's last interactions.

        Raises:
            UserError: if they are not all finite.
        """
        adapter = self._adapter
        if not isinstance(adapter, (EmbeddingAdapter, SequentialAdapter)):
            return None
        self._model.eval()
        with torch.no_grad():
            cosine = self._config["eval_similarity"] == "cosine"
            if isinstance(adapter, SequentialAdapter):
                users, items = self._queries(adapter), adapter.item_table()
                if cosine:
                    users, items = (unit_rows(each, SMALLEST_NORM) for each in (users, items))
            else:
                users, items = CosineTables(adapter).get() if cosine else adapter.tables()
        if not (users.isfinite().all() and items.isfinite().all()):
            raise UserError("checkpoint: the model's vectors are not all finite numbers")
        return users.detach(), items.detach()

    def _queries(self, adapter: SequentialAdapter) -> Tensor:
        """What a sequential model makes of each user's last interactions, ``[user_num, dim]``."""
        loader, device = self._trained.train_data, self._config["device"]
        found = []
        for users in torch.arange(self.user_num).split(SEQUENCES):
            interaction = loader.transform(self._dataset, self._dataset.latest(users))
            found.append(adapter.queries(interaction.to(device)))
        return torch.cat(found)

    @cached_property
    def known(self) -> UsedItems:
        """The items that each user has interacted with, in whatever part of the data."""
        user, item = map(np.asarray, pairs(self._dataset))
        return UsedItems(user, item, self.user_num, self.item_num)

    def untrained(self, users: Ids | None = None) -> int:
        """How many of the users, default all, have no interaction in the training part."""
        trained = np.zeros(self.user_num, dtype=bool)
        trained[pairs(self._train)[0]] = True
        return int(np.count_nonzero(~(trained[1:] if users is None else trained[users])))

    def of_users(
        self, users: Ids, k: int, keep_known: bool = False, show_progress: bool = False
    ) -> Iterator[Ranked]:
        """The items with the highest scores for each user, parts of the users at a time.

        Items of equal score are in the order of their ids; on a GPU in any.

        Args:
            users: ``[n]``.
            k: length of a list; shorter where fewer items are left.
            keep_known: whether :attr:`known` items may be in a list.
            show_progress: whether to show a progress bar.

        Raises:
            UserError: if there are not ``k`` items.
        """
        self._check(k, self.item_num - 1)
        if keep_known:
            offset, known = np.zeros(self.user_num + 1, np.int64), np.empty(0, np.int64)
        else:
            offset, known = self.known.offset, self.known.item
        if self.vectors is not None:
            best = _Best(offset, known, self.vectors[0], self.vectors[1])
        else:
            best = _Best(offset, known, item_num=self.item_num, scores=self._predicted)
        return best.lists(users, k, show_progress)

    def similar(self, items: Ids, k: int) -> Iterator[Ranked]:
        """The items whose vectors have the highest cosines with each of ``items``, less itself.

        Raises:
            UserError: if there are not ``k`` others, or the model has no vectors.
        """
        if self.vectors is None:
            name = self._config["model"]
            raise UserError.of("model", name, "has no vectors of items that could be similar")
        self._check(k, self.item_num - 2)
        table = F.normalize(self.vectors[1], dim=1, eps=SMALLEST_NORM)
        every = np.arange(self.item_num)
        return _Best(np.append(every, self.item_num), every, table, table).lists(items, k, False)

    def _check(self, k: Any, most: int) -> None:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= most:
            allowed = f"must be an integer >= 1 and <= {most}, the number of items"
            raise UserError.of("topk", k, allowed)

    @torch.no_grad()
    def _predicted(self, users: Tensor) -> Tensor:
        """Scores of all items, ``[n, item_num]``, of a model without vectors."""
        model = self._model
        model.eval()
        users = users.to(self._config["device"])
        interaction = self._dataset.join(Interaction({self._dataset.uid_field: users.cpu()}))
        try:
            scores = model.full_sort_predict(interaction.to(users.device))
        except NotImplementedError:
            assert isinstance(self._adapter, PredictedAdapter)
            every = torch.arange(self.item_num, device=users.device)
            scores = self._adapter.predict(users, every.expand(len(users), -1))
        scores = scores.view(len(users), self.item_num)
        if scores.isnan().any():
            raise UserError("checkpoint: the model's scores are not all numbers")
        return scores


class _Best:
    """The best items of each row, less the known ones.

    Args:
        offset: ``[row_num + 1]``; the known items of row ``r`` are
            ``known[offset[r]:offset[r + 1]]``, ascending.
        known: see there.
        queries: whose inner products with ``items`` are the scores, ``[row_num, dim]``.
        items: ``[item_num, dim]``.
        item_num: number of items, where there are no vectors of them.
        scores: gives the scores of all items for rows in place of vectors.
    """

    def __init__(
        self,
        offset: Ids,
        known: Ids,
        queries: Tensor | None = None,
        items: Tensor | None = None,
        item_num: int = 0,
        scores: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._offset, self._known = offset, known
        self._queries, self._items, self._scores = queries, items, scores
        self._item_num = item_num if items is None else len(items)

    def lists(self, ids: Ids, k: int, show_progress: bool) -> Iterator[Ranked]:
        """The lists of these rows, of not many more than :data:`ENTRIES` entries at a time."""
        at_once = max(1, ENTRIES // k)
        bar = tqdm(total=len(ids), unit="list", desc="Recommend", disable=not show_progress)
        with bar:
            for start in range(0, len(ids), at_once):
                part = ids[start : start + at_once]
                blocks = []
                step = self._rows_at_once()
                for first in range(0, len(part), step):
                    block = part[first : first + step]
                    blocks.append(self._best(block, k))
                    bar.update(len(block))
                score, item = map(np.concatenate, zip(*blocks, strict=True))
                # a user who knows nearly everything has fewer
                row, place = np.nonzero(item > 0)
                rank = (place + 1).astype(np.int32)
                yield Ranked(part[row], item[row, place], rank, score[row, place])

    def _rows_at_once(self) -> int:
        blocks = self._items is not None and devices.by_kernel(self._items)
        if blocks:
            return threads.number() * max(1, USERS * ITEMS // min(self._item_num, ITEMS))
        return max(1, SCORES // self._item_num)

    def _best(self, ids: Ids, k: int) -> tuple[NDArray[np.floating], Ids]:
        """Scores and items of the best, ``[len(ids), k]``; item 0 where there is none."""
        if self._items is not None and self._queries is not None:
            index = torch.from_numpy(ids).to(self._queries.device)
            queries = self._queries.index_select(0, index)
            if devices.by_kernel(queries):
                blocks = score_blocks(queries, self._items)
                return highest_of_blocks(blocks, ids, self._offset, self._known, k)
            scores = queries @ self._items.t()
        else:
            assert self._scores is not None
            scores = self._scores(torch.from_numpy(ids))
            if devices.by_kernel(scores):
                all_at_once = [(1, scores[:, 1:])]
                return highest_of_blocks(all_at_once, ids, self._offset, self._known, k)
        return self._by_topk(ids, scores, k)

    def _by_topk(self, ids: Ids, scores: Tensor, k: int) -> tuple[NDArray[np.floating], Ids]:
        row, item = rows(
            torch.from_numpy(self._offset), torch.from_numpy(self._known), torch.from_numpy(ids)
        )
        scores[:, 0] = -torch.inf
        scores[row.to(scores.device), item.to(scores.device)] = -torch.inf
        best = scores.topk(k, dim=1)
        found = best.indices.masked_fill(best.values == -torch.inf, 0)
        return best.values.float().cpu().numpy(), found.cpu().numpy()
