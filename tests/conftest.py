"""What several test files share: small data sets as RecBole reads them, and quiet runs."""

import copy
import functools
import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import settings
from ready_split import PARTS
from recbole.config import Config as RecBoleConfig

import recbole_hns
from recbole_hns.batch import Batch
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.quick_start import build_model
from recbole_hns.training.step import batch_losses
from recbole_hns.training.trainer import HardNegativeTrainer

# data this small is not worth a second thread's waiting, least of all on a busy machine
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


@functools.cache
def packaged(path, loader):
    with open(path, encoding="utf-8") as file:
        return yaml.load(file, Loader=loader)


def update_internal_config_dict(self, path):
    """RecBole parses its own files, which stay as they are, for each of thousands of configs."""
    values = copy.deepcopy(packaged(path, self.yaml_loader))
    self.internal_config_dict.update(values or {})
    return values


RecBoleConfig._update_internal_config_dict = update_internal_config_dict

QUIET = {"show_progress": False, "state": "ERROR"}

#: Of sweeps and comparisons.
SHORT = {**QUIET, "epochs": 3, "topk": [5, 10], "metrics": ["Recall", "NDCG"]}
SHORT["valid_metric"] = "NDCG@10"


def pytest_addoption(parser):
    parser.addoption("--device", choices=["cuda", "cpu"], default="cuda", help="of tests/gpu")


@pytest.fixture(autouse=True)
def log_level():
    """The level of the root logger, which each run sets, as it was."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Runs leave saved/ where they are started."""
    monkeypatch.chdir(tmp_path)
    # torch.manual_seed would keep a traceback for each device that there may be later
    generator = torch if torch.cuda.is_available() else torch.default_generator
    generator.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def write_dataset(tmp_path):
    """Write ``dataset/<name>/<name>.inter`` from (user, item) pairs; returns the config keys."""

    def write(pairs, name="toy"):
        folder = tmp_path / "dataset" / name
        folder.mkdir(parents=True)
        lines = ["user_id:token\titem_id:token\ttimestamp:float"]
        lines += [f"u{u}\ti{i}\t{time}" for time, (u, i) in enumerate(pairs)]
        (folder / f"{name}.inter").write_text("\n".join(lines) + "\n")
        return {"dataset": name, "load_col": {"inter": ["user_id", "item_id"]}}

    return write


@pytest.fixture
def toy(write_dataset):
    """A data set of 30 users and 40 items, each user with 6 to 14 items."""
    rng = np.random.default_rng(1)
    pairs = [(u, i) for u in range(30) for i in rng.choice(40, rng.integers(6, 15), replace=False)]
    return write_dataset(pairs)


@pytest.fixture
def write_split(tmp_path):
    """Write a ready split of some of the parts; returns the config keys."""

    def write(*parts):
        folder = tmp_path / "dataset" / "split"
        folder.mkdir(parents=True)
        for part in parts:
            lines = ["user_id:token\titem_id:token", *(f"u{u}\ti{i}" for u, i in PARTS[part])]
            (folder / f"split.{part}.inter").write_text("\n".join(lines) + "\n")
        return {**QUIET, "dataset": "split", "epochs": 3, "topk": 5, "valid_metric": "MRR@5"}

    return write


def prepared(**keys):
    """Config, training loader, validation loader and trainer of a model for the config keys."""
    config = Config(config_dict={**QUIET, **keys})
    recbole_hns.quick_start.init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, create_dataset(config))
    model = build_model(config, train._dataset)
    return config, train, valid, HardNegativeTrainer(config, model)


def first_batch(trainer, train, size=None):
    """The first rows of an epoch, the trainer being ready as ``fit`` makes it."""
    trainer.pool = trainer._pool_of(train)
    batch = next(trainer._batches(train))
    if trainer.adapter.sequential:
        return batch if size is None else trainer.adapter.batch(batch.sequences[:size])
    return Batch.of(batch.user[:size], batch.pos_item[:size])


def step(trainer, batch):
    """The model's loss on a batch and the two sums of scores, as the trainer computes them."""
    batch, pool = trainer._excluding(batch)
    return batch_losses(batch, trainer.adapter, trainer.sampler, trainer.loss, pool)


@pytest.fixture(scope="module")
def ray_session(tmp_path_factory):
    """A session that a user has started before: sweeps use it and leave it."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "theirs.py").write_text(
        "import os, signal\n"
        "from pydantic import Field\n"
        "from recbole_hns import HardNegativeSampler, Loss, Selection\n"
        "class Ranked(HardNegativeSampler):\n"
        "    rank: int = Field(2, ge=1)\n"
        "    def select(self, scores, candidates, part):\n"
        "        return Selection(scores.neg.topk(self.rank, dim=1).indices[:, -1:])\n"
        "class Fatal(HardNegativeSampler):\n"
        "    rank: int = Field(2, ge=1)\n"
        "    def select(self, scores, candidates, part):\n"
        "        if self.rank == 2:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return Selection(scores.neg.topk(self.rank, dim=1).indices[:, -1:])\n"
        "class Steep(Loss):\n"
        "    steepness: float = Field(2.0, gt=0)\n"
        "    def row_losses(self, scores, negatives, part):\n"
        "        return (self.steepness * (scores.neg - scores.pos)).exp().mean(dim=1)\n"
    )
    from recbole_hns.tuning.ray_names import ray  # which takes a second

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([environment()["PYTHONPATH"], str(folder)]))
        # one process: each takes seconds to import what it needs
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def trials(folder="tune"):
    return pd.read_csv(Path(folder) / "trials.csv")


def environment():
    """The environment of a child process that imports this package wherever it runs."""
    return {**os.environ, "PYTHONPATH": str(Path(recbole_hns.__file__).parents[1])}


def arguments(keys):
    return [f"--{key}={value}".replace(" ", "") for key, value in keys.items()]
