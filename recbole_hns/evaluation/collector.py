"""What an evaluation gathers from the score matrix of each batch."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING

import torch
from recbole.evaluator import Collector as RecBoleCollector
from recbole.evaluator import DataStruct, Register
from torch import Tensor

from recbole_hns.evaluation.metrics import checked_betas
from recbole_hns.evaluation.opauc import norm_opauc

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.interaction import Interaction

#: What :class:`Collector` gathers itself.
OWN = ("rec.items", "rec.topk", "rec.opauc")


class Collector(RecBoleCollector):
    """RecBole's ``Collector`` that also gathers ``rec.opauc``, and the rest with less work.

    ``rec.opauc`` holds NormOPAUC of each user that has a positive and a negative, at each rate of
    ``opauc_betas``: ``[users, len(opauc_betas)]``, float64. For the top K items no matrix of
    users x items is made, and batches are joined once, at the end of the evaluation. Every value
    is the same as RecBole's.
    """

    register: Register

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.data_struct = BatchedDataStruct()
        self.betas = checked_betas(config["opauc_betas"])
        self._needed, self.register = self.register, _Rest(config)

    def eval_batch_collect(
        self,
        scores_tensor: Tensor,
        interaction: Interaction,
        positive_u: Tensor | None,
        positive_i: Tensor | None,
    ) -> None:
        """Gather what the metrics need from one batch.

        Args:
            scores_tensor: ``[users, items]``; for metrics of values, not of rankings, ``[pairs]``.
            interaction: the batch.
            positive_u: row of each positive, ``[positives]``, int64; None where values are rated.
            positive_i: column of each positive, ``[positives]``, int64; None likewise.

        Raises:
            ValueError: if OPAUC is to be computed and a score is NaN.
        """
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        ranks = any(self._needed.need(name) for name in OWN)
        if not ranks or positive_u is None or positive_i is None:
            return
        users, items = scores_tensor.shape
        # a repeated interaction is one positive
        key = torch.unique((positive_u * items + positive_i).to(scores_tensor.device))
        user, item = key // items, key % items
        if self._needed.need("rec.items") or self._needed.need("rec.topk"):
            top = scores_tensor.topk(max(self.topk), dim=-1).indices
        if self._needed.need("rec.items"):
            self.data_struct.update_tensor("rec.items", top)
        if self._needed.need("rec.topk"):
            first = torch.arange(0, users * items, items, device=key.device).unsqueeze(1)
            hit = torch.isin(first + top, key)
            count = torch.bincount(user, minlength=users).unsqueeze(1)
            self.data_struct.update_tensor("rec.topk", torch.cat([hit, count], dim=1))
        if self._needed.need("rec.opauc"):
            try:
                opauc = norm_opauc(scores_tensor, user, item, self.betas)
            except ValueError:
                self.data_struct.joined()  # nothing of this evaluation goes into another
                raise
            self.data_struct.update_tensor("rec.opauc", opauc)

    def get_data_struct(self) -> DataStruct:
        """All that was gathered, on the CPU; the next evaluation starts without it."""
        struct = self.data_struct.joined()
        if "rec.opauc" in struct:
            opauc = struct.get("rec.opauc")
            evaluated = ~opauc[:, 0].isnan()
            struct.set("rec.opauc", opauc[evaluated])
            left_out = len(opauc) - int(evaluated.sum())
            if left_out:
                getLogger().warning(
                    f"OPAUC leaves out {left_out} of {len(opauc)} users, "
                    f"who have no positive or no negative item"
                )
        return struct


class BatchedDataStruct(DataStruct):
    """RecBole's ``DataStruct`` that keeps batches apart until they are asked for.

    RecBole's joins every batch to all before it as it comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batches: dict[str, list[Tensor]] = {}

    def update_tensor(self, name: str, value: Tensor) -> None:
        """Add the rows of one batch."""
        self._batches.setdefault(name, []).append(value.detach())

    def joined(self) -> DataStruct:
        """What was set and all batches, which are forgotten here."""
        struct = DataStruct()
        for name, value in self._data_dict.items():
            struct.set(name, value)
        batches, self._batches = self._batches, {}
        for name, values in batches.items():
            struct.set(name, torch.cat(values).cpu())
        return struct


class _Rest(Register):
    """What RecBole's ``Collector`` is left to gather."""

    def need(self, key: str) -> bool:
        return key not in OWN and super().need(key)
