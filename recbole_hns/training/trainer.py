"""RecBole's ``Trainer`` with a sampler, a loss and an adapter for the model."""

from __future__ import annotations

import copy
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial, reduce
from itertools import chain
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from recbole.trainer import Trainer
from recbole.utils import dict2str, early_stopping, get_gpu_usage, get_local_time, set_color
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_hns.batch import Batch
from recbole_hns.component import Component
from recbole_hns.data import NegativePool
from recbole_hns.data.dataset import check_tokens
from recbole_hns.errors import UserError
from recbole_hns.evaluation import Collector
from recbole_hns.evaluation.own_users import own_pairs, own_users
from recbole_hns.evaluation.top_items import Ranking
from recbole_hns.files import plain
from recbole_hns.loss import Loss
from recbole_hns.model import ModelAdapter, make_adapter, predict_by_cosine
from recbole_hns.model.embeddings import EmbeddingAdapter
from recbole_hns.model.predicted import PREDICT_PAIRS
from recbole_hns.model.sequential import SequentialAdapter
from recbole_hns.ops import devices, workers
from recbole_hns.ops.allocator import keep_freed_memory
from recbole_hns.ops.lazy_adam import LazyAdam
from recbole_hns.ops.optimizer import load_optimizer
from recbole_hns.ops.row_optimizers import ROW_OPTIMIZERS
from recbole_hns.results import RunRecord
from recbole_hns.sampler import HardNegativeSampler
from recbole_hns.training.checkpoint import (
    DOES_NOT_FIT,
    FORMAT,
    check_archive,
    checked_generator_state,
    load_best,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from recbole_hns.training.step import batch_losses

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_hns.config import Config


#: Those that RecBole does not have, or has in another form, by the name that ``learner`` gives.
OPTIMIZERS = {"adam": LazyAdam, **ROW_OPTIMIZERS}


#: Early stopping before so many batches is one that noise may have caused.
FEW_STEPS = 500


def _is_ours(part: Component) -> bool:
    return type(part).__module__.startswith("recbole_hns.")


class EpochEnd(NamedTuple):
    """What a callback is given at the end of an epoch.

    Attributes:
        trainer: the trainer; its ``model`` has the epoch's parameters.
        epochs: how many epochs have been trained.
        record: the epoch's entry of the result file.
        valid_score: the epoch's ``valid_metric``; None if it was not evaluated.
    """

    trainer: HardNegativeTrainer
    epochs: int
    record: Mapping[str, Any]
    valid_score: float | None


Callback = Callable[[EpochEnd], object]


class HardNegativeTrainer(Trainer):
    """Trains a pairwise RecBole model with ``config.sampler`` and ``config.loss``.

    Logging, TensorBoard, early stopping and evaluation are RecBole's. A batch is drawn, scored,
    selected from and learned from without leaving the device; loss and hardness are read once an
    epoch. After every epoch the checkpoint and the result file are replaced. The checkpoint holds
    the parameters of the best epoch, which evaluation loads, and under ``last`` all that
    :meth:`resume_checkpoint` needs to go on from the last epoch.

    Attributes:
        adapter: the model's adapter.
        sampler: the sampler.
        loss: the loss.
        pool: what candidates are drawn from, once :meth:`fit` was called.
        record: the content of the result file.
        hardness: mean negative hardness of the last epoch: sum of the selected negatives' scores
            (weighted) over the sum of the positives' scores.
    """

    test_batch_size: int
    cur_step: int
    best_valid_score: float
    best_valid_result: dict[str, float] | None
    pool: NegativePool

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        try:
            self._make(config, model)
        except BaseException:
            # which nobody else can, as there is no trainer
            with suppress(AttributeError, OSError):
                self.tensorboard.close()
            raise

    def _make(self, config: Config, model: AbstractRecommender) -> None:
        # their state is this trainer's, not that of others with the same config
        self.sampler: HardNegativeSampler = copy.deepcopy(config.sampler)
        self.loss: Loss = copy.deepcopy(config.loss)
        for part in (self.sampler, self.loss):
            part.setup(model, config["epochs"])
            part.to(config["device"])
        super().__init__(config, model)
        self.adapter: ModelAdapter = make_adapter(model, config)
        if isinstance(self.optimizer, LazyAdam):
            self.adapter.before_read = self.optimizer.read
        self.adapter.steps_by_rows = isinstance(self.optimizer, tuple(ROW_OPTIMIZERS.values()))
        if config["eval_similarity"] == "cosine":
            predict_by_cosine(self.adapter)
        if not self.adapter.has_embeddings:
            # evaluation goes through `predict` as well
            self.test_batch_size = min(self.test_batch_size, PREDICT_PAIRS)
        # runs that start in the same second must not share their files
        name = f"{config['model']}-{self.sampler.name}-{get_local_time()}-{secrets.token_hex(3)}"
        self._name_files(Path(self.checkpoint_dir) / f"{workers.of_first(name)}.pth")
        self.hardness: float | None = None
        self._saved, self._keeps_checkpoint = False, True
        self._best: dict[str, Any] | None = None
        self._best_epoch = -1
        self._loader_state: Tensor | None = None
        self._tokens: str | None = None
        self._ranking: Ranking | None = None
        self._ranking_known = True

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        decay, reg_weight = self.weight_decay, self.config["reg_weight"]
        if decay and reg_weight and "reg_weight" not in self.config.external_config_dict:
            self.logger.warning(
                f"weight_decay={decay} comes on top of reg_weight={reg_weight}, the model's "
                "default; reg_weight=0 leaves it out"
            )
        common, groups = list(self.model.parameters()), []
        for part in (self.sampler, self.loss):
            if part.own_learning_rate is None:
                common += part.parameters()
            else:
                group = {"params": list(part.parameters()), "lr": part.own_learning_rate}
                groups.append({**group, "weight_decay": 0.0})
        groups.insert(0, {"params": common, "weight_decay": decay})
        learner = kwargs.get("learner", self.learner)
        if learner in OPTIMIZERS:
            modules = self.model.modules()
            tables = [m.weight for m in modules if isinstance(m, torch.nn.Embedding)]
            theirs = not all(map(_is_ours, (self.sampler, self.loss)))
            if learner == "adam" and (theirs or workers.active()):
                # theirs may look at a table by themselves; and a row that workers read at different
                # times would have other last digits at each
                tables = []
            # the adapter is made later
            optimizer = OPTIMIZERS[learner](
                groups, self.learning_rate, tables, lambda: self.adapter.touched_rows()
            )
        else:
            # RecBole warns of two kinds of L2, also where both were asked for, if told of them
            optimizer = super()._build_optimizer(
                **{"params": groups, **kwargs, "weight_decay": 0.0}
            )
        self._first_rates = [group["lr"] for group in optimizer.param_groups]
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
        callbacks: Sequence[Callback] = (),
    ) -> tuple[float, dict[str, float] | None]:
        """Train, and evaluate every ``eval_step`` epochs, until the epochs or patience end.

        Args:
            train_data: the training data loader.
            valid_data: the validation data loader; None evaluates nothing.
            verbose: whether to log.
            saved: whether to replace checkpoint and result file after every epoch.
            show_progress: whether to show a progress bar.
            callbacks: called in order at the end of every epoch, after the files are replaced. Of
                several workers, the first calls them; those with an attribute ``every_worker`` that
                is true are then called by all.

        Returns:
            The best validation score and result, as RecBole's ``Trainer.fit``.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        self._saved, self._train_data = saved and workers.first(), train_data
        file = self.saved_model_file
        self._tokens = check_tokens(train_data._dataset, self._tokens, "resume", file)
        self.pool = self._pool_of(train_data)
        self.eval_collector.data_collect(train_data)
        if self._loader_state is not None:
            train_data.generator.set_state(self._loader_state)
        if self.cur_step > self.stopping_step:
            self.logger.info("The run had stopped early; there is nothing left to train.")
            return self.best_valid_score, self.best_valid_result

        evaluates = bool(valid_data) and self.eval_step > 0
        every_worker = [each for each in callbacks if getattr(each, "every_worker", False)]
        others = [each for each in callbacks if each not in every_worker]
        end_of_epoch: list[Callback] = [self._write_files, self._warn, *others]
        for epoch in range(self.start_epoch, self.epochs):
            start = time.time()
            losses = self._train_epoch(train_data, epoch, show_progress=show_progress)
            self._log_training(epoch, start, losses, verbose)
            score, stops = None, False
            if not evaluates:
                self._keep_as_best(epoch)
            elif (epoch + 1) % self.eval_step == 0:
                score, stops = self._validate(epoch, valid_data, verbose, show_progress)
            end = EpochEnd(self, epoch + 1, self.record.epochs[-1], score)
            with workers.together():
                if workers.first():
                    for action in end_of_epoch:
                        action(end)
            for action in every_worker:
                action(end)
            if stops:
                if verbose:
                    best = f"Finished training, best eval result after {self._best_epoch + 1}"
                    self.logger.info(f"{best} epochs")
                steps = len(self.record.epochs) * len(train_data)
                if steps < FEW_STEPS:
                    self.logger.warning(
                        f"Training stopped after {steps} batches, {len(train_data)} an epoch, "
                        "which are few to learn from; a smaller train_batch_size, or a larger "
                        "learning_rate or stopping_step, may be far better"
                    )
                break
        self._add_hparam_to_tensorboard(self.best_valid_score)
        return self.best_valid_score, self.best_valid_result

    def _pool_of(self, train_data: AbstractDataLoader) -> NegativePool:
        sampler = train_data._sampler
        pool = getattr(sampler, "pool", None)
        if not isinstance(pool, NegativePool):
            pool = NegativePool.of(train_data._dataset)
        ours = self.sampler
        pool = pool.with_distribution(ours.candidate_distribution, ours.candidate_alpha)
        return pool.of_items() if self.config["candidate_exclude"] == "target" else pool

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        """Train one epoch; returns the losses summed over its batches, as RecBole's."""
        start, cpu_start = time.perf_counter(), time.process_time()
        self._agree_on_draws()
        self._start_epoch(epoch_idx)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        batches = tqdm(
            self._batches(train_data),
            total=len(train_data),
            ncols=100,
            desc=set_color(f"Train {epoch_idx + 1:>5}", "pink"),
            disable=not show_progress,
        )
        totals: list[Tensor] = []
        score_sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        with ExitStack() as stack:
            if isinstance(self.optimizer, LazyAdam):
                # also after an epoch that is interrupted
                stack.callback(self.optimizer.read_all)
            for batch in batches:
                self.optimizer.zero_grad()
                batch, pool = self._excluding(batch)
                with torch.autocast(self.device.type, enabled=self.enable_amp):
                    losses, scores = batch_losses(
                        batch, self.adapter, self.sampler, self.loss, pool
                    )
                if isinstance(losses, tuple):
                    parts = self.adapter.active(losses, epoch_idx)
                else:
                    parts = (losses,)
                scaler.scale(reduce(torch.add, (part.sum() for part in parts))).backward()
                workers.average(self._parameters(), self.adapter.touched_rows)
                if self.clip_grad_norm:
                    scaler.unscale_(self.optimizer)
                    clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
                scaler.step(self.optimizer)
                scaler.update()
                detached = [part.detach().sum().double() for part in parts]
                totals = (
                    [a + b for a, b in zip(totals, detached, strict=True)] if totals else detached
                )
                score_sums += scores
                if self.gpu_available and show_progress:
                    usage = get_gpu_usage(self.device)
                    batches.set_postfix_str(set_color(f"GPU RAM: {usage}", "yellow"))

        # the one time an epoch that the device is waited for
        totals, score_sums = [workers.mean(total) for total in totals], workers.mean(score_sums)
        sums = [total.item() for total in totals]
        with workers.together():
            self._check_nan(torch.tensor(sum(sums)))
        negative, positive = score_sums.tolist()
        self.hardness = negative / positive if positive else None
        entry = {
            "epoch": epoch_idx + 1,
            "train_loss": sum(sums),
            "train_seconds": time.perf_counter() - start,
            "train_cpu_seconds": time.process_time() - cpu_start,
            "hardness": self.hardness,
        }
        self.record.epochs.append(entry)
        if self.hardness is not None:
            self.tensorboard.add_scalar("Hardness/Train", self.hardness, epoch_idx)
        return tuple(sums) if isinstance(losses, tuple) else sums[0]

    def _parameters(self) -> Iterator[Tensor]:
        """All that is learned."""
        return chain.from_iterable(group["params"] for group in self.optimizer.param_groups)

    def _agree_on_draws(self) -> None:
        """Have all workers draw as the first, whose callbacks may have drawn, would alone."""
        if workers.number() > 1:
            state = {**random_state(), "cuda": []}
            device = self.device.type == "cuda" and torch.cuda.get_rng_state(self.device)
            state, device = workers.of_first((state, device))
            set_random_state(state)
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(device, self.device)

    def _start_epoch(self, epoch: int) -> None:
        # from the epoch alone, so that a resumed run has it too
        decays = epoch // self.config["lr_decay_step"]
        for group, rate in zip(self.optimizer.param_groups, self._first_rates, strict=True):
            group["lr"] = rate * self.config["lr_decay"] ** decays
        self.adapter.start_epoch(epoch)
        self.model.train()
        for part in (self.sampler, self.loss):
            part.epoch = epoch
            # a graph model propagates only for those who look at it
            if type(part).start_epoch is not Component.start_epoch:
                with torch.no_grad(), self.adapter.encode() as encoded:
                    part.start_epoch(epoch, encoded, self.pool)

    def _check_nan(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            allowed = f"must be smaller, or the loss better behaved: Training loss is {loss.item()}"
            raise UserError.of("learning_rate", self.learning_rate, allowed)

    def _batches(self, train_data: AbstractDataLoader) -> Iterator[Batch]:
        """The batches of an epoch, in the order in which ``train_data`` has them.

        RecBole's loader would index a Python list and collate on the CPU; here the whole epoch is
        shuffled on the device, by the numbers that the loader draws from its generator.
        """
        dataset, size = train_data._dataset, train_data.step
        order = None
        if train_data.shuffle:
            generator, num = train_data.generator, len(dataset)
            # the loader's seed for workers, then the order, then its sampler's empty remainder
            torch.empty((), dtype=torch.int64).random_(generator=generator)
            order = torch.randperm(num, generator=generator)
            torch.randperm(num, generator=generator)
        if isinstance(self.adapter, SequentialAdapter):
            order = torch.arange(len(dataset)) if order is None else order
            return map(partial(self._batch_of, train_data), order.split(size))
        user = dataset.inter_feat[dataset.uid_field].to(self.device)
        item = dataset.inter_feat[dataset.iid_field].to(self.device)
        if order is not None:
            order = order.to(self.device)
            user, item = user[order], item[order]
        return map(Batch.of, user.split(size), item.split(size))

    def _batch_of(self, train_data: AbstractDataLoader, index: Tensor) -> Batch:
        """The sequences at ``index``, of which only a batch at a time is on the device."""
        dataset = train_data._dataset
        interaction = train_data.transform(dataset, dataset[index])
        assert isinstance(self.adapter, SequentialAdapter)
        return self.adapter.batch(interaction.to(self.device))

    def _excluding(self, batch: Batch) -> tuple[Batch, NegativePool]:
        """A batch and what its candidates are drawn from, by ``candidate_exclude``."""
        exclude = self.config["candidate_exclude"]
        if exclude == "target":
            return batch._replace(excluded_by=batch.pos_item), self.pool
        if exclude == "sequence":
            assert isinstance(self.adapter, SequentialAdapter)
            sequence, items = self.adapter.own_items(batch)
            return batch._replace(excluded_by=sequence), self.pool.of_rows(items)
        return batch, self.pool

    def _log_training(
        self, epoch: int, start: float, losses: float | tuple[float, ...], verbose: bool
    ) -> None:
        if verbose:
            line = self._generate_train_loss_output(epoch + 1, start, time.time(), losses)
            if self.hardness is not None:
                line = f"{line[:-1]}, {set_color('hardness', 'blue')}: {self.hardness:.4f}]"
            self.logger.info(line)
        self.train_loss_dict[epoch] = self.record.epochs[-1]["train_loss"]
        self._add_train_loss_to_tensorboard(epoch, losses)
        logged = {"epoch": epoch, "train_loss": self.train_loss_dict[epoch], "train_step": epoch}
        if self.hardness is not None:
            logged["hardness"] = self.hardness
        self.wandblogger.log_metrics(logged, head="train")

    def _validate(
        self, epoch: int, valid_data: Any, verbose: bool, show_progress: bool
    ) -> tuple[float, bool]:
        """Evaluate the epoch, and keep it if it is the best; returns score and whether to stop."""
        start = time.time()
        score, result = self._valid_epoch(valid_data, show_progress=show_progress)
        self.best_valid_score, self.cur_step, stops, best = early_stopping(
            score,
            self.best_valid_score,
            self.cur_step,
            max_step=self.stopping_step,
            bigger=self.valid_metric_bigger,
        )
        if verbose:
            title, seconds = (
                set_color(f"epoch {epoch + 1} evaluating", "green"),
                time.time() - start,
            )
            named = [f"{set_color('time', 'blue')}: {seconds:.2f}s"]
            named.append(f"{set_color('valid_score', 'blue')}: {score:f}")
            self.logger.info(f"{title} [{', '.join(named)}]")
            self.logger.info(f"{set_color('valid result', 'blue')}: \n{dict2str(result)}")
        self.tensorboard.add_scalar("Vaild_score", score, epoch)
        step = (epoch + 1) // self.eval_step - 1
        self.wandblogger.log_metrics({**result, "valid_step": step}, head="valid")
        if best:
            self._keep_as_best(epoch)
            self.best_valid_result = result
            if verbose and self._saved:
                saving = set_color("Saving current", "blue")
                self.logger.info(f"{saving}: {self.saved_model_file}")
        return score, stops

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
        if load_best_model and model_file:
            check_archive(model_file, "model_file")
        # what the first worker wrote may be on another machine
        in_memory = workers.active() or not self._keeps_checkpoint
        if load_best_model and not model_file and in_memory and self._best:
            self.model.load_state_dict(self._best["state_dict"])
            other = _copied(self._best["other_parameter"], self.device)
            self.model.load_other_parameter(other)
            load_best_model = False
        self._ranking, self._ranking_known = None, False
        try:
            return super().evaluate(eval_data, load_best_model, model_file, show_progress)
        finally:
            self._ranking, self._ranking_known = None, True

    def _full_sort_batch_eval(self, batched_data: tuple[Any, ...]) -> tuple[Any, ...]:
        """As RecBole's, with the first K items in place of all scores where these will do."""
        if not self._ranking_known:
            self._ranking, self._ranking_known = self._make_ranking(), True
        interaction, history, *positives = batched_data = own_users(batched_data)
        if not len(interaction):
            return interaction, torch.zeros(0, self.tot_item_num, device=self.device), *positives
        if self._ranking is None or history is None:
            return super()._full_sort_batch_eval(batched_data)
        user = interaction[self.config["USER_ID_FIELD"]]
        return interaction, self._ranking.top(user, *history), *positives

    def _neg_sample_batch_eval(self, batched_data: tuple[Any, ...]) -> tuple[Any, ...]:
        """As RecBole's."""
        interaction, row, *positives = batched_data = own_pairs(batched_data)
        if not len(interaction):
            shape = (0,) if row is None else (0, self.tot_item_num)
            return interaction, torch.zeros(shape, device=self.device), *positives
        return super()._neg_sample_batch_eval(batched_data)

    def _make_ranking(self) -> Ranking | None:
        """What ranks by the model's tables as they are now; None where all scores are needed."""
        collector, adapter = self.eval_collector, self.adapter
        if not (isinstance(collector, Collector) and collector.of_top_items):
            return None
        tables = adapter.predicted_tables() if isinstance(adapter, EmbeddingAdapter) else None
        # another device is kept busy by all scores of a batch
        if tables is None or not all(map(devices.by_kernel, tables)):
            return None
        users, items = tables
        return Ranking.of(users, items, max(collector.topk))

    # --- the end of an epoch, and files ---------------------------------------------------------

    def _keep_as_best(self, epoch: int) -> None:
        self._best_epoch = epoch
        self._best = {
            "state_dict": _copied(self.model.state_dict()),
            "other_parameter": _copied(self.model.other_parameter()),
        }

    def _write_files(self, end: EpochEnd) -> None:
        """Replace the checkpoint and the result file."""
        self._record_best()
        if not self._saved:
            return
        if self._keeps_checkpoint:
            save_checkpoint(self._state(end.epochs - 1), self.saved_model_file)
        self.record.write()

    def _warn(self, end: EpochEnd) -> None:
        """Log what the sampler has to say of the epoch."""
        warning = self.sampler.epoch_warning()
        if warning:
            getLogger().warning(warning)

    def _record_best(self) -> None:
        self.record.results.update(
            best_epoch=self._best_epoch + 1,
            best_valid_score=self.best_valid_score if self.best_valid_result else None,
            best_valid_result=self.best_valid_result,
        )

    def _state(self, epoch: int) -> dict[str, Any]:
        """All of a checkpoint, as plain data."""
        best = self._best or {"state_dict": self.model.state_dict(), "other_parameter": {}}
        return {
            "format": FORMAT,
            "config": plain(self.config.resolved()),
            "epoch": self._best_epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": plain(self.best_valid_result),
            **best,
            "tokens": self._tokens,
            "last": {
                "epoch": epoch,
                # the same tensors where the last epoch is the best, which are stored once
                "state_dict": best["state_dict"]
                if epoch == self._best_epoch
                else self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "sampler": self.sampler.state_dict(),
                "loss": self.loss.state_dict(),
                "between_epochs": {
                    name: getattr(self.model, name) for name in self.adapter.kept_between_epochs
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
            for part, kept in ((self.sampler, last["sampler"]), (self.loss, last["loss"])):
                part.load_state_dict(kept)
                part.check_state(self.model)
            self.adapter.restore(last["between_epochs"])
            self._loader_state = checked_generator_state(last["loader"])
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
        self._tokens = state.get("tokens")
        if self._best_epoch >= 0:
            self._best = {key: state[key] for key in ("state_dict", "other_parameter")}
        self._record_best()
        self.logger.info(f"Checkpoint loaded. Resume training after {self.start_epoch} epochs")

    def write_test_result(self, result: Mapping[str, float]) -> None:
        """Add the final test metrics to the result file."""
        self.record.results["test_result"] = result
        if self._saved:
            self.record.write()


def _copied(tensors: Mapping[str, Any], device: torch.device | str = "cpu") -> dict[str, Any]:
    return {
        key: value.detach().to(device, copy=True) if isinstance(value, Tensor) else value
        for key, value in tensors.items()
    }
