"""RecBole's data set, read line by line and ordered by the times that its file has."""

from __future__ import annotations

import hashlib
import os
import pickle
from logging import getLogger
from typing import TYPE_CHECKING

import numpy as np
import torch
from recbole.data.dataset import Dataset as RecBoleDataset
from recbole.utils import FeatureSource
from recbole.utils.argument_list import dataset_arguments

from recbole_hns.data.headers import by_time, columns_to_load
from recbole_hns.data.reading import reading
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from recbole.config import Config

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

    eval_users: int | None = None

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
        order, theirs = (np.argsort(times, kind="stable") for times in (self.times, rounded))
        moved = int(np.count_nonzero(order != theirs))
        if moved:
            getLogger().info(
                f"Ordered by {field} as read: {moved} of {len(order)} interactions stand elsewhere "
                f"than in RecBole, which rounds it to float32 first"
            )
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


def saved_dataset(config: Config) -> Dataset | None:
    """The data set of ``dataset_save_path``; None if it was read with other settings.

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
    if other:
        getLogger().warning(
            f"dataset_save_path={path} is not used: it was saved with another {', '.join(other)}"
        )
        return None
    getLogger().info(f"Load filtered dataset from: [{path}]")
    if type(dataset) is RecBoleDataset:
        dataset.__class__ = Dataset
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
