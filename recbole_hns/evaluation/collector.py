"""What an evaluation gathers from the score matrix of each batch."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING

import torch
from recbole.evaluator import Collector as RecBoleCollector
from recbole.evaluator import DataStruct, Register
from torch import Tensor

from recbole_hns.errors import UserError
from recbole_hns.evaluation.metrics import checked_betas, checked_pairs
from recbole_hns.evaluation.opauc import Ranks
from recbole_hns.evaluation.top_items import TopItems
from recbole_hns.ops import workers

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.interaction import Interaction

#: What :class:`Collector` gathers itself.
OWN = ("rec.items", "rec.topk", "rec.opauc", "rec.llpauc")

#: What needs all scores, not the first K items.
OF_ALL_SCORES = ("rec.opauc", "rec.llpauc", "rec.meanrank", "rec.score", "data.label")


class Collector(RecBoleCollector):
    """RecBole's ``Collector`` that also gathers partial AUCs, and the rest with less work.

    ``rec.opauc`` holds NormOPAUC of each user that has a positive and a negative, at each rate of
    ``opauc_betas``: ``[users, len(opauc_betas)]``, float64. ``rec.llpauc`` likewise holds
    NormLLPAUC at each pair of ``llpauc_alphas`` and ``llpauc_betas``. For the top K items no
    matrix of users x items is made, and batches are joined once, at the end of the evaluation.
    Where several workers evaluate, each gathers its users of every batch, and they are joined in
    the order that one would have them in, so that metrics see the same. Every value is the same as
    RecBole's.
    """

    register: Register

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.data_struct = BatchedDataStruct()
        self.betas = checked_betas(config["opauc_betas"])
        self.pairs = checked_pairs(config["llpauc_alphas"], config["llpauc_betas"])
        self._error: UserError | None = None
        self._needed, self.register = self.register, _Rest(config)
        #: whether :class:`TopItems` will do in place of a score matrix
        self.of_top_items = not any(map(self._needed.need, OF_ALL_SCORES))

    def eval_batch_collect(
        self,
        scores_tensor: Tensor | TopItems,
        interaction: Interaction,
        positive_u: Tensor | None,
        positive_i: Tensor | None,
    ) -> None:
        """Gather what the metrics need from one batch.

        Args:
            scores_tensor: ``[users, items]``; for metrics of values, not of rankings, ``[pairs]``.
                Where :attr:`of_top_items` says so, it may be these.
            interaction: the batch.
            positive_u: row of each positive, ``[positives]``, int64; None where values are rated.
            positive_i: column of each positive, ``[positives]``, int64; None likewise.

        Raises:
            UserError: if a partial AUC is to be computed and a score is NaN.
        """
        self.data_struct.number += 1
        if not scores_tensor.shape[0]:  # all are other workers'
            return
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        needed = any(self._needed.need(name) for name in OWN)
        if not needed or positive_u is None or positive_i is None:
            return
        users, items = scores_tensor.shape
        # a repeated interaction is one positive
        scores = scores_tensor.items if isinstance(scores_tensor, TopItems) else scores_tensor
        key = torch.unique((positive_u * items + positive_i).to(scores.device))
        user, item = key // items, key % items
        top = scores
        if scores is scores_tensor and (
            self._needed.need("rec.items") or self._needed.need("rec.topk")
        ):
            top = scores.topk(max(self.topk), dim=-1).indices
        if self._needed.need("rec.items"):
            self.data_struct.update_tensor("rec.items", top)
        if self._needed.need("rec.topk"):
            first = torch.arange(0, users * items, items, device=key.device).unsqueeze(1)
            hit = torch.isin(first + top, key)
            count = torch.bincount(user, minlength=users).unsqueeze(1)
            self.data_struct.update_tensor("rec.topk", torch.cat([hit, count], dim=1))
        if self._needed.need("rec.opauc") or self._needed.need("rec.llpauc"):
            try:
                ranks = Ranks.of(scores, user, item)
            except UserError as error:
                if not workers.active():
                    self.data_struct.forget()  # nothing of this evaluation goes into another
                    raise
                # the others are told when all are done
                self._error = self._error or error
                return
        if self._needed.need("rec.opauc"):
            self.data_struct.update_tensor("rec.opauc", ranks.norm_opauc(self.betas))
        if self._needed.need("rec.llpauc"):
            llpauc = ranks.norm_llpauc(*zip(*self.pairs, strict=True))
            self.data_struct.update_tensor("rec.llpauc", llpauc)

    def get_data_struct(self) -> DataStruct:
        """All that was gathered, on the CPU; the next evaluation starts without it."""
        error, self._error = self._error, None
        try:
            with workers.together():
                if error is not None:
                    raise error
        except UserError:
            self.data_struct.forget()
            raise
        struct = self.data_struct.joined()
        for name in ("rec.opauc", "rec.llpauc"):
            if name not in struct:
                continue
            values = struct.get(name)
            evaluated = ~values[:, 0].isnan()
            struct.set(name, values[evaluated])
            left_out = len(values) - int(evaluated.sum())
            if left_out:
                getLogger().warning(
                    f"{name.removeprefix('rec.').upper()} leaves out {left_out} of {len(values)} "
                    f"users, who have no positive or no negative item"
                )
        return struct


class BatchedDataStruct(DataStruct):
    """RecBole's ``DataStruct`` that keeps batches apart until they are asked for.

    RecBole's joins every batch to all before it as it comes.
    """

    def __init__(self) -> None:
        super().__init__()
        #: of the batch under way
        self.number = 0
        self._batches: dict[str, dict[int, Tensor]] = {}

    def update_tensor(self, name: str, value: Tensor) -> None:
        """Add the rows of one batch."""
        self._batches.setdefault(name, {})[self.number] = value.detach()

    def joined(self) -> DataStruct:
        """What was set and all batches, each with all workers' rows; they are forgotten here."""
        struct = DataStruct()
        for name, value in self._data_dict.items():
            struct.set(name, value)
        own = self.forget()
        if workers.active():
            own = {
                name: {number: value.cpu() for number, value in values.items()}
                for name, values in own.items()
            }
        every = workers.of_all(own)
        for name in dict.fromkeys(name for batches in every for name in batches):
            found = [
                (number, rank, value)
                for rank, batches in enumerate(every)
                for number, value in batches.get(name, {}).items()
            ]
            found.sort(key=lambda each: each[:2])
            struct.set(name, torch.cat([value for _, _, value in found]).cpu())
        return struct

    def forget(self) -> dict[str, dict[int, Tensor]]:
        """Start anew; returns the batches that there were."""
        batches, self._batches, self.number = self._batches, {}, 0
        return batches


class _Rest(Register):
    """What RecBole's ``Collector`` is left to gather."""

    def need(self, key: str) -> bool:
        return key not in OWN and super().need(key)
