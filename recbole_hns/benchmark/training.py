"""An entry under way: its data, model and trainer, trained an epoch at a time."""

from __future__ import annotations

import copy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import recbole.data
import torch
from recbole.utils import get_trainer as get_recbole_trainer
from recbole.utils import init_seed

from recbole_hns.benchmark.entries import Entry, entries
from recbole_hns.benchmark.synthetic import Sizes, write_synthetic
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.data.split import split
from recbole_hns.errors import UserError
from recbole_hns.model.base import replaced
from recbole_hns.quick_start import build_model
from recbole_hns.training.trainer import HardNegativeTrainer

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

    from recbole_hns.config import Config


class Training:
    """Data loaders, model and trainer of an entry; RecBole's own classes for RecBole's entries.

    Epochs are the trainer's ``fit``, one at a time. What is timed is its ``_train_epoch`` and
    ``_valid_epoch``, the times that RecBole logs.

    Args:
        entry: the entry.
        dataset: its data set, filtered, not split.
        eval_step: epochs between evaluations; default none.

    Attributes:
        trainer: the trainer.
        train_data: the training data loader.
        valid_data: the validation data loader.
        train_seconds: of every epoch.
        eval_seconds: of every evaluation.
        valid_results: of every evaluation, as RecBole's ``evaluate`` returns them.

    Raises:
        UserError: if the data cannot be split or a user has no negative item.
    """

    def __init__(self, entry: Entry, dataset: Dataset, eval_step: int = sys.maxsize) -> None:
        config = entry.config
        init_seed(config["seed"], config["reproducibility"])
        # splitting changes the data set; with the same seed, all entries get the same split
        dataset = copy.copy(dataset)
        dataset.config = config
        if entry.recbole is None:
            loaders = data_preparation(config, dataset)
        else:
            try:
                parts = list(split(config, dataset))
                with replaced(dataset, "build", lambda: parts):
                    loaders = recbole.data.data_preparation(config, dataset)
            except (ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
                raise UserError.of("dataset", config["dataset"], f"{error}") from error
        self.train_data, self.valid_data, _ = loaders

        init_seed(config["seed"], config["reproducibility"])
        model = build_model(config, self.train_data._dataset)
        if entry.recbole is None:
            self.trainer = HardNegativeTrainer(config, model)
        else:
            make = get_recbole_trainer(config["MODEL_TYPE"], config["model"])
            self.trainer = make(config, model)
            # NCL's trainer would not
            self.train_data.get_model(model)
        self.trainer.eval_step = eval_step
        self.trainer.stopping_step = sys.maxsize

        self.now = clock(self.trainer.device)
        self.train_seconds: list[float] = []
        self.eval_seconds: list[float] = []
        self.valid_results: list[dict[str, float]] = []
        self._time("_train_epoch", self.train_seconds)
        self._time("_valid_epoch", self.eval_seconds, lambda r: self.valid_results.append(r[1]))

    def _time(
        self, name: str, seconds: list[float], keep: Callable[[Any], object] | None = None
    ) -> None:
        """Have the trainer's method ``name`` add the time of each call to ``seconds``."""
        method = getattr(self.trainer, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            result = method(*args, **kwargs)
            seconds.append(self.now() - start)
            if keep:
                keep(result)
            return result

        setattr(self.trainer, name, timed)

    def train_epoch(self) -> float:
        """Train the next epoch, and evaluate where it is due; returns the training seconds."""
        epoch = len(self.train_seconds)
        self.trainer.start_epoch, self.trainer.epochs = epoch, epoch + 1
        self.trainer.fit(self.train_data, self.valid_data, verbose=False, saved=False)
        return self.train_seconds[-1]

    def close(self) -> None:
        """Close the trainer's TensorBoard file."""
        self.trainer.tensorboard.close()


def warm_up_process(config: Config) -> None:
    """Train on a handful of data, so that what is loaded at first use counts for no entry.

    Args:
        config: names the device, and where trainers may leave files.
    """
    with tempfile.TemporaryDirectory() as folder:
        keys = write_synthetic(Sizes(20, 20, 100), 0, Path(folder))
        keys.update({key: config[key] for key in ("use_gpu", "gpu_id", "checkpoint_dir")})
        for entry in entries(keys, samplers="rns", recbole="uniform"):
            training = Training(entry, create_dataset(entry.config))
            training.train_epoch()
            training.close()


def clock(device: torch.device) -> Callable[[], float]:
    """A clock in seconds, to be read once ``device`` has done all it was given."""
    if device.type != "cuda":
        return time.perf_counter

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Have PyTorch use so many threads within; None leaves it as it is."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
