"""One trial: a run of the config at one point, on data that the sweep has read and split."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_hns.config import Config
from recbole_hns.config.axes import chosen_loss
from recbole_hns.config.keys import forced
from recbole_hns.data.preparation import data_loaders
from recbole_hns.loss.base import Loss
from recbole_hns.quick_start import train_and_test
from recbole_hns.results import SECONDS, Run, read_run
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.training.trainer import EpochEnd
from recbole_hns.tuning.baselines import BASELINES, described, fit_and_test
from recbole_hns.tuning.cluster import Resources


@dataclass(frozen=True)
class Job:
    """What all trials of a job share.

    Attributes:
        keys: config keys, over the defaults and under a point's own.
        samplers: sampler classes by the name that ``sampler`` has in keys or point. A class
            travels to processes in which a user's module was never imported.
        losses: loss classes likewise. Of this package's, names alone do.
        points: config keys of each trial.
        files: result file of each trial.
        resources: of a trial.
    """

    keys: Mapping[str, Any]
    samplers: Mapping[str, type[HardNegativeSampler]]
    losses: Mapping[str, type[Loss]]
    points: Sequence[Mapping[str, Any]]
    files: Sequence[Path]
    resources: Resources

    @classmethod
    def of(
        cls,
        keys: Mapping[str, Any],
        samplers: Mapping[str, type[HardNegativeSampler]],
        points: Sequence[Mapping[str, Any]],
        files: Sequence[Path],
        resources: Resources,
    ) -> Job:
        """A job whose losses are those that keys and points name."""
        losses: dict[str, type[Loss]] = {}
        for point in points:
            values = {**keys, **point}
            if isinstance(values.get("loss"), str) and values["loss"] not in losses:
                losses[values["loss"]] = chosen_loss(samplers[values["sampler"]], values)
        return cls(keys, samplers, losses, points, files, resources)

    def config(self, point: Mapping[str, Any], **more: Any) -> Config:
        """The config of a trial; of a baseline, that of a run on the same data.

        Raises:
            UserError: for a value that is not allowed.
        """
        values = {**self.keys, **point, **forced("trial"), **more}
        name, loss = values.pop("sampler", None), values.pop("loss", None)
        if self.is_baseline(point):
            name, loss = "rns", None
        return Config(
            values.pop("model"),
            values.pop("dataset"),
            self.samplers.get(name, name),
            config_dict=values,
            loss=self.losses.get(loss, loss),
        )

    def is_baseline(self, point: Mapping[str, Any]) -> bool:
        """Whether a trial is of a baseline, whose name stands in place of a sampler's."""
        name = point.get("sampler")
        return name in BASELINES and name not in self.samplers

    def recorded(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The config that the result file of a trial has, but for what only its end tells."""
        config = self.config(point, use_gpu=False)
        if self.is_baseline(point):
            return described(point["sampler"], config)
        return config.final_config_dict


def train_trial(point: dict[str, Any], job: Job, data: Mapping[int, Any]) -> None:
    """Train and test at a point, as ``run`` would, and report every evaluation to Ray.

    The last report is of the whole run. A trial whose result file is complete, from before its
    sweep was interrupted, reports that and trains nothing.

    Args:
        point: the trial's own config keys.
        job: what it shares with the others.
        data: Ray's references to the :class:`recbole_hns.data.Split` of each seed.
    """
    from recbole_hns.tuning.ray_names import report

    file = job.files[job.points.index(point)]
    before = finished_result(file)
    if before is not None:
        report({**outcome(before), "finished": True})
        return
    train_into(file, point, job, data)


def train_into(file: Path, point: Mapping[str, Any], job: Job, data: Mapping[int, Any]) -> None:
    """Train and test at a point, whose result file is named, and report as :func:`train_trial`."""
    from recbole_hns.tuning.ray_names import ray, report

    threads = job.resources.cpus_per_trial
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Ray has set which GPUs are the trial's; RecBole would set the variable to its gpu_id
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if job.resources.gpus_per_trial else ""
    if job.is_baseline(point):
        gpus = ""  # NumPy fits it
    try:
        config = job.config(point, use_gpu=bool(gpus), gpu_id=gpus, checkpoint_dir=str(file.parent))
        split = ray.get(data[config["seed"]])
        for part in (split.train, split.valid, split.test):
            part.config = config
        if job.is_baseline(point):
            fit_and_test(point["sampler"], config, split, file, threads)
        else:
            init_seed(config["seed"], config["reproducibility"])
            train_and_test(
                config,
                data_loaders(config, split),
                result_file=file,
                callbacks=[_report_evaluation],
            )
    except Exception as error:
        # Ray's own account of it is a traceback through Ray
        report({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})
        raise
    report({**outcome(read_run(file)), "finished": True})


def _report_evaluation(end: EpochEnd) -> None:
    """Report to Ray what the run has come to, if the epoch was evaluated."""
    from recbole_hns.tuning.ray_names import report

    if end.valid_score is not None:
        report(outcome(end.trainer.record.content()))


def finished_result(file: Path) -> Run | None:
    """What a result file holds, if its run came to its end."""
    if not file.exists():
        return None
    run = read_run(file)
    return run if run.test_result is not None else None


def outcome(run: Run) -> dict[str, Any]:
    """What a run has come to.

    Returns:
        ``score``, the best validation score; ``best_epoch``, the number of epochs after which it
        was reached; ``epochs``, how many were trained; the sums of their
        :data:`~recbole_hns.results.SECONDS`; and the metrics of the best epoch, ``valid_ndcg@10``
        and, once the run is finished, ``test_ndcg@10``.
    """
    valid, test = run.best_valid_result or {}, run.test_result or {}
    return {
        "score": run.best_valid_score,
        "best_epoch": run.best_epoch,
        "epochs": len(run.epochs),
        **{f"valid_{key}": value for key, value in valid.items()},
        **{f"test_{key}": value for key, value in test.items()},
        **{key: sum(getattr(epoch, key) or 0.0 for epoch in run.epochs) for key in SECONDS},
    }
