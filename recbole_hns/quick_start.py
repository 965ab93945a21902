"""One call from a model's name to its test result."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from logging import Handler, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole.utils import init_logger, init_seed, set_color
from tabulate import tabulate
from torch import nn

from recbole_hns.checkpoint import DOES_NOT_FIT, load_best, load_checkpoint
from recbole_hns.config import Config, given_keys
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.errors import UserError
from recbole_hns.files import writable_directory
from recbole_hns.protocol import Protocol, paper_note
from recbole_hns.record import RunRecord
from recbole_hns.sampler import SAMPLERS, HardNegativeSampler
from recbole_hns.trainer import get_trainer

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import AbstractRecommender

#: What a resumed run may have changed; anything else would make it another run.
CHANGED_BY_RESUME = {
    "data_path",
    "epochs",
    "eval_batch_size",
    "gpu_id",
    "log_wandb",
    "show_progress",
    "state",
    "stopping_step",
    "use_gpu",
    "wandb_project",
    "worker",
}


#: The logger's handlers of the run before.
_handlers: list[Handler] = []


def run(
    model: str | type | None = None,
    dataset: str | None = None,
    sampler: str | type[HardNegativeSampler] | None = None,
    config_file_list: Sequence[str | os.PathLike[str]] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    resume: str | os.PathLike[str] | None = None,
    command_line: Mapping[str, str] | None = None,
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

    Returns:
        ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``.

    Raises:
        UserError: for a value that is not allowed, or data that cannot be used.
    """
    if resume is None:
        config = Config(model, dataset, sampler, config_file_list, config_dict, command_line)
    else:
        config = _resumed_config(
            resume, model, dataset, sampler, config_file_list, config_dict, command_line
        )
    init_seed(config["seed"], config["reproducibility"])
    if saved:
        writable_directory("checkpoint_dir", config["checkpoint_dir"])
    # where RecBole writes, whatever checkpoint_dir is
    writable_directory("log", "log")
    writable_directory("log_tensorboard", "log_tensorboard")
    _init_logger(config)
    logger = getLogger()
    logger.info(config)
    if config["protocol"] == "paper":
        logger.warning(paper_note(config["eval_step"] > 0))
    for key in config.unused_sampler_keys():
        logger.warning(f"{key} has no effect with sampler={config['sampler']}")

    data = create_dataset(config)
    logger.info(data)
    return train_and_test(config, data_preparation(config, data), saved, resume)


def train_and_test(
    config: Config,
    loaders: tuple[AbstractDataLoader, AbstractDataLoader, AbstractDataLoader],
    saved: bool = True,
    resume: str | os.PathLike[str] | None = None,
    result_file: Path | None = None,
    on_evaluation: Callable[[RunRecord], None] | None = None,
) -> dict[str, Any]:
    """The second half of :func:`run`, on data that is already prepared.

    Args:
        config: the config.
        loaders: of training, validation and test.
        saved: as in :func:`run`.
        resume: as in :func:`run`.
        result_file: where to write the result file, alone, the best parameters being kept in
            memory; default beside a checkpoint in ``checkpoint_dir``.
        on_evaluation: called after every evaluation with what the run has done so far.

    Returns:
        As :func:`run`.
    """
    logger = getLogger()
    train_data, valid_data, test_data = loaders
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    network = build_model(config, train_data._dataset)
    logger.info(network)
    trainer = get_trainer(config["model"])(config, network)
    if resume is not None:
        trainer.resume_checkpoint(resume)
    if result_file is not None:
        trainer.write_only_results(result_file)
    best_valid_score, best_valid_result = trainer.fit(
        train_data,
        valid_data,
        saved=saved,
        show_progress=config["show_progress"],
        callback_fn=on_evaluation and (lambda *_: on_evaluation(trainer.record)),
    )
    test_result = trainer.evaluate(
        test_data, load_best_model=saved, show_progress=config["show_progress"]
    )
    trainer.write_test_result(test_result)

    logger.info(set_color("best valid ", "yellow") + f": {best_valid_result}")
    logger.info(set_color("test result", "yellow") + f": {test_result}")
    logger.info("\n" + result_table(best_valid_result, test_result, config["protocol"]))
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

    Returns:
        config, model with the parameters of the best epoch, data set, and the data loaders for
        training, validation and test.

    Raises:
        UserError: if the file is no checkpoint of this package's.
    """
    state = load_checkpoint(model_file, key="model_file")
    config = _checkpoint_config(state["config"], {"sampler": sampler} if sampler else {})
    init_seed(config["seed"], config["reproducibility"])
    _init_logger(config)
    getLogger().info(config)
    dataset = create_dataset(config)
    getLogger().info(dataset)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, train_data._dataset)
    try:
        load_best(model, state)
    except DOES_NOT_FIT as error:
        reason = f"its parameters do not fit the model and the data: {error}"
        raise UserError.of("model_file", model_file, reason) from error
    return config, model, dataset, train_data, valid_data, test_data


def build_model(config: Config, dataset: Dataset) -> AbstractRecommender:
    """The model of a config, initialised, with ``embedding_std`` where given, on its device.

    Raises:
        UserError: if it needs a package that is not installed, or refuses its hyperparameters.
    """
    if config["model"] == "NCL" and importlib.util.find_spec("faiss") is None:
        raise UserError.of("model", "NCL", "needs faiss: pip install recbole-hns[ncl]")
    clusters = config["num_clusters"]
    most = min(dataset.user_num, dataset.item_num)
    if config["model"] == "NCL" and not (isinstance(clusters, int) and 0 < clusters <= most):
        allowed = f"must be an integer > 0 and <= {most}, the smaller number of users and items"
        raise UserError.of("num_clusters", clusters, allowed)
    try:
        model = config.model_class(config, dataset)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
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


def _resumed_config(resume: str | os.PathLike[str], *arguments: Any) -> Config:
    """The config of a checkpoint with what this call may change of it."""
    recorded = load_checkpoint(resume)["config"]
    given = given_keys(*arguments)
    for key, value in given.items():
        if key in CHANGED_BY_RESUME:
            continue
        old, new = recorded.get(key), value
        if isinstance(value, type):
            new = getattr(value, "name", value.__name__) if key == "sampler" else value.__name__
        # RecBole turns a single metric or K into a list
        if old not in (new, [new]):
            changeable = ", ".join(sorted(CHANGED_BY_RESUME))
            allowed = f"the run was started with {old}; a resumed run may change only {changeable}"
            raise UserError.of(key, new, allowed)
    # its files are replaced where they are, wherever this process was started
    here = {"checkpoint_dir": str(Path(resume).parent)}
    return _checkpoint_config({**recorded, **here}, given)


def _checkpoint_config(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    values = {**recorded, **given}
    # these name pickles, which RecBole would load
    for key in ("dataset_save_path", "dataloaders_save_path"):
        if key not in given:
            values.pop(key, None)
    if "sampler" not in given and str(values.get("sampler")) not in SAMPLERS:
        # importing what a file from elsewhere names would run code
        allowed = "is not one of this package's; give the sampler beside the checkpoint to trust it"
        raise UserError.of("sampler", values.get("sampler"), allowed)
    model, sampler = values.pop("model", None), values.pop("sampler")
    return Config(model=model, sampler=sampler, config_dict=values)


def _init_logger(config: Config) -> None:
    """RecBole's logger with a file for this run, also where the process had a run before."""
    root = getLogger()
    for handler in _handlers:
        root.removeHandler(handler)
        handler.close()
    others = root.handlers[:]
    root.handlers.clear()
    init_logger(config)
    _handlers[:] = root.handlers
    root.handlers[:0] = others
