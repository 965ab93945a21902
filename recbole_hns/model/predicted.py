"""Any other model trained pairwise: scored by its ``predict``, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import ConvNCF
from recbole.model.loss import EmbLoss
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbole_hns.model.base import Losses, PairwiseModel, RowLoss, replaced

if TYPE_CHECKING:
    from recbole_hns.data.candidates import CandidateSampler

#: Pairs that ``predict`` is given at a time; ConvNCF takes 16 KiB and more for each.
PREDICT_PAIRS = 4096


class PredictedModel(PairwiseModel):
    """ConvNCF, and pairwise models that RecBole does not have.

    ``calculate_loss`` is called with each user and positive repeated M times, once for each
    negative, and the model's BPR loss is replaced by the sampler's.
    """

    @contextmanager
    def step(self) -> Iterator[None]:
        """Nothing is shared between scoring and loss."""
        yield

    def scores(
        self, user: Tensor, pos_item: Tensor, items: Tensor | None, candidates: CandidateSampler
    ) -> tuple[Tensor, Tensor]:
        """As the base class says; dropout is off, as where RecBole scores its candidates."""
        pos_scores = self._predict(user, pos_item.unsqueeze(1))
        return pos_scores, self.score(user, items, candidates)

    def score(self, user: Tensor, items: Tensor | None, candidates: CandidateSampler) -> Tensor:
        """As the base class says; dropout is off."""
        if items is not None:
            return self._predict(user, items.expand(len(user), -1))
        every = torch.arange(candidates.item_num, device=user.device)
        return candidates.exclude(user, self._predict(user, every.expand(len(user), -1)))

    def _predict(self, user: Tensor, items: Tensor) -> Tensor:
        training = self.model.training
        # not model.eval() and model.train(): SGL's make a new graph
        nn.Module.train(self.model, False)
        users = user.repeat_interleave(items.shape[1])
        chunks = zip(
            users.split(PREDICT_PAIRS), items.reshape(-1).split(PREDICT_PAIRS), strict=True
        )
        scores = [
            self.model.predict(Interaction({self.model.USER_ID: u, self.model.ITEM_ID: i})).view(-1)
            for u, i in chunks
        ]
        nn.Module.train(self.model, training)
        return torch.cat(scores).view(items.shape)

    def loss(
        self,
        user: Tensor,
        pos_item: Tensor,
        items: Tensor | None,
        weight: Tensor | None,
        row_loss: RowLoss,
    ) -> Losses:
        """As the base class says."""
        if items is None:
            # one row a negative: those of weight 0 are not worth a row
            assert weight is not None
            num = int((weight > 0).sum(dim=1).max())
            weight, items = weight.topk(num, dim=1)
        items = items.expand(len(user), -1)
        batch, num = items.shape

        def pairwise(pos_scores: Tensor, neg_scores: Tensor) -> Tensor:
            pos_scores = pos_scores.view(batch, num)[:, :1]
            return self.reduce(row_loss(pos_scores, neg_scores.view(batch, num), weight))

        def emb_loss(module: EmbLoss, *rows: Tensor, **kwargs: Any) -> Tensor:
            forward = type(module).forward
            if any(len(row) != batch * num for row in rows):
                return forward(module, *rows, **kwargs)
            *once, negatives = (row.view(batch, num, *row.shape[1:]) for row in rows)
            root = num**-0.5 if weight is None else weight.sqrt().unsqueeze(2)
            return forward(module, *(row[:, 0] for row in once), negatives * root, **kwargs)

        with ExitStack() as stack:
            if isinstance(self.model, ConvNCF) and batch * num > PREDICT_PAIRS:
                stack.enter_context(replaced(self.model, "forward", self._forward_in_parts))
            for module in self._pairwise_losses():
                stack.enter_context(replaced(module, "forward", pairwise))
            if num > 1:
                stack.enter_context(self._emb_loss(emb_loss))
            rows = (user.repeat_interleave(num), pos_item.repeat_interleave(num))
            return self.model.calculate_loss(self._interaction(*rows, items.reshape(-1)))

    def _forward_in_parts(self, user: Tensor, item: Tensor) -> Tensor:
        """``forward`` that keeps one part's activations at a time, and computes them twice."""
        forward = type(self.model).forward.__get__(self.model)
        parts = zip(user.split(PREDICT_PAIRS), item.split(PREDICT_PAIRS), strict=True)
        return torch.cat([checkpoint(forward, *part, use_reentrant=False) for part in parts])
