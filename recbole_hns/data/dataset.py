"""RecBole's data set, read line by line and ordered by the times that its file has."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator
from logging import getLogger
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset as RecBoleDataset
from recbole.data.dataset import SequentialDataset as RecBoleSequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from recbole.utils.argument_list import dataset_arguments

from recbole_hns.data.headers import by_time, columns_to_load
from recbole_hns.data.reading import in_categories, reading, union
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from recbole.config import Config
    from torch import Tensor

#: Stands in for ``TIME_FIELD`` while a data set is split.
AS_READ = "time as read"


class Dataset(RecBoleDataset):
    """RecBole's data set, which loses nothing of what the files say.

    RecBole rounds times to float32, in which today's are 128 seconds apart, before it orders the
    interactions by them; here they are ordered as they were read. The feature that models see is
    the rounded one.

    Attributes:
        times: of each interaction, ``[n]``, float64, as read; None without such a column.
        eval_users: the key of that name where only the interactions of some users are left.
    """

    #: RecBole's class, of which a pickle may be
    recboles: type[RecBoleDataset] = RecBoleDataset

    eval_users: int | None = None
    inter_feat: Any

    times: NDArray[np.float64] | None = None
    time_field: str

    def _load_data(self, token: str, dataset_path: str) -> None:
        if not os.path.exists(dataset_path):
            self._download()
        self._added = columns_to_load(self.config)
        with reading(self.config):
            super()._load_data(token, dataset_path)
        if self.benchmark_filename_list is None:
            return  # RecBole leaves such rows out and tells of it
        for field in (self.uid_field, self.iid_field):
            empty = sum(int(feat[field].isna().sum()) for feat in self.field2feats(field))
            if empty:
                raise ValueError(f"{empty} rows have no {field}")

    def _get_load_and_unload_col(self, source: FeatureSource | str) -> tuple[set[str] | None, ...]:
        load, unload = super()._get_load_and_unload_col(source)
        suffix = source.value if isinstance(source, FeatureSource) else source
        return None if load is None else load | self._added.get(suffix, set()), unload

    def _filter_by_inter_num(self) -> None:
        """As RecBole's, which counts tokens one by one, by numbers where they are in categories."""
        fields = (self.uid_field, self.iid_field)
        has_others = self.user_feat is not None or self.item_feat is not None
        if has_others or not all(in_categories(self.inter_feat[field]) for field in fields):
            super()._filter_by_inter_num()
            return
        intervals = [
            self._parse_intervals_str(self.config[key])
            for key in ("user_inter_num_interval", "item_inter_num_interval")
        ]
        columns = [self.inter_feat[field].array for field in fields]
        kept = np.ones(len(self.inter_feat), dtype=np.bool_)
        while True:
            dropped = np.zeros(len(kept), dtype=np.bool_)
            for column, interval in zip(columns, intervals, strict=True):
                if interval is None:
                    continue
                codes = column.codes
                count = np.bincount(codes[kept], minlength=len(column.categories))
                dropped |= ~self._within_intervals(count, interval)[codes]
            dropped &= kept
            if not dropped.any():
                break
            kept &= ~dropped
        if not kept.all():
            self.inter_feat = self.inter_feat[kept]

    def _concat_remaped_tokens(
        self, remap_list: list[tuple[pd.DataFrame, str, FeatureType]]
    ) -> tuple[Any, NDArray[np.int64]]:
        """As RecBole's, but without an object for each row where tokens are in categories."""
        columns = [feat[field] for feat, field, _ in remap_list]
        alone = all(kind == FeatureType.TOKEN for _, _, kind in remap_list)
        if not alone or not any(map(in_categories, columns)):
            return super()._concat_remaped_tokens(remap_list)
        tokens = [
            column.array if in_categories(column) else _categories_of(column) for column in columns
        ]
        joined = tokens[0] if len(tokens) == 1 else union(tokens)
        return joined, np.cumsum(list(map(len, tokens)))[:-1]

    def _fill_nan(self) -> None:
        if by_time(self.config):
            empty = int(self.inter_feat[self.time_field].isnull().sum())
            if empty:
                raise ValueError(f"{empty} rows have no {self.time_field}, which order TO needs")
        super()._fill_nan()

    def _normalize(self) -> None:
        if self.time_field in self.inter_feat:
            self.times = self.inter_feat[self.time_field].to_numpy(np.float64, copy=True)
        super()._normalize()

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        if self.time_field == AS_READ:
            self.inter_feat[AS_READ] = torch.from_numpy(self.times)

    def split_by_ratio(self, ratios: list[float], group_by: str | None = None) -> list[Dataset]:
        """As RecBole's, which takes the interactions one by one."""
        total = sum(ratios)
        ratios = [ratio / total for ratio in ratios]
        groups = _Groups(self, group_by)
        # one row for each number of interactions that a group has
        sizes, row = np.unique(groups.size, return_inverse=True)
        ends = np.array([self._calcu_split_ids(tot=int(size), ratios=ratios) for size in sizes])
        return self._parts(groups, list(ends[row].T))

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[Dataset]:
        """As RecBole's, which takes the interactions one by one."""
        left_out = {"valid_and_test": 2, "valid_only": 1, "test_only": 1}
        if group_by is None or leave_one_mode not in left_out:
            return super().leave_one_out(group_by, leave_one_mode)
        groups = _Groups(self, group_by)
        size = groups.size
        if leave_one_mode == "valid_and_test":
            # the first part keeps one, and the last is served first
            ends = [np.maximum(size - 2, 1), np.maximum(size - 1, 1)]
        elif leave_one_mode == "valid_only":
            ends = [np.maximum(size - 1, 1), size]
        else:
            ends = [np.maximum(size - 1, 1)] * 2
        return self._parts(groups, ends)

    def time_based_split(self, ratios: list[float], group_by: str) -> list[Dataset]:
        """As RecBole's of interactions in the order of time, which takes the users one by one."""
        if group_by is None or self.time_field not in self.inter_feat or len(ratios) != 3:
            return super().time_based_split(ratios, group_by)
        total = sum(ratios)
        ratios = [ratio / total for ratio in ratios]
        times = self.inter_feat[self.time_field].numpy()
        boundary = np.percentile(times, 100 * (1 - ratios[-1]))
        groups = _Groups(self, group_by)
        before = groups.count(times <= boundary)
        trained = (before * (ratios[0] / (1 - ratios[2]))).astype(np.int64)
        return self._parts(groups, [trained, before])

    def _parts(self, groups: _Groups, ends: list[NDArray[np.int64]]) -> list[Dataset]:
        """The data set in parts, each with its share of every group, one group after the other.

        Args:
            groups: the groups.
            ends: where in each group each part but the last ends, ``[groups]`` each.
        """
        self._drop_unused_col()
        return [self.of_rows(torch.from_numpy(index)) for index in groups.between(ends)]

    def of_rows(self, index: Tensor) -> Dataset:
        """The data set with some of its rows, by their indices ``[rows]``, int64."""
        feat = self.inter_feat
        return self.copy(Interaction({field: feat[field][index] for field in feat}))

    def build(self) -> list[Dataset]:
        """Split as RecBole, but with the times as read in place of rounded ones.

        Raises:
            UserError: for a split by time of interactions in random order, whose times RecBole
                would give to others.
        """
        if not by_time(self.config):
            if self.benchmark_filename_list is None and "TS" in self.config["eval_args"]["split"]:
                raise UserError.of("eval_args", self.config["eval_args"], "split TS needs order TO")
            return super().build()
        field = self.time_field
        if self.times is None:  # of a pickle that RecBole left
            self.times = self.inter_feat[field].to_numpy(np.float64)
        rounded = self.inter_feat[field].to_numpy()
        if rounded.dtype == object:  # among numerical_features it is in lists
            rounded = np.stack(rounded)[:, 0]
        with np.errstate(over="ignore"):
            rounded = rounded.astype(np.float32)
        moved = _moved(self.times, rounded)
        if moved:
            getLogger().info(
                f"Ordered by {field} as read: {moved} of {len(rounded)} interactions stand "
                f"elsewhere than in RecBole, which rounds it to float32 first"
            )
        del rounded
        self.time_field = AS_READ
        try:
            parts = super().build()
        finally:
            self.time_field = field
        for part in parts:
            part.time_field = field
        for part in (self, *parts):
            del part.inter_feat[AS_READ]
        return parts


class _Groups:
    """The interactions of a data set by the values of a field, in the order of the first of each.

    Args:
        dataset: the data set.
        field: the field of ids; None for one group.

    Attributes:
        size: interactions of each group, ``[groups]``.
    """

    def __init__(self, dataset: Dataset, field: str | None) -> None:
        if field is None:
            self._group = np.zeros(len(dataset), dtype=np.int64)
        else:
            self._group, _ = pd.factorize(dataset.inter_feat[field].numpy())
        self.size = np.bincount(self._group)
        self._order = np.argsort(self._group, kind="stable")
        self._start = np.cumsum(self.size) - self.size

    def count(self, holds: NDArray[np.bool_]) -> NDArray[np.int64]:
        """For how many interactions of each group something holds, ``[groups]``."""
        return np.bincount(self._group[holds], minlength=len(self.size))

    def between(self, ends: list[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """The interactions of each part, as :meth:`Dataset._parts` has it."""
        starts = np.zeros_like(self.size)
        for end in [*ends, self.size]:
            length = end - starts
            first = np.cumsum(length) - length
            within = np.arange(length.sum()) - np.repeat(first - starts - self._start, length)
            yield self._order[within]
            starts = end


def _moved(times: NDArray[np.float64], rounded: NDArray[np.float32]) -> int:
    """How many of ``[n]`` times have another place in the order of the rounded ones."""
    order, theirs = (np.argsort(each, kind="stable") for each in (times, rounded))
    return int(np.count_nonzero(order != theirs))


def _categories_of(column: pd.Series) -> pd.Categorical:
    codes, tokens = pd.factorize(column.to_numpy(object))
    return pd.Categorical.from_codes(codes, pd.Index(tokens, dtype=object))


def saved_dataset(config: Config, kind: type[Dataset] = Dataset) -> Dataset | None:
    """The data set of ``dataset_save_path``; None if it was read with other settings.

    Args:
        config: the config.
        kind: the class of data sets of the config's model.

    Raises:
        UserError: if the file is missing, or holds another data set or none.
    """
    path = config["dataset_save_path"]
    try:
        with open(path, "rb") as file:
            dataset = pickle.load(file)
        if not isinstance(dataset, RecBoleDataset):
            raise TypeError(f"it holds a {type(dataset).__name__}")
    except Exception as error:  # what a pickle raises is as arbitrary as its content
        found = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        reason = f"must be a file that save_dataset left ({found})"
        raise UserError.of("dataset_save_path", path, reason) from error
    if dataset.dataset_name != config["dataset"]:
        reason = f"holds the data set {dataset.dataset_name}, not dataset={config['dataset']}"
        raise UserError.of("dataset_save_path", path, reason)
    keys = (*dataset_arguments, "seed", "repeatable")
    other = [key for key in keys if config[key] != dataset.config[key]]
    if by_time(config) and dataset.time_field not in dataset.inter_feat:
        other.append("load_col")
    if isinstance(dataset, RecBoleSequentialDataset) != (kind.recboles is RecBoleSequentialDataset):
        other.append("kind of model")
    if other:
        getLogger().warning(
            f"dataset_save_path={path} is not used: it was saved with another {', '.join(other)}"
        )
        return None
    getLogger().info(f"Load filtered dataset from: [{path}]")
    if type(dataset) is kind.recboles:
        dataset.__class__ = kind
    # the split is this config's
    dataset.config = config
    return dataset


def token_digest(dataset: RecBoleDataset) -> str:
    """SHA-256 of the users' and items' tokens in the order of their ids.

    Parameters that were learned on one data set fit another only if this is the same.
    """
    digest = hashlib.sha256()
    for field in (dataset.uid_field, dataset.iid_field):
        tokens = dataset.field2id_token[field]
        digest.update(f"{len(tokens)}\n".encode())
        digest.update("\n".join(map(str, tokens)).encode(errors="surrogatepass"))
    return digest.hexdigest()


def check_tokens(dataset: RecBoleDataset, recorded: str | None, key: str, path: object) -> str:
    """See that a checkpoint's parameters are those of the data set's users and items.

    Args:
        dataset: the data set.
        recorded: the checkpoint's :func:`token_digest`; None, as of an old one, is taken for equal.
        key: the config key that named the checkpoint.
        path: the checkpoint.

    Returns:
        The data set's digest.

    Raises:
        UserError: if they are of others, or of the same in another order.
    """
    digest = token_digest(dataset)
    if recorded not in (None, digest):
        allowed = (
            f"was trained on other users or items than dataset={dataset.dataset_name} has now, or "
            f"on its rows in another order, so that its parameters belong to others"
        )
        raise UserError.of(key, path, allowed)
    return digest
