"""RecBole's ``Trainer`` with the negatives of a sampler."""

from __future__ import annotations

import copy
import itertools
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from recbole.trainer import NCLTrainer, Trainer
from recbole.utils import get_gpu_usage, get_local_time, set_color
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_hns.checkpoint import (
    DOES_NOT_FIT,
    load_best,
    load_checkpoint,
    load_optimizer,
    plain,
    random_state,
    save_checkpoint,
    set_random_state,
)
from recbole_hns.data.candidates import CandidateSampler
from recbole_hns.errors import UserError
from recbole_hns.model import pairwise_model
from recbole_hns.model.base import Losses
from recbole_hns.model.predicted import PREDICT_PAIRS, PredictedModel
from recbole_hns.record import RunRecord

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_hns.config import Config


#: Bytes that scoring, choosing and learning take for each pair of a positive and a candidate, with
#: the sampler and the model that take most.
PAIR_BYTES = 64


class HardNegativeTrainer(Trainer):
    """Trains a pairwise RecBole model with the negatives that ``config.sampler`` chooses.

    Logging, TensorBoard, early stopping and evaluation are RecBole's. A batch is drawn, scored,
    selected from and learnt without leaving the device; loss and hardness are read once an epoch.
    After every epoch the checkpoint and the result file are replaced. The checkpoint holds the
    parameters of the best epoch, which evaluation loads, and under ``last`` all that
    :meth:`resume_checkpoint` needs to go on from the last epoch.

    Attributes:
        kept_between_epochs: attributes of the model, beside its parameters, that an epoch leaves
            to the next.
        sampler: the sampler.
        record: the content of the result file.
        hardness: mean negative hardness of the last epoch: sum of the chosen negatives' scores
            (weighted) over the sum of the positives' scores.
    """

    kept_between_epochs: ClassVar[tuple[str, ...]] = ()
    test_batch_size: int

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        # its state is this trainer's, not that of others with the same config
        self.sampler = copy.deepcopy(config.sampler)
        self.sampler.setup(model, config["epochs"])
        self.sampler.to(config["device"])
        super().__init__(config, model)
        self.pairwise = pairwise_model(model, type(self.sampler))
        self.sampler.attach(self.pairwise)
        if isinstance(self.pairwise, PredictedModel):
            # evaluation goes through `predict` as well
            self.test_batch_size = min(self.test_batch_size, PREDICT_PAIRS)
        # runs that start in the same second must not share their files
        name = f"{config['model']}-{self.sampler.name}-{get_local_time()}-{secrets.token_hex(3)}"
        self._name_files(Path(self.checkpoint_dir) / f"{name}.pth")
        self.hardness: float | None = None
        self._saved, self._keeps_checkpoint = False, True
        self._best: dict[str, Any] | None = None
        self._best_epoch = -1
        self._loader_state: Tensor | None = None

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        learnt = itertools.chain(self.model.parameters(), self.sampler.parameters())
        optimizer = super()._build_optimizer(**{"params": learnt, **kwargs})
        # the same update in one pass over the parameters, which is half an epoch of MF otherwise
        if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            for group in optimizer.param_groups:
                group.update(fused=True, foreach=False)
        return optimizer

    def _name_files(self, checkpoint: Path) -> None:
        self.saved_model_file = str(checkpoint)
        self.record = RunRecord(checkpoint.with_suffix(".json"), self.config.final_config_dict)

    def write_only_results(self, path: Path) -> None:
        """Have :meth:`fit` write the result file ``path`` and no checkpoint.

        The best parameters stay in memory, where :meth:`evaluate` takes them from.
        """
        self._name_files(path.with_suffix(".pth"))
        self._keeps_checkpoint = False

    # --- training -------------------------------------------------------------------------------

    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """Train, as RecBole's ``Trainer.fit``; with ``saved``, files are replaced every epoch."""
        self._saved, self._train_data = saved, train_data
        self._evaluates = bool(valid_data) and self.eval_step > 0
        self._candidates = self._candidate_sampler(train_data)
        if self._loader_state is not None:
            train_data.generator.set_state(self._loader_state)
        if self.cur_step > self.stopping_step:
            self.logger.info("The run had stopped early; there is nothing left to train.")
            self.eval_collector.data_collect(train_data)
            return self.best_valid_score, self.best_valid_result

        def end_of_evaluated_epoch(epoch_idx: int, valid_score: float) -> None:
            self._end_epoch(epoch_idx)
            if callback_fn:
                callback_fn(epoch_idx, valid_score)

        return super().fit(
            train_data, valid_data, verbose, saved, show_progress, end_of_evaluated_epoch
        )

    def _candidate_sampler(self, train_data: AbstractDataLoader) -> CandidateSampler:
        candidates = train_data._sampler
        if not isinstance(candidates, CandidateSampler):
            candidates = CandidateSampler.of(train_data._dataset)
        sampler = self.sampler
        return candidates.with_distribution(sampler.candidate_distribution, sampler.candidate_alpha)

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        """Train one epoch; returns the losses summed over its batches, as RecBole's."""
        start = time.perf_counter()
        # from the epoch alone, so that a resumed run has it too
        decays = epoch_idx // self.config["lr_decay_step"]
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * self.config["lr_decay"] ** decays
        self.model.train()
        self.sampler.start_epoch(epoch_idx)
        with torch.no_grad():
            self.sampler.refresh(self.pairwise, self._candidates, self._pairs_in_memory())
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        batches = tqdm(
            self._batches(train_data),
            total=len(train_data),
            ncols=100,
            desc=set_color(f"Train {epoch_idx:>5}", "pink"),
            disable=not show_progress,
        )
        totals: list[Tensor] = []
        score_sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for user, pos_item in batches:
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, enabled=self.enable_amp):
                losses, scores = self._batch_losses(user, pos_item)
            parts = self._active(losses, epoch_idx) if isinstance(losses, tuple) else (losses,)
            scaler.scale(reduce(torch.add, (part.sum() for part in parts))).backward()
            if self.clip_grad_norm:
                scaler.unscale_(self.optimizer)
                clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
            scaler.step(self.optimizer)
            scaler.update()
            detached = [part.detach().sum().double() for part in parts]
            totals = [a + b for a, b in zip(totals, detached, strict=True)] if totals else detached
            score_sums += scores
            if self.gpu_available and show_progress:
                usage = get_gpu_usage(self.device)
                batches.set_postfix_str(set_color(f"GPU RAM: {usage}", "yellow"))

        # the one time an epoch that the device is waited for
        sums = [total.item() for total in totals]
        self._check_nan(torch.tensor(sum(sums)))
        negative, positive = score_sums.tolist()
        self.hardness = negative / positive if positive else None
        entry = {
            "epoch": epoch_idx,
            "train_loss": sum(sums),
            "train_seconds": time.perf_counter() - start,
            "hardness": self.hardness,
        }
        self.record.epochs.append(entry)
        if self.hardness is not None:
            self.tensorboard.add_scalar("Hardness/Train", self.hardness, epoch_idx)
        if not self._evaluates:
            self._keep_as_best(epoch_idx)
        if not self._evaluates or (epoch_idx + 1) % self.eval_step:
            self._end_epoch(epoch_idx)
        return tuple(sums) if isinstance(losses, tuple) else sums[0]

    def _check_nan(self, loss: Tensor) -> None:
        if torch.isnan(loss):
            allowed = "must be smaller, or the loss better behaved: Training loss is nan"
            raise UserError.of("learning_rate", self.learning_rate, allowed)

    def _batches(self, train_data: AbstractDataLoader) -> Iterator[tuple[Tensor, Tensor]]:
        """Users and positives, batch by batch, in the order in which ``train_data`` has them.

        The loader would index a Python list and collate on the CPU; here the whole epoch is
        shuffled on the device, by the numbers that the loader draws from its generator.
        """
        inter_feat = train_data._dataset.inter_feat
        user = inter_feat[train_data._dataset.uid_field].to(self.device)
        item = inter_feat[train_data._dataset.iid_field].to(self.device)
        if train_data.shuffle:
            generator = train_data.generator
            # the loader's seed for workers, then the order, then its sampler's empty remainder
            torch.empty((), dtype=torch.int64).random_(generator=generator)
            order = torch.randperm(len(user), generator=generator).to(self.device)
            torch.randperm(len(user), generator=generator)
            user, item = user[order], item[order]
        size = train_data.step
        return zip(user.split(size), item.split(size), strict=True)

    def _batch_losses(self, user: Tensor, pos_item: Tensor) -> tuple[Losses, Tensor]:
        """The model's loss on a batch, and the two sums that hardness is the ratio of.

        Args:
            user: ``[batch]``, int64.
            pos_item: ``[batch]``, int64.

        Returns:
            The loss, and ``[2]``: the chosen negatives' scores, weighted, and the positives'.
        """
        with self.pairwise.step():
            self.sampler.start_batch(user, pos_item)
            num = self.sampler.scored_num(self._candidates.item_num)
            size = self._pairs_in_memory() // num + 1
            return self.pairwise.learn(user, pos_item, size, self._candidates, self.sampler)

    def _pairs_in_memory(self) -> int:
        """Pairs of a user and an item that ``step_memory`` has room for."""
        rows = self.sampler.rows_per_pair * self.pairwise.row_bytes
        return self.config["step_memory"] * 2**20 // (PAIR_BYTES + rows)

    def _active(self, losses: tuple[Tensor, ...], epoch_idx: int) -> tuple[Tensor, ...]:
        """The parts of the loss that this epoch trains with."""
        return losses

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: float | tuple[float, ...]
    ) -> str:
        line = super()._generate_train_loss_output(epoch_idx, s_time, e_time, losses)
        if self.hardness is None:
            return line
        return f"{line[:-1]}, {set_color('hardness', 'blue')}: {self.hardness:.4f}]"

    def _valid_epoch(
        self, valid_data: AbstractDataLoader, show_progress: bool = False
    ) -> tuple[float, dict[str, float]]:
        start = time.perf_counter()
        valid_score, valid_result = super()._valid_epoch(valid_data, show_progress)
        self.record.epochs[-1]["eval_seconds"] = time.perf_counter() - start
        self.record.epochs[-1].update(plain(valid_result))
        return valid_score, valid_result

    def evaluate(
        self,
        eval_data: AbstractDataLoader,
        load_best_model: bool = True,
        model_file: str | os.PathLike[str] | None = None,
        show_progress: bool = False,
    ) -> dict[str, float]:
        """Evaluate, as RecBole's; without a checkpoint, with the best parameters in memory."""
        if load_best_model and not model_file and not self._keeps_checkpoint and self._best:
            self.model.load_state_dict(self._best["state_dict"])
            other = _copied(self._best["other_parameter"], self.device)
            self.model.load_other_parameter(other)
            load_best_model = False
        return super().evaluate(eval_data, load_best_model, model_file, show_progress)

    # --- files ----------------------------------------------------------------------------------

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Keep the parameters as the best so far; they are written at the end of the epoch."""
        if epoch < 0:  # RecBole's call for a run without epochs left, whose file is there already
            return
        if epoch != self._best_epoch:
            self._keep_as_best(epoch)
        if verbose:
            saving = set_color("Saving current", "blue")
            self.logger.info(f"{saving}: {self.saved_model_file}")

    def _keep_as_best(self, epoch: int) -> None:
        self._best_epoch = epoch
        self._best = {
            "state_dict": _copied(self.model.state_dict()),
            "other_parameter": _copied(self.model.other_parameter()),
        }

    def _end_epoch(self, epoch: int) -> None:
        """Replace the checkpoint and the result file."""
        self._record_best()
        if not self._saved:
            return
        if self._keeps_checkpoint:
            save_checkpoint(self._state(epoch), self.saved_model_file)
        self.record.write()

    def _record_best(self) -> None:
        self.record.results.update(
            best_epoch=self._best_epoch,
            best_valid_score=self.best_valid_score if self.best_valid_result else None,
            best_valid_result=self.best_valid_result,
        )

    def _state(self, epoch: int) -> dict[str, Any]:
        """All of a checkpoint, as plain data."""
        best = self._best or {"state_dict": self.model.state_dict(), "other_parameter": {}}
        return {
            "config": plain(self.config.resolved()),
            "epoch": self._best_epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": plain(self.best_valid_result),
            **best,
            "last": {
                "epoch": epoch,
                # the same tensors where the last epoch is the best, which are stored once
                "state_dict": best["state_dict"]
                if epoch == self._best_epoch
                else self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "sampler": self.sampler.state_dict(),
                "between_epochs": {
                    name: getattr(self.model, name) for name in self.kept_between_epochs
                },
                "random": random_state(),
                "loader": self._train_data.generator.get_state(),
                "epochs": plain(self.record.epochs),
            },
        }

    def resume_checkpoint(self, resume_file: str | os.PathLike[str]) -> None:
        """Go on, in :meth:`fit`, after the last epoch of an interrupted run, with its files.

        Raises:
            UserError: if the file is no checkpoint of this package's.
        """
        state = load_checkpoint(resume_file, self.device)
        last = state["last"]
        self._name_files(Path(resume_file))
        try:
            load_best(self.model, state)  # evaluation will read it from the file
            self.model.load_state_dict(last["state_dict"])
            load_optimizer(self.optimizer, last["optimizer"])
            self.sampler.load_state_dict(last["sampler"])
            for name in self.kept_between_epochs:
                setattr(self.model, name, last["between_epochs"][name])
            self._loader_state = last["loader"].cpu()
            torch.Generator().set_state(self._loader_state)
            set_random_state(last["random"])
        except DOES_NOT_FIT as error:
            reason = "must be a checkpoint of a run on the same data set; it does not fit this one"
            raise UserError.of("resume", resume_file, f"{reason}: {error}") from error
        self.record.epochs = last["epochs"]
        self.start_epoch = last["epoch"] + 1
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"]
        self._best_epoch = state["epoch"]
        if self._best_epoch >= 0:
            self._best = {key: state[key] for key in ("state_dict", "other_parameter")}
        self._record_best()
        self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")

    def write_test_result(self, result: Mapping[str, float]) -> None:
        """Add the final test metrics to the result file."""
        self.record.results["test_result"] = result
        if self._saved:
            self.record.write()


class HardNegativeNCLTrainer(HardNegativeTrainer, NCLTrainer):
    """The same for NCL, whose trainer clusters before an epoch and warms up."""

    kept_between_epochs = ("user_centroids", "user_2cluster", "item_centroids", "item_2cluster")

    def _active(self, losses: tuple[Tensor, ...], epoch_idx: int) -> tuple[Tensor, ...]:
        return losses[:-1] if epoch_idx < self.config["warm_up_step"] else losses


def get_trainer(model_name: str) -> type[HardNegativeTrainer]:
    """The trainer class for a model."""
    return HardNegativeNCLTrainer if model_name == "NCL" else HardNegativeTrainer


def _copied(tensors: Mapping[str, Any], device: torch.device | str = "cpu") -> dict[str, Any]:
    return {
        key: value.detach().to(device, copy=True) if isinstance(value, Tensor) else value
        for key, value in tensors.items()
    }
