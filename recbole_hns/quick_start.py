"""One call from a model's name to its test result."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole.utils import init_seed, set_color
from tabulate import tabulate

from recbole_hns.config import Config, given_keys
from recbole_hns.config.checks import check_dataset_folder
from recbole_hns.config.keys import KEYS, key_of
from recbole_hns.convert.dataset import FrameDataset
from recbole_hns.convert.frames import is_frame
from recbole_hns.data.preparation import create_dataset, data_preparation
from recbole_hns.errors import UserError
from recbole_hns.evaluation.user_metrics import UserEvaluator, write_user_metrics
from recbole_hns.files import writable_directory
from recbole_hns.loss.base import Loss
from recbole_hns.ops import workers
from recbole_hns.protocol import Protocol, protocol_note
from recbole_hns.recommendation import (
    AXES,
    RunResult,
    Trained,
    build_model,
    checkpoint_config,
    read_checkpoint,
    restore,
)
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.training.checkpoint import load_checkpoint
from recbole_hns.training.log import only_in_file, start_log
from recbole_hns.training.tensorboard import closing, told_in_one_line
from recbole_hns.training.trainer import EpochEnd, HardNegativeTrainer
from recbole_hns.training.wandb_run import wandb_run

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader

    from recbole_hns.data.dataset import Dataset


#: The arguments of :func:`run` that say how several workers are started, and their defaults.
LAUNCH: dict[str, Any] = {
    "num_workers": 1,
    "address": None,
    "cpus_per_worker": 1,
    "gpus_per_worker": 0.0,
    "max_failures": 3,
}


def run(
    model: str | type | None = None,
    dataset: Any = None,
    sampler: str | type[HardNegativeSampler] | None = None,
    config_file_list: Sequence[str | os.PathLike[str]] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    resume: str | os.PathLike[str] | None = None,
    command_line: Mapping[str, str] | None = None,
    loss: str | type[Loss] | None = None,
    callbacks: Sequence[Callable[[EpochEnd], object]] = (),
    report: Callable[[str], object] | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    num_workers: int = 1,
    address: str | None = None,
    cpus_per_worker: int = 1,
    gpus_per_worker: float = 0.0,
    max_failures: int = 3,
) -> RunResult:
    """Train and test a RecBole model with a sampler, as RecBole's ``run_recbole``.

    A data frame in place of a data set's name is written to ``data_path`` first, as the data set
    ``frame-DIGEST``, the same for the same rows, so that its checkpoint can be used as any other.

    Args:
        model: model name or class; default ``BPR``.
        dataset: data set name; default ``ml-100k``, which comes with RecBole. Or a data frame: a
            pandas or Polars ``DataFrame``, a pyarrow ``Table``, or what else gives Arrow a stream.
        sampler: sampler name, ``package.module:Class`` or class; default ``dns_mn``.
        config_file_list: YAML files, the later ones over the earlier.
        config_dict: further config keys, over the files.
        saved: whether to write checkpoint and result file.
        resume: checkpoint of an interrupted run to go on with; its config is used.
        command_line: keys given as ``--key=value``, over all others.
        loss: loss name, ``package.module:Class`` or class; default the sampler's.
        callbacks: each called at the end of every epoch, after its evaluation, with the trainer and
            the epoch's record; one that has a method ``finish`` is given the result at the end.
        report: is given the result table; default: the terminal has it at the end of the log.
        user_column: name of a data frame's column of users; default the one that USER_ID_FIELD
            names, or the one with a usual name, such as ``customer``.
        item_column: that of items, and ITEM_ID_FIELD, likewise.
        rating_column: that of ratings, and RATING_FIELD.
        time_column: that of times, and TIME_FIELD.
        num_workers: processes that train it together, with the same figures as one; Ray Train
            starts them.
        address: ``HOST:PORT`` of the Ray cluster that they run on; None starts Ray on this machine.
        cpus_per_worker: CPUs, and threads, of each.
        gpus_per_worker: GPUs of each; 0 trains on the CPU.
        max_failures: how often a worker that is lost is replaced, the run going on after the last
            completed epoch.

    Returns:
        RecBole's dictionary, ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``
        and ``test_result``, with the model, its files and what it recommends.

    Raises:
        UserError: for a value that is not allowed, or data that cannot be used.
        JobError: if a worker is lost, as often as ``max_failures`` says.
    """
    arguments = dict(locals())
    launch = {name: arguments.pop(name) for name in LAUNCH}
    if launch["num_workers"] > 1:
        if workers.active() or workers.of_torchrun():
            allowed = "leave it out: this process is one of several workers already"
            raise UserError.of("num_workers", num_workers, allowed)

        # Ray takes seconds to import
        from recbole_hns.tuning.workers import run_on_workers

        return run_on_workers(arguments, **launch)
    for name, value in launch.items():
        if value != LAUNCH[name]:
            raise UserError.of(name, value, "needs num_workers > 1, of which it says more")
    with workers.group_of_torchrun():
        return _run(**arguments)


def _run(
    model: Any,
    dataset: Any,
    sampler: Any,
    config_file_list: Sequence[str | os.PathLike[str]] | None,
    config_dict: Mapping[str, Any] | None,
    saved: bool,
    resume: str | os.PathLike[str] | None,
    command_line: Mapping[str, str] | None,
    loss: Any,
    callbacks: Sequence[Callable[[EpochEnd], object]],
    report: Callable[[str], object] | None,
    user_column: str | None,
    item_column: str | None,
    rating_column: str | None,
    time_column: str | None,
) -> RunResult:
    """:func:`run`, on the one worker that this process is."""
    columns = {
        "user_column": user_column,
        "item_column": item_column,
        "rating_column": rating_column,
        "time_column": time_column,
    }
    frame = None
    if is_frame(dataset):
        keys = given_keys(config_file_list, config_dict, command_line)
        before = {} if resume is None else load_checkpoint(resume)["config"]
        frame = FrameDataset.of(dataset, columns, {**before, **keys})
        dataset = frame.name
    else:
        for key, value in columns.items():
            if value is not None:
                allowed = "names a column of a data frame; of a data set's file, USER_ID_FIELD and "
                raise UserError.of(key, value, f"{allowed}the like do")
    named = {"model": model, "dataset": dataset, "sampler": sampler, "loss": loss}
    given = given_keys(config_file_list, config_dict, command_line, **named)
    with workers.together():
        if resume is None:
            lists = config_file_list, config_dict, command_line
            config = Config(model, dataset, sampler, *lists, loss)
        else:
            config = _resumed_config(resume, given)
        if config["user_metrics"] and not saved:
            allowed = "must be False where nothing is saved: they go beside the result file"
            raise UserError.of("user_metrics", True, allowed)
        init_seed(config["seed"], config["reproducibility"])
        if frame is None and resume is None and workers.first():
            check_dataset_folder(config)
        if saved:
            writable_directory("checkpoint_dir", config["checkpoint_dir"])
        start_log(config)
    logger = getLogger()
    note = protocol_note(config["protocol"], config["eval_step"] > 0)
    if note is not None:
        logger.warning(note)
    for key, reason in config.unused_keys().items():
        # a resumed run has said so of those that its checkpoint holds
        if resume is None or key.partition(".")[0] in given:
            logger.warning(f"{key} {reason}")

    # what the first downloads or makes, the others find
    with workers.together(only_first=True):
        if frame is not None:
            logger.info(frame.write(config.data_root))
        data = create_dataset(config)
        logger.info(data)
        logger.info(f"split: {config['data_split']}")
        loaders = data_preparation(config, data)
    return train_and_test(
        config, loaders, saved, resume, callbacks=callbacks, report=report, dataset=data
    )


def train_and_test(
    config: Config,
    loaders: tuple[AbstractDataLoader, AbstractDataLoader, AbstractDataLoader],
    saved: bool = True,
    resume: str | os.PathLike[str] | None = None,
    result_file: Path | None = None,
    callbacks: Sequence[Callable[[EpochEnd], object]] = (),
    report: Callable[[str], object] | None = None,
    dataset: Dataset | None = None,
) -> RunResult:
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
        dataset: the whole data set, which a result without its files needs for its lists.

    Returns:
        As :func:`run`.
    """
    logger = getLogger()
    train_data, valid_data, test_data = loaders
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    network = build_model(config, train_data._dataset)
    logger.info(network)
    shows = _shows_progress(config) and workers.first()
    if not workers.first():
        config["log_wandb"] = False
    with told_in_one_line(), wandb_run(config):
        trainer = HardNegativeTrainer(config, network)
        with closing(trainer.tensorboard):
            if resume is not None:
                trainer.resume_checkpoint(resume)
            if result_file is not None:
                trainer.write_only_results(result_file)
            try:
                best_valid_score, best_valid_result = trainer.fit(
                    train_data, valid_data, saved=saved, show_progress=shows, callbacks=callbacks
                )
            except KeyboardInterrupt as error:
                file = trainer.saved_model_file
                if str(error) or type(error) is not KeyboardInterrupt or not os.path.exists(file):
                    raise
                how = f"--resume={shlex.quote(file)} goes on after the last completed epoch"
                raise KeyboardInterrupt(f"interrupted; {how}") from None
            test_result = None
            by_user = UserEvaluator(config) if config["user_metrics"] and saved else None
            if test_data is not None:
                trainer.evaluator = by_user or trainer.evaluator
                test_result = trainer.evaluate(
                    test_data, load_best_model=saved, show_progress=shows
                )
                with workers.together():
                    if by_user is not None and workers.first():
                        write_user_metrics(trainer.record.path, by_user, test_data, config)
                    trainer.write_test_result(test_result)

    if test_result is not None:
        logger.info(set_color("best valid ", "yellow") + f": {best_valid_result}")
        logger.info(set_color("test result", "yellow") + f": {test_result}")
    table = result_table(best_valid_result, test_result, config["protocol"])
    if test_result is not None:
        table += f"\nsplit: {config['data_split']}"
    if report is None or not workers.first():
        logger.info("\n" + table)
    else:
        # not on the terminal twice
        only_in_file("\n" + table)
        report(table)
    checkpoint, record = None, None
    if saved:
        record = trainer.record.path.absolute()
        if result_file is None:
            checkpoint = Path(trainer.saved_model_file).absolute()
            logger.info(f"checkpoint : {trainer.saved_model_file}")
            logger.info(f"result file: {trainer.record.path}")
            named = shlex.quote(trainer.saved_model_file)
            logger.info(
                f"top 10     : recbole-hns recommend --checkpoint={named} --output=recs.parquet"
            )
    best_epoch = trainer.record.results.get("best_epoch") or 0
    if config["protocol"] == "valid" and best_valid_result and result_file is None:
        logger.info(
            "to deploy  : recbole-hns run, with the same keys and --protocol=all "
            f"--epochs={best_epoch}, trains on every part"
        )
    values = {
        "best_valid_score": best_valid_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_valid_result,
        "test_result": test_result,
    }
    classes = {
        "model": config.model_class,
        "sampler": type(config.sampler),
        "loss": type(config.loss),
    }
    trained = None if dataset is None else Trained(config, network, dataset, *loaders)
    result = RunResult(
        values, checkpoint, record, trainer.record.epochs, best_epoch, trained, classes
    )
    for callback in callbacks if workers.first() else ():
        if hasattr(callback, "finish"):
            callback.finish(result)
    return result


def load_data_and_model(
    model_file: str | os.PathLike[str],
    sampler: str | type[HardNegativeSampler] | None = None,
    loss: str | type[Loss] | None = None,
) -> Trained:
    """Read a checkpoint and the data it was trained on, as RecBole's function of the same name.

    No code is run from the file.

    Args:
        model_file: the checkpoint.
        sampler: the sampler of the run, needed only if it is not one of this package's.
        loss: the loss of the run, likewise.

    Returns:
        config, model with the parameters of the best epoch, data set, and the data loaders for
        training, validation and test, the last two None with the protocol ``all``.

    Raises:
        UserError: if the file is no checkpoint of this package's.
    """
    given = given_keys(sampler=sampler, loss=loss)
    config, state = read_checkpoint(model_file, given, "model_file")
    start_log(config, to_file=False)
    return restore(config, state, model_file, "model_file")


def result_table(
    valid: Mapping[str, float] | None,
    test: Mapping[str, float] | None,
    protocol: Protocol = "valid",
) -> str:
    """Validation and test result side by side, one metric a line.

    With the protocol ``paper`` the two are one, or there is no first, and a line says so; with
    ``all`` there is neither, and that line only.
    """
    note = protocol_note(protocol, bool(valid))
    if test is None:
        return note or ""
    headers = ["metric", "valid", "test"]
    rows = [[metric, (valid or {}).get(metric), value] for metric, value in test.items()]
    if protocol == "paper":
        headers, rows = headers[::2], [row[::2] for row in rows]
    table = tabulate(rows, headers=headers, floatfmt=".4f", missingval="-")
    return table if note is None else f"{table}\n{note}"


def _resumed_config(resume: str | os.PathLike[str], given: Mapping[str, Any]) -> Config:
    """The config of a checkpoint with what this call may change of it."""
    recorded = load_checkpoint(resume)["config"]
    for key, value in given.items():
        if key_of(key).resumable:
            continue
        old, new = recorded.get(key), value
        if key not in recorded and key in KEYS:
            # a key that the former version did not have: what its default comes to in that run
            old = checkpoint_config(recorded, {}).final_config_dict.get(key)
        if isinstance(value, type):
            new = getattr(value, "name", value.__name__) if key in AXES else value.__name__
        # RecBole turns a single metric or K into a list
        if old not in (new, [new]):
            changeable = ", ".join(sorted(key for key in KEYS if key_of(key).resumable))
            allowed = f"the run was started with {old}; a resumed run may change only {changeable}"
            raise UserError.of(key, new, allowed)
    # its files are replaced where they are, wherever this process was started
    here = {"checkpoint_dir": str(Path(resume).parent)}
    return checkpoint_config({**recorded, **here}, given)


def _shows_progress(config: Config) -> bool:
    """Whether to show progress bars: if the user says so, and by default on a terminal."""
    if "show_progress" in config.external_config_dict:
        return config["show_progress"]
    return config["show_progress"] and sys.stderr.isatty()
