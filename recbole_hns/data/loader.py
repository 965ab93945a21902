"""RecBole's evaluation data loaders without Python work for each user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from logging import getLogger
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader, abstract_dataloader
from recbole.data.dataloader import FullSortEvalDataLoader as RecBoleFullSortEvalDataLoader
from recbole.data.dataloader import NegSampleEvalDataLoader as RecBoleNegSampleEvalDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_hns.data.eval_sampler import EvalSampler
from recbole_hns.data.interactions import UsedItems, rows
from recbole_hns.data.sequences import Sequences

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset

#: Entries of a score matrix of users, or sequences, x items: 64 MiB.
MATRIX_BUDGET = 2**24
#: Pairs that a model predicts at once in sampled evaluation; with d = 64, 1 KiB is used for each.
PAIRS_BUDGET = 2**18
#: Sequences that a model encodes at once in evaluation.
SEQUENCES = 2**11


@contextmanager
def numbered() -> Iterator[None]:
    """Have RecBole's loaders number their rows without an object for each of them."""
    # what they call `list` with is a range
    with mock.patch.object(abstract_dataloader, "list", lambda rows: rows, create=True):
        yield


class FullSortEvalDataLoader(RecBoleFullSortEvalDataLoader):
    """Users with their positives and history, for full ranking.

    Batches are RecBole's, but for the order of items within a user, which is ascending.

    Args:
        config: the config.
        dataset: RecBole's data set of the phase, of a model that is not sequential.
        sampler: of the phase; an item it calls used that is no positive is history.
    """

    def __init__(self, config: Config, dataset: Dataset, sampler: EvalSampler) -> None:
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        user_num, item_num = dataset.user_num, dataset.item_num
        user, item = (dataset.inter_feat[f].numpy() for f in (self.uid_field, self.iid_field))
        self._positive = UsedItems(user, item, user_num, item_num)
        self.uid_list = torch.from_numpy(np.flatnonzero(self.uid2items_num))
        self.user_df = dataset.join(Interaction({self.uid_field: self.uid_list}))
        self.is_sequential = False
        self.sample_size = len(self.user_df)
        # RecBole's own constructor is what this one replaces
        AbstractDataLoader.__init__(self, config, dataset, sampler)

    @cached_property
    def uid2items_num(self) -> np.ndarray:
        """Number of positives of each user, ``[user_num]``, int64."""
        return np.diff(self._positive.offset)

    @cached_property
    def uid2positive_item(self) -> np.ndarray:
        """Positives of each user, ``[user_num]`` tensors of int64."""
        return _split(self._positive)

    @cached_property
    def uid2history_item(self) -> np.ndarray:
        """History of each user, ``[user_num]`` tensors of int64; RecBole's case study reads it."""
        every = torch.arange(len(self._positive))
        user, item = self._history_of(every, _rows(self._positive, every))
        num = self._dataset.item_num
        return _split(UsedItems(user.numpy(), item.numpy(), len(every), num))

    def collate_fn(
        self, index: list[int]
    ) -> tuple[Interaction, tuple[Tensor, Tensor], Tensor, Tensor]:
        """The users at ``index`` with row and item of each history item and each positive."""
        user_df = self.user_df[np.array(index)]
        positive = _rows(self._positive, user_df[self.uid_field])
        return user_df, self._history_of(user_df[self.uid_field], positive), *positive

    def _history_of(self, user: Tensor, positive: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Row and item of each used item of some users that is no positive."""
        used = _rows(self._sampler.used_ids, user)
        key, positive_key = (row * self._dataset.item_num + item for row, item in (used, positive))
        rest = torch.isin(key, positive_key, assume_unique=True, invert=True)
        return used[0][rest], used[1][rest]


class SequenceEvalDataLoader(RecBoleFullSortEvalDataLoader):
    """RecBole's loader of sequences with the item that follows each, for full ranking.

    A batch holds ``eval_batch_size`` sequences, as in RecBole; unless the user sets that, no more
    than have :data:`MATRIX_BUDGET` scores, and no more than :data:`SEQUENCES`. With
    ``repeatable: False``, which RecBole does not have for sequences, what comes before the item
    that follows is history, of files with lists as far as these go.
    """

    @property
    def uid_list(self) -> Tensor:
        """The user of each sequence, ``[n]``, int64."""
        return self._dataset.inter_feat[self.uid_field]

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        if getattr(self.config, "default_eval_batch_size", False):
            most = max(MATRIX_BUDGET // self._dataset.item_num, 1)
            self.step = min(self.config["eval_batch_size"], most, SEQUENCES)
            self.set_batch_size(self.step)

    def collate_fn(
        self, index: list[int]
    ) -> tuple[Interaction, tuple[Tensor, Tensor] | None, Tensor, Tensor]:
        """The sequences at ``index``, with row and item of their history and of what follows."""
        interaction, history, row, item = super().collate_fn(index)
        if not self.config["repeatable"]:
            feat = self._dataset.inter_feat
            if isinstance(feat, Sequences):
                known = feat.all_before(self.iid_field, torch.as_tensor(np.asarray(index)))
            else:
                lists = interaction[f"{self.iid_field}{self.config['LIST_SUFFIX']}"]
                known = lists.nonzero(as_tuple=True)[0], lists[lists > 0]
            # what follows may have come before
            other = known[1] != item[known[0]]
            history = known[0][other], known[1][other]
        return interaction, history, row, item


class NegSampleEvalDataLoader(RecBoleNegSampleEvalDataLoader):
    """Users with their positives and sampled negatives.

    Negatives are drawn for a whole batch at once. A batch holds ``eval_batch_size`` pairs, as in
    RecBole; unless the user sets that, no more than :data:`PAIRS_BUDGET`, and no more users than
    :data:`MATRIX_BUDGET` has rows.
    """

    @property
    def _sampled(self) -> bool:
        return self.times > 1

    def _init_batch_size_and_step(self) -> None:
        if not self._sampled:
            super()._init_batch_size_and_step()
            return
        limit, most_users = self.config["eval_batch_size"], len(self.uid2items_num)
        if getattr(self.config, "default_eval_batch_size", False):
            limit = min(limit, PAIRS_BUDGET)
            most_users = min(most_users, MATRIX_BUDGET // self._dataset.item_num)
        largest_first = -np.sort(-self.uid2items_num) * self.times
        pairs = np.cumsum(largest_first)
        users = int(np.searchsorted(pairs, limit, side="right"))
        self.step = max(min(users, most_users), 1)
        self.set_batch_size(int(pairs[self.step - 1]))

    def collate_fn(
        self, index: list[int]
    ) -> tuple[Interaction, Tensor | None, Tensor | None, Tensor | None]:
        """The pairs of the users at ``index``, positives first, with the row of each."""
        if not self._sampled:
            return super().collate_fn(index)
        user = torch.from_numpy(self.uid_list[np.array(index)])
        row, entry = rows(self._offset, torch.arange(len(self._dataset)), user)
        positives = self.transform(self._dataset, self._dataset[entry])
        pairs = self._neg_sampling(positives)
        return pairs, row.repeat(self.times), row, positives[self.iid_field]

    @cached_property
    def _offset(self) -> Tensor:
        """``[user_num + 1]``, int64: the interactions of a user, by whom they are sorted."""
        return torch.from_numpy(np.append(0, np.cumsum(self.uid2items_num)))


def _rows(items: UsedItems, user: Tensor) -> tuple[Tensor, Tensor]:
    return rows(torch.from_numpy(items.offset), torch.from_numpy(items.item), user)


def _split(items: UsedItems) -> np.ndarray:
    split = np.empty(len(items), dtype=object)
    for user, row in enumerate(np.split(items.item, items.offset[1:-1])):
        split[user] = torch.from_numpy(row)
    return split
