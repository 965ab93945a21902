"""One trial: a run of the config at one point, on data that the sweep has read and split."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_hns.config import Config
from recbole_hns.data import data_loaders
from recbole_hns.quick_start import train_and_test
from recbole_hns.sampler import HardNegativeSampler
from recbole_hns.tuning.cluster import Resources

#: What trials leave to no config: the data is prepared before, and there is no terminal.
FORCED = {
    "save_dataset": False,
    "save_dataloaders": False,
    "dataloaders_save_path": None,
    "show_progress": False,
}


@dataclass(frozen=True)
class Job:
    """What all trials of a job share.

    Attributes:
        keys: config keys, over the defaults and under a point's own.
        samplers: sampler classes by the name that ``sampler`` has in keys or point. A class
            travels to processes in which a user's module was never imported.
        points: config keys of each trial.
        files: result file of each trial.
        resources: of a trial.
    """

    keys: Mapping[str, Any]
    samplers: Mapping[str, type[HardNegativeSampler]]
    points: Sequence[Mapping[str, Any]]
    files: Sequence[Path]
    resources: Resources

    def config(self, point: Mapping[str, Any], **more: Any) -> Config:
        """The config of a trial.

        Raises:
            UserError: for a value that is not allowed.
        """
        values = {**self.keys, **point, **FORCED, **more}
        return Config(
            values.pop("model"),
            values.pop("dataset"),
            self.samplers[values.pop("sampler")],
            config_dict=values,
        )


def train_trial(point: dict[str, Any], job: Job, data: Mapping[int, Any]) -> None:
    """Train and test at a point, as ``run`` would, and report every evaluation to Ray.

    The last report is of the whole run. A trial whose result file is complete, from before its
    sweep was interrupted, reports that and trains nothing.

    Args:
        point: the trial's own config keys.
        job: what it shares with the others.
        data: Ray's references to the :class:`recbole_hns.data.Split` of each seed.
    """
    from recbole_hns.tuning.ray_names import ray, report

    file = job.files[job.points.index(point)]
    before = finished_result(file)
    if before is not None:
        report({**outcome(before), "finished": True})
        return
    threads = job.resources.cpus_per_trial
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Ray has set which GPUs are the trial's; RecBole would set the variable to its gpu_id
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if job.resources.gpus_per_trial else ""
    try:
        config = job.config(point, use_gpu=bool(gpus), gpu_id=gpus, checkpoint_dir=str(file.parent))
        split = ray.get(data[config["seed"]])
        for part in (split.train, split.valid, split.test):
            part.config = config
        init_seed(config["seed"], config["reproducibility"])
        train_and_test(
            config,
            data_loaders(config, split),
            result_file=file,
            on_evaluation=lambda record: report(outcome(record.content())),
        )
    except Exception as error:
        # Ray's own account of it is a traceback through Ray
        report({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})
        raise
    report({**outcome(json.loads(file.read_bytes())), "finished": True})


def finished_result(file: Path) -> dict[str, Any] | None:
    """What a result file holds, if its run came to its end."""
    if not file.exists():
        return None
    content = json.loads(file.read_bytes())
    return content if "test_result" in content else None


def outcome(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a run has come to, from the content of its result file.

    Returns:
        ``score``, the best validation score; ``best_epoch``, counted from 0; ``epochs``, how many
        were trained; ``train_seconds`` and ``eval_seconds``, their sums; and the metrics of the
        best epoch, ``valid_ndcg@10`` and, once the run is finished, ``test_ndcg@10``.
    """
    epochs = content["epochs"]
    return {
        "score": content["best_valid_score"],
        "best_epoch": content["best_epoch"],
        "epochs": len(epochs),
        **{f"valid_{key}": value for key, value in content["best_valid_result"].items()},
        **{f"test_{key}": value for key, value in content.get("test_result", {}).items()},
        "train_seconds": sum(epoch["train_seconds"] for epoch in epochs),
        "eval_seconds": sum(epoch.get("eval_seconds", 0.0) for epoch in epochs),
    }
