"""Data sets and data loaders, as RecBole's with the candidate sampler in place of its own."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING, Any

import recbole.data.utils as recbole_data
from recbole.data.dataset import Dataset
from recbole.utils import set_color

from recbole_hns.data.candidates import CandidateSampler
from recbole_hns.data.headers import check_headers
from recbole_hns.data.loader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataloader import AbstractDataLoader

    Loaders = tuple[AbstractDataLoader, AbstractDataLoader, AbstractDataLoader]

__all__ = ["CandidateSampler", "create_dataset", "data_preparation"]


def create_dataset(config: Config) -> Dataset:
    """Read and filter the data set, as RecBole's function of the same name.

    What ``save_dataset`` and ``save_dataloaders`` leave are pickles, which can run code. RecBole
    loads them wherever it finds them in ``checkpoint_dir``; here they are loaded only where
    ``dataset_save_path`` and ``dataloaders_save_path`` name them.

    Raises:
        UserError: if its files are missing or nothing is left after filtering.
    """
    try:
        check_headers(config)
        if config["dataset_save_path"]:
            return recbole_data.create_dataset(config)
        dataset = Dataset(config)
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
    try:
        train, valid, test = dataset.build()
        phases = ["train", "valid", "test"]
        sampler = CandidateSampler(phases, [train, valid, test])
        train_sampler = sampler.set_phase("train")
        ours = config.sampler
        train_sampler.with_distribution(ours.candidate_distribution, ours.candidate_alpha).check()
    except Exception as error:
        raise _unusable(config, error) from error
    for phase, part in (("training", train), ("test", test)):
        if not len(part):
            raise UserError.of("dataset", config["dataset"], f"its {phase} part is empty")
    if max(config["topk"]) >= dataset.item_num:
        allowed = f"must be <= {dataset.item_num - 1}, the number of items"
        raise UserError.of("topk", config["topk"], allowed)

    train_loader = recbole_data.get_dataloader(config, "train")
    loaders: Any = [train_loader(config, train, train_sampler, shuffle=config["shuffle"])]
    for phase, part in (("valid", valid), ("test", test)):
        distribution = config[f"{phase}_neg_sample_args"]["distribution"]
        phase_sampler = None
        if distribution != "none":
            phase_sampler = sampler.with_distribution(distribution, 1.0).set_phase(phase)
        full = config["eval_args"]["mode"][phase] == "full"
        eval_loader: type = FullSortEvalDataLoader if full else NegSampleEvalDataLoader
        loaders.append(eval_loader(config, part, phase_sampler))
    if config["save_dataloaders"]:
        generators = [loader.generator for loader in loaders]
        recbole_data.save_split_dataloaders(config, loaders)
        # RecBole takes them out to pickle the rest, and leaves the loaders without
        for loader, generator in zip(loaders, generators, strict=True):
            loader.generator = loader.sampler.generator = generator

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
        + set_color(f" = [{config['eval_args']}]", "yellow")
    )
    return tuple(loaders)


def _named_loaders(config: Config) -> Loaders | None:
    """The loaders of ``dataloaders_save_path``; None if it is unset or of another config."""
    path = config["dataloaders_save_path"]
    if not path:
        return None
    try:
        return recbole_data.load_split_dataloaders(config)
    except Exception as error:  # what a pickle raises is as arbitrary as its content
        reason = f"must be a file that save_dataloaders left ({type(error).__name__}: {error})"
        raise UserError.of("dataloaders_save_path", path, reason) from error


def _unusable(config: Config, error: Exception, where: str = "") -> UserError:
    reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
    return UserError.of("dataset", config["dataset"], f"{reason}{where}")
