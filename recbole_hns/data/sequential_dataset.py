"""RecBole's data set of sequential models, its augmentation by index."""

from __future__ import annotations

from collections import Counter
from logging import getLogger
from typing import TYPE_CHECKING

import numpy as np
import torch
from recbole.data.dataset import Dataset as RecBoleDataset
from recbole.data.dataset import SequentialDataset as RecBoleSequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_hns.data.dataset import AS_READ, Dataset
from recbole_hns.data.interactions import stable_order
from recbole_hns.data.sequences import Names, Sequences, Table, targets_field
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class SequentialDataset(Dataset, RecBoleSequentialDataset):
    """RecBole's ``SequentialDataset``, which loses nothing and copies nothing.

    Interactions are ordered by the times that the file has, those of one time as the file has
    them. Batches are RecBole's, made by :class:`~recbole_hns.data.sequences.Sequences`.

    RecBole reads a ready split only where its files have the lists. Here the files of a ready split
    may have interactions with times instead: a list has what came before it, of the row's own part
    and those before.
    """

    def _benchmark_presets(self) -> None:
        if self._reads_lists:
            super()._benchmark_presets()

    @property
    def _item_list_field(self) -> str:
        return f"{self.iid_field}{self.config['LIST_SUFFIX']}"

    @property
    def _reads_lists(self) -> bool:
        """Whether the files have lists; they are then read as RecBole reads them."""
        return self.benchmark_filename_list is not None and self._item_list_field in self.inter_feat

    def _fill_nan(self) -> None:
        if self.benchmark_filename_list is not None and not self._reads_lists:
            empty = int(self.inter_feat[self.time_field].isnull().sum())
            if empty:
                reason = f"{empty} rows have no {self.time_field}, which a sequential model needs"
                raise ValueError(reason)
        super()._fill_nan()

    def _remove_duplication(self) -> None:
        """As RecBole's, which leaves interactions of the same time in any order."""
        keep = self.config["rm_dup_inter"]
        if keep is not None:
            ordered = self.inter_feat.sort_values(self.time_field, kind="stable")
            ordered = ordered.drop_duplicates([self.uid_field, self.iid_field], keep=keep)
            self.inter_feat = ordered.sort_index()

    def _change_feat_format(self) -> None:
        reads_lists = self._reads_lists
        RecBoleDataset._change_feat_format(self)
        if not reads_lists:
            self.data_augmentation()

    def data_augmentation(self) -> None:
        """Order the interactions by user and time, and make a row of all but each user's first."""
        self._aug_presets()
        feat = self.inter_feat.interaction
        if self.times is None:  # of a pickle that RecBole left
            self.times = feat[self.time_field].to(torch.float64).numpy()
        user, times = feat[self.uid_field].numpy(), self.times
        order = np.lexsort((times, user))
        if self.benchmark_filename_list is not None:
            part, once = self._files()
            order = order[once[order]]
            self._part = part[order]
            self._check_order(user[order])
        if self.time_field == AS_READ:
            feat[AS_READ] = torch.from_numpy(times)
        self.times = None  # the order has them
        index = torch.from_numpy(order)
        # one after the other, so that no more than one is there twice
        columns = {field: feat.pop(field)[index] for field in list(feat)}
        del order, index, user, times
        names: Names = {field: (field, None) for field in (*columns, self.item_list_length_field)}
        lists = (field for field in columns if field not in (self.uid_field, AS_READ))
        names.update({getattr(self, f"{field}_list_field"): (field, 0) for field in lists})
        place = torch.from_numpy(_places(columns[self.uid_field].numpy()))
        target = place.nonzero().squeeze(1)
        if self.time_field == AS_READ:
            # the order of all interactions is not that of the rows
            self._order = torch.from_numpy(stable_order(columns[AS_READ][target].numpy()))
        columns[self.item_list_length_field] = place.clamp_(max=self.max_item_list_len)
        table = Table(columns, self.uid_field, self.item_list_length_field, self.max_item_list_len)
        self.inter_feat = Sequences.of(table, names, target)
        self.inter_feat.member[:] = True

    def _files(self) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """Of each row, the index of its file, and whether the file has not been read before."""
        names, sizes = self.benchmark_filename_list, self.file_size_list
        first = [names.index(name) for name in names]
        once = [place == number for number, place in enumerate(first)]
        return np.repeat(np.array(first, np.int8), sizes), np.repeat(once, sizes)

    def _check_order(self, user: NDArray[np.int64]) -> None:
        """See that no user has an interaction in a part that is later than one of a later part."""
        back = (np.diff(self._part) < 0) & (np.diff(user) == 0)
        if back.any():
            at = int(np.argmax(back))
            token = self.id2token(self.uid_field, int(user[at]))
            later, earlier = (self.benchmark_filename_list[self._part[at + k]] for k in (0, 1))
            reason = (
                f"user {token} (one of {len(np.unique(user[:-1][back]))}) has an interaction of "
                f"part {later} before one of part {earlier}, and a sequential model needs parts "
                f"that follow one another, as convert --split=leave-last makes them"
            )
            raise ValueError(reason)

    def build(self) -> list[Dataset]:
        """Split as RecBole, in the order of time as read, or by the files of a ready split.

        Raises:
            UserError: for a split of interactions in random order.
        """
        if self._reads_lists:
            return RecBoleDataset.build(self)
        if self.benchmark_filename_list is not None:
            return self._ready_parts()
        if self.config["eval_args"]["order"] != "TO":
            allowed = "a sequential model needs order TO"
            raise UserError.of("eval_args", self.config["eval_args"], allowed)
        parts = super().build()
        self.inter_feat.interaction.table.columns.pop(AS_READ)
        for part in parts:
            part.inter_feat = part.inter_feat.with_firsts()
        return parts

    def _ready_parts(self) -> list[Dataset]:
        self._change_feat_format()
        self._drop_unused_col()
        feat, part = self.inter_feat, torch.from_numpy(self._part)
        del self._part
        parts = []
        for name in self.benchmark_filename_list:
            member = part == self.benchmark_filename_list.index(name)
            rows = feat.rows(member[feat.interaction.target].nonzero().squeeze(1))
            parts.append(self.copy(Sequences(rows.interaction, member)))
            alone = int(member.sum()) - len(rows)
            if alone and name != self.benchmark_filename_list[0]:
                getLogger().info(
                    f"Rows of part {name} with nothing before them, which are no targets: {alone}"
                )
        return parts

    def of_rows(self, index: Tensor) -> SequentialDataset:
        """The data set with some of its rows, by their indices ``[rows]``, int64."""
        if isinstance(self.inter_feat, Sequences):
            return self.copy(self.inter_feat.rows(index))
        return super().of_rows(index)

    def latest(self, users: Tensor) -> Interaction:
        """Each user's last interactions, up to ``MAX_ITEM_LIST_LENGTH``, with nothing that follows.

        Args:
            users: ``[n]``, int64.

        Raises:
            UserError: if the files have the lists, which do not say what came last.
        """
        feat = self.inter_feat
        if not isinstance(feat, Sequences):
            allowed = "needs interactions with times for this; the files have lists"
            raise UserError.of("dataset", self.dataset_name, allowed)
        columns, table = feat.interaction, feat.interaction.table
        end = table.first(users + 1)
        length = (end - table.first(users)).clamp(max=table.most)
        found = {
            name: table.ending_at(column, end, length)
            for name, (column, shift) in columns.names.items()
            if shift is not None
        }
        # a user without interactions has a sequence of one padding item
        found[self.item_list_length_field] = length.clamp(min=1)
        # no target
        found[self.uid_field], found[self.iid_field] = users, torch.zeros_like(users)
        return Interaction(found)

    def all_positions(self) -> SequentialDataset:
        """The data set with a row for each user, which has the targets of all positions.

        Raises:
            UserError: if the files have the lists, of which each is a row of its own.
        """
        if not isinstance(self.inter_feat, Sequences):
            allowed = "needs interactions with times; the files have the lists"
            raise UserError.of("train_positions", "all", allowed)
        field = targets_field(self._item_list_field)
        length = self.max_item_list_len
        self.set_field_property(field, FeatureType.TOKEN_SEQ, FeatureSource.INTERACTION, length)
        return self.copy(self.inter_feat.last_of_each_user(field, self.iid_field))

    def counter(self, field: str) -> Counter:
        """As RecBole's, which counts targets; with all positions these are more than the rows."""
        feat = self.inter_feat
        if not isinstance(feat, Sequences) or self.field2type[field] != FeatureType.TOKEN:
            return super().counter(field)
        return Counter(feat.every_target(field).tolist())


def _places(user: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same user stand before each, ``[n]``, for users in ascending order."""
    start = np.append(0, np.flatnonzero(np.diff(user)) + 1)
    place = np.arange(len(user))
    place -= np.repeat(start, np.diff(start, append=len(user)))
    return place
