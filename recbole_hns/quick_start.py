"""One call from a model's name to its test result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole.utils import init_seed, set_color
from tabulate import tabulate
from torch import nn

from recbole_hns.config import Config, given_keys
from recbole_hns.config.keys import KEYS, key_of
from recbole_hns.data.dataset import check_tokens
from recbole_hns.data.preparation import create_dataset, data_preparation
from recbole_hns.errors import UserError
from recbole_hns.files import writable_directory
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import LOSSES
from recbole_hns.model import adapter_class, make_adapter, predict_by_cosine
from recbole_hns.protocol import Protocol, paper_note
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import SAMPLERS
from recbole_hns.training.checkpoint import DOES_NOT_FIT, load_best, load_checkpoint
from recbole_hns.training.log import only_in_file, start_log
from recbole_hns.training.tensorboard import closing, told_in_one_line
from recbole_hns.training.trainer import EpochEnd, HardNegativeTrainer

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import AbstractRecommender


def run(
    model: str | type | None = None,
    dataset: str | None = None,
    sampler: str | type[HardNegativeSampler] | None = None,
    config_file_list: Sequence[str | os.PathLike[str]] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    resume: str | os.PathLike[str] | None = None,
    command_line: Mapping[str, str] | None = None,
    loss: str | type[Loss] | None = None,
    callbacks: Sequence[Callable[[EpochEnd], object]] = (),
    report: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Train and test a RecBole model with a sampler, as RecBole's ``run_recbole``.

    Args:
        model: model name or class; default ``BPR``.
        dataset: data set name; default ``ml-100k``, which comes with RecBole.
        sampler: sampler name, ``package.module:Class`` or class; default ``ahns``.
        config_file_list: YAML files, the later ones over the earlier.
        config_dict: further config keys, over the files.
        saved: whether to write checkpoint and result file.
        resume: checkpoint of an interrupted run to go on with; its config is used.
        command_line: keys given as ``--key=value``, over all others.
        loss: loss name, ``package.module:Class`` or class; default the sampler's.
        callbacks: each called at the end of every epoch, after its evaluation, with the trainer and
            the epoch's record.
        report: is given the result table; default: the terminal has it at the end of the log.

    Returns:
        ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``.

    Raises:
        UserError: for a value that is not allowed, or data that cannot be used.
    """
    named = {"model": model, "dataset": dataset, "sampler": sampler, "loss": loss}
    given = given_keys(config_file_list, config_dict, command_line, **named)
    if resume is None:
        config = Config(model, dataset, sampler, config_file_list, config_dict, command_line, loss)
    else:
        config = _resumed_config(resume, given)
    init_seed(config["seed"], config["reproducibility"])
    if saved:
        writable_directory("checkpoint_dir", config["checkpoint_dir"])
    start_log(config)
    logger = getLogger()
    if config["protocol"] == "paper":
        logger.warning(paper_note(config["eval_step"] > 0))
    for key, reason in config.unused_keys().items():
        # a resumed run has said so of those that its checkpoint holds
        if resume is None or key.partition(".")[0] in given:
            logger.warning(f"{key} {reason}")

    data = create_dataset(config)
    logger.info(data)
    loaders = data_preparation(config, data)
    return train_and_test(config, loaders, saved, resume, callbacks=callbacks, report=report)


def train_and_test(
    config: Config,
    loaders: tuple[AbstractDataLoader, AbstractDataLoader, AbstractDataLoader],
    saved: bool = True,
    resume: str | os.PathLike[str] | None = None,
    result_file: Path | None = None,
    callbacks: Sequence[Callable[[EpochEnd], object]] = (),
    report: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """The second half of :func:`run`, on data that is already prepared.

    Args:
        config: the config.
        loaders: of training, validation and test.
        saved: as in :func:`run`.
        resume: as in :func:`run`.
        result_file: where to write the result file, alone, the best parameters being kept in
            memory; default beside a checkpoint in ``checkpoint_dir``.
        callbacks: as in :func:`run`.
        report: as in :func:`run`.

    Returns:
        As :func:`run`.
    """
    logger = getLogger()
    train_data, valid_data, test_data = loaders
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    network = build_model(config, train_data._dataset)
    logger.info(network)
    shows = _shows_progress(config)
    with told_in_one_line():
        trainer = HardNegativeTrainer(config, network)
        with closing(trainer.tensorboard):
            if resume is not None:
                trainer.resume_checkpoint(resume)
            if result_file is not None:
                trainer.write_only_results(result_file)
            best_valid_score, best_valid_result = trainer.fit(
                train_data, valid_data, saved=saved, show_progress=shows, callbacks=callbacks
            )
            test_result = trainer.evaluate(test_data, load_best_model=saved, show_progress=shows)
            trainer.write_test_result(test_result)

    logger.info(set_color("best valid ", "yellow") + f": {best_valid_result}")
    logger.info(set_color("test result", "yellow") + f": {test_result}")
    table = result_table(best_valid_result, test_result, config["protocol"])
    if report is None:
        logger.info("\n" + table)
    else:
        # not on the terminal twice
        only_in_file("\n" + table)
        report(table)
    if saved and result_file is None:
        logger.info(f"checkpoint : {trainer.saved_model_file}")
        logger.info(f"result file: {trainer.record.path}")
    return {
        "best_valid_score": best_valid_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_valid_result,
        "test_result": test_result,
    }


def load_data_and_model(
    model_file: str | os.PathLike[str],
    sampler: str | type[HardNegativeSampler] | None = None,
    loss: str | type[Loss] | None = None,
) -> tuple[
    Config,
    AbstractRecommender,
    Dataset,
    AbstractDataLoader,
    AbstractDataLoader,
    AbstractDataLoader,
]:
    """Read a checkpoint and the data it was trained on, as RecBole's function of the same name.

    No code is run from the file.

    Args:
        model_file: the checkpoint.
        sampler: the sampler of the run, needed only if it is not one of this package's.
        loss: the loss of the run, likewise.

    Returns:
        config, model with the parameters of the best epoch, data set, and the data loaders for
        training, validation and test.

    Raises:
        UserError: if the file is no checkpoint of this package's.
    """
    state = load_checkpoint(model_file, key="model_file")
    config = _checkpoint_config(state["config"], given_keys(sampler=sampler, loss=loss))
    init_seed(config["seed"], config["reproducibility"])
    start_log(config, to_file=False)
    dataset = create_dataset(config)
    getLogger().info(dataset)
    check_tokens(dataset, state.get("tokens"), "model_file", model_file)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, train_data._dataset)
    try:
        load_best(model, state)
    except DOES_NOT_FIT as error:
        reason = f"its parameters do not fit the model and the data: {error}"
        raise UserError.of("model_file", model_file, reason) from error
    if config["eval_similarity"] == "cosine":
        predict_by_cosine(make_adapter(model, config))
    return config, model, dataset, train_data, valid_data, test_data


def build_model(config: Config, dataset: Dataset) -> AbstractRecommender:
    """The model of a config, initialised, with ``embedding_std`` where given, on its device.

    Raises:
        UserError: if it needs a package that is not installed, or refuses its hyperparameters.
    """
    adapter_class(config.model_class).check(config, dataset)
    try:
        model = config.model_class(config, dataset)
    except Exception as error:  # what a model raises for its hyperparameters varies
        reason = f"cannot be built: {type(error).__name__}: {error}"
        raise UserError.of("model", config["model"], reason) from error
    if config["embedding_std"] is not None:
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=config["embedding_std"])
    return model.to(config["device"])


def result_table(
    valid: Mapping[str, float] | None, test: Mapping[str, float], protocol: Protocol = "valid"
) -> str:
    """Validation and test result side by side, one metric a line.

    With the protocol ``paper`` the two are one, or there is no first, and a line says so.
    """
    headers = ["metric", "valid", "test"]
    rows = [[metric, (valid or {}).get(metric), value] for metric, value in test.items()]
    if protocol == "paper":
        headers, rows = headers[::2], [row[::2] for row in rows]
    table = tabulate(rows, headers=headers, floatfmt=".4f", missingval="-")
    return f"{table}\n{paper_note(bool(valid))}" if protocol == "paper" else table


def _resumed_config(resume: str | os.PathLike[str], given: Mapping[str, Any]) -> Config:
    """The config of a checkpoint with what this call may change of it."""
    recorded = load_checkpoint(resume)["config"]
    for key, value in given.items():
        if key_of(key).resumable:
            continue
        old, new = recorded.get(key), value
        if key not in recorded and key in KEYS:
            # a key that the former version did not have: what its default comes to in that run
            old = _checkpoint_config(recorded, {}).final_config_dict.get(key)
        if isinstance(value, type):
            new = getattr(value, "name", value.__name__) if key in AXES else value.__name__
        # RecBole turns a single metric or K into a list
        if old not in (new, [new]):
            changeable = ", ".join(sorted(key for key in KEYS if key_of(key).resumable))
            allowed = f"the run was started with {old}; a resumed run may change only {changeable}"
            raise UserError.of(key, new, allowed)
    # its files are replaced where they are, wherever this process was started
    here = {"checkpoint_dir": str(Path(resume).parent)}
    return _checkpoint_config({**recorded, **here}, given)


#: Config keys that may name a class of the user's, and what is not the user's.
AXES: dict[str, Mapping[str, type]] = {"sampler": SAMPLERS, "loss": LOSSES}


def _checkpoint_config(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    values = {**recorded, **given}
    # these name pickles, which RecBole would load
    for key in ("dataset_save_path", "dataloaders_save_path"):
        if key not in given:
            values.pop(key, None)
    # the default, which is not the same for a terminal and a file
    if "show_progress" not in given and recorded.get("show_progress") is True:
        del values["show_progress"]
    for axis, known in AXES.items():
        # a checkpoint of the time before losses has none, and the sampler's default is its loss
        if axis in recorded and axis not in given and str(recorded[axis]) not in known:
            # importing what a file from elsewhere names would run code
            allowed = f"is not one of this package's; give the {axis} beside the checkpoint to "
            raise UserError.of(axis, recorded[axis], f"{allowed}trust it")
    named = {key: values.pop(key, None) for key in ("model", "sampler", "loss")}
    return Config(**named, config_dict=values)


def _shows_progress(config: Config) -> bool:
    """Whether to show progress bars: if the user says so, and by default on a terminal."""
    if "show_progress" in config.external_config_dict:
        return config["show_progress"]
    return config["show_progress"] and sys.stderr.isatty()
