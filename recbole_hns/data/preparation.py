"""Data sets and data loaders, as RecBole's with draws for whole batches."""

from __future__ import annotations

import copy
from logging import getLogger
from typing import TYPE_CHECKING, NamedTuple

import recbole.data.utils as recbole_data
from recbole.utils import set_color

from recbole_hns.data.dataset import Dataset, saved_dataset
from recbole_hns.data.eval_sampler import EvalSampler, RepeatableEvalSampler
from recbole_hns.data.headers import is_sequential
from recbole_hns.data.loader import (
    FullSortEvalDataLoader,
    NegSampleEvalDataLoader,
    SequenceEvalDataLoader,
    numbered,
)
from recbole_hns.data.sequential_dataset import SequentialDataset
from recbole_hns.data.split import of_some_users, split
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataloader import AbstractDataLoader

    Loaders = tuple[AbstractDataLoader, AbstractDataLoader, AbstractDataLoader]


class Split(NamedTuple):
    """A data set after its split, which runs that differ in training only can share.

    Attributes:
        train: interactions to train with.
        valid: those to choose by; None with the protocol ``all``.
        test: those to report; likewise.
        sampler: draws candidates and evaluation negatives of all three.
    """

    train: Dataset
    valid: Dataset | None
    test: Dataset | None
    sampler: EvalSampler


def create_dataset(config: Config) -> Dataset:
    """Read and filter the data set, as RecBole's function of the same name.

    What ``save_dataset`` and ``save_dataloaders`` leave are pickles, which can run code. RecBole
    loads them wherever it finds them in ``checkpoint_dir``; here they are loaded only where
    ``dataset_save_path`` and ``dataloaders_save_path`` name them.

    Raises:
        UserError: if its files are missing or nothing is left after filtering.
    """
    try:
        kind = SequentialDataset if is_sequential(config) else Dataset
        if config["dataset_save_path"]:
            dataset = saved_dataset(config, kind)
            if dataset is not None:
                return dataset
        dataset = kind(config)
        if config["save_dataset"]:
            dataset.save()
        return dataset
    except UserError:
        raise
    except Exception as error:  # what RecBole raises for files or filters that do not fit varies
        folder = config["data_path"]
        raise _unusable(config, error, f" (its files are read from {folder})") from error


def data_preparation(config: Config, dataset: Dataset) -> Loaders:
    """Split the data set and make the three data loaders, as RecBole's function of the same name.

    Raises:
        UserError: if the split fails, a part of it is empty, a user has no negative item, or there
            are fewer items than ``topk``.
    """
    named = _named_loaders(config)
    if named is not None:
        dataset._change_feat_format()
        return named
    loaders = data_loaders(config, split_dataset(config, dataset))
    if config["save_dataloaders"]:
        generators = [loader.generator for loader in loaders]
        recbole_data.save_split_dataloaders(config, loaders)
        # RecBole takes them out to pickle the rest, and leaves the loaders without
        for loader, generator in zip(loaders, generators, strict=True):
            loader.generator = loader.sampler.generator = generator

    arguments = config["eval_args"]
    if config["benchmark_filename"] is not None:
        arguments = {"mode": arguments["mode"]}  # the split is ready
    getLogger().info(
        set_color("[Training]: ", "pink")
        + set_color("train_batch_size", "cyan")
        + set_color(f" = [{config['train_batch_size']}]", "yellow")
        + set_color(" sampler", "cyan")
        + set_color(f" = [{config['sampler']}]", "yellow")
    )
    getLogger().info(
        set_color("[Evaluation]: ", "pink")
        + set_color("eval_batch_size", "cyan")
        + set_color(f" = [{config['eval_batch_size']}]", "yellow")
        + set_color(" eval_args", "cyan")
        + set_color(f" = [{arguments}]", "yellow")
    )
    return loaders


def split_dataset(config: Config, dataset: Dataset) -> Split:
    """Split the data set, by the config's seed where the split is random.

    Raises:
        UserError: if the split fails or a part of it is empty.
    """
    try:
        train, valid, test = split(config, dataset)
        parts = {"train": train, "valid": valid, "test": test}
        phases = _phases(config)
        sampler_class = RepeatableEvalSampler if config["repeatable"] else EvalSampler
        sampler = sampler_class(phases, [parts[phase] for phase in phases])
    except UserError:
        raise
    except Exception as error:
        raise _unusable(config, error) from error
    for phase, part in (("training", train), ("test", test)):
        if part is not None and not len(part):
            raise UserError.of("dataset", config["dataset"], f"its {phase} part is empty")
    if config["train_positions"] == "all":
        train = train.all_positions()
    return Split(train, valid, test, sampler)


def data_loaders(config: Config, split: Split) -> Loaders:
    """The data loaders of training, validation and test; with ``all``, None for the latter two.

    Raises:
        UserError: if a user has no negative item, or there are fewer items than ``topk``.
    """
    train_sampler = split.sampler.set_phase("train")
    # of sequences only the target is no candidate, unless the history is none either
    if not is_sequential(config) or config["candidate_exclude"] == "history":
        ours = config.sampler
        try:
            pool = train_sampler.pool
            pool.with_distribution(ours.candidate_distribution, ours.candidate_alpha).check()
        except Exception as error:
            raise _unusable(config, error) from error
    if split.test is not None and max(config["topk"]) >= split.train.item_num:
        allowed = f"must be <= {split.train.item_num - 1}, the number of items"
        raise UserError.of("topk", config["topk"], allowed)

    with numbered():
        return _loaders(config, split, train_sampler)


def _loaders(config: Config, split: Split, train_sampler: EvalSampler) -> Loaders:
    train_loader = recbole_data.get_dataloader(config, "train")
    train_data = train_loader(config, split.train, train_sampler, shuffle=config["shuffle"])
    if split.valid is None or split.test is None:
        return train_data, None, None
    # the test part may serve for validation too
    phase = split.sampler.phases[1]
    validating = of_some_users(split.valid, config["eval_users"], config["seed"])
    valid_data = _eval_loader(config, split, phase, validating)
    if validating is split.test:
        return train_data, copy.copy(valid_data), valid_data
    return train_data, valid_data, _eval_loader(config, split, "test", split.test)


def _eval_loader(config: Config, split: Split, phase: str, part: Dataset) -> AbstractDataLoader:
    distribution = config[f"{phase}_neg_sample_args"]["distribution"]
    sampler = None
    if distribution != "none":
        sampler = split.sampler.with_distribution(distribution, 1.0).set_phase(phase)
    loader: type = NegSampleEvalDataLoader
    if config["eval_args"]["mode"][phase] == "full":
        loader = SequenceEvalDataLoader if is_sequential(config) else FullSortEvalDataLoader
    return loader(config, part, sampler)


def _phases(config: Config) -> list[str]:
    phases = {"valid": ["train", "valid", "test"], "paper": ["train", "test"], "all": ["train"]}
    return phases[config["protocol"]]


def _named_loaders(config: Config) -> Loaders | None:
    """The loaders of ``dataloaders_save_path``; None if it is unset or of another config.

    Raises:
        UserError: if the file is missing, or holds loaders of another data set or none.
    """
    path = config["dataloaders_save_path"]
    if not path:
        return None
    try:
        with open(path, "rb"):  # RecBole makes nothing of a missing one
            named = recbole_data.load_split_dataloaders(config)
    except Exception as error:  # what a pickle raises is as arbitrary as its content
        found = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        reason = f"must be a file that save_dataloaders left ({found})"
        raise UserError.of("dataloaders_save_path", path, reason) from error
    # RecBole compares the other settings
    if (
        named is None
        or named[0]._sampler.phases != _phases(config)
        or getattr(named[1]._dataset, "eval_users", None) != config["eval_users"]
    ):
        getLogger().warning(
            f"dataloaders_save_path={path} is not used: they were saved with other settings"
        )
        return None
    name = named[0]._dataset.dataset_name
    if name != config["dataset"]:
        reason = f"holds loaders of the data set {name}, not of dataset={config['dataset']}"
        raise UserError.of("dataloaders_save_path", path, reason)
    return named


def _unusable(config: Config, error: Exception, where: str = "") -> UserError:
    reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
    return UserError.of("dataset", config["dataset"], f"{reason}{where}")
