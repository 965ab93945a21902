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

from recbole_hns.batch import Batch, Candidates, Negatives, Scores
from recbole_hns.errors import UserError
from recbole_hns.model.base import (
    Losses,
    ModelAdapter,
    NegativeRows,
    is_pairwise_loss,
    replaced,
    with_pairwise,
)

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: Pairs that ``predict`` is given at a time; ConvNCF takes 16 KiB and more for each.
PREDICT_PAIRS = 4096


class EncodedPairs:
    """A batch of which each pair is scored by itself: a query is the user's id.

    Args:
        adapter: the model's.

    Attributes:
        user_table: None, as ``item_table`` is: there are no embeddings to score by.
        losses: what ``calculate_loss`` returned, once :meth:`rescore` was called.
        pairwise: its pairwise loss, a number 0 that its gradient in ``losses`` is known of.
    """

    user_table = item_table = None

    def __init__(self, adapter: PredictedAdapter) -> None:
        self._adapter = adapter
        self.pairs_in_memory = adapter.pairs_in_memory()
        self.losses: Any = None
        self.pairwise: Any = None

    def query(self, part: Batch) -> Tensor:
        """The users' ids, ``[B]``."""
        return part.user

    def score(self, query: Tensor, part: Batch, candidates: Candidates) -> Scores:
        """Scores of positives and candidates; dropout is off, as where RecBole scores its own."""
        pos = self._adapter.predict(query, part.pos_item.unsqueeze(1))
        neg = self.user_scores(query, candidates.items)
        if candidates.excluded is not None:
            neg[candidates.excluded] = -torch.inf
        return Scores(pos, neg)

    def user_scores(self, user: Tensor, items: Tensor | None) -> Tensor:
        """Scores of any items for any users, without gradient and dropout, ``[B, N]``."""
        if items is None:
            items = torch.arange(self._adapter.model.n_items, device=user.device).unsqueeze(0)
        return self._adapter.predict(user, items.expand(len(user), -1))

    def rescore(self, query: Tensor, part: Batch, negatives: Negatives) -> Scores:
        """Scores of positives and negatives, as ``calculate_loss`` computes them."""
        items, weight = negatives.items, negatives.weights()
        if items is None:
            # one row a negative: those of weight 0 are not worth a row
            assert weight is not None
            num = max(1, int((weight > 0).sum(dim=1).max()))
            weight, items = weight.topk(num, dim=1)
        items = items.expand(len(query), -1)
        found, self.losses, self.pairwise = self._adapter.learn(part, items, weight)
        if negatives.items is None:
            shape = negatives.scores.neg.shape
            found = Scores(found.pos, found.neg.new_zeros(shape).scatter(1, items, found.neg))
        neg = found.neg
        if negatives.excluded is not None:
            neg = neg.index_put(negatives.excluded, neg.new_tensor(-torch.inf))
        return Scores(found.pos, neg)


class PredictedAdapter(ModelAdapter):
    """ConvNCF, and pairwise models that RecBole does not have.

    ``calculate_loss`` is called with each user and positive repeated M times, once for each
    negative. Its pairwise loss returns 0 and keeps the scores; the configured loss of these takes
    its part in the total by the chain rule.
    """

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """There is nothing to encode beforehand."""
        yield EncodedPairs(self)

    def predict(self, user: Tensor, items: Tensor) -> Tensor:
        """Scores by the model's ``predict``, without dropout.

        Args:
            user: ``[B]``, int64.
            items: ``[B, N]``, int64.

        Returns:
            ``[B, N]``.
        """
        model = self.model
        training = model.training
        # not model.eval() and model.train(): SGL's make a new graph
        nn.Module.train(model, False)
        users = user.repeat_interleave(items.shape[1])
        chunks = zip(
            users.split(PREDICT_PAIRS), items.reshape(-1).split(PREDICT_PAIRS), strict=True
        )
        scores = [
            model.predict(Interaction({model.USER_ID: u, model.ITEM_ID: i})).view(-1)
            for u, i in chunks
        ]
        nn.Module.train(model, training)
        return torch.cat(scores).view(items.shape)

    def learn(
        self, batch: Batch, items: Tensor, weight: Tensor | None
    ) -> tuple[Scores, Losses, Tensor]:
        """Call ``calculate_loss`` with a pairwise loss of 0.

        Args:
            batch: the batch.
            items: negatives, ``[B, M]``, int64.
            weight: their weights, for an L2 term, ``[B, M]``; None is 1 / M.

        Returns:
            The scores, what ``calculate_loss`` returned, and the 0.

        Raises:
            UserError: if the model calls its pairwise loss more or less often than once.
        """
        rows, num = items.shape
        zero = torch.zeros((), dtype=torch.get_default_dtype(), device=items.device)
        zero.requires_grad_()
        found: list[Scores] = []

        def pairwise(pos_scores: Tensor, neg_scores: Tensor) -> Tensor:
            found.append(Scores(pos_scores.view(rows, num)[:, :1], neg_scores.view(rows, num)))
            return zero

        def emb_loss(module: EmbLoss, *embeddings: Tensor, **kwargs: Any) -> Tensor:
            forward = type(module).forward
            if any(len(each) != rows * num for each in embeddings):
                return forward(module, *embeddings, **kwargs)
            *once, negatives = (each.view(rows, num, *each.shape[1:]) for each in embeddings)
            root = num**-0.5 if weight is None else weight.sqrt().unsqueeze(2)
            return forward(module, *(each[:, 0] for each in once), negatives * root, **kwargs)

        with ExitStack() as stack:
            if isinstance(self.model, ConvNCF) and rows * num > PREDICT_PAIRS:
                stack.enter_context(replaced(self.model, "forward", self._forward_in_parts))
            stack.enter_context(self._pairwise_loss(pairwise))
            if num > 1:
                stack.enter_context(self._emb_loss(emb_loss))
            user, pos_item = (
                batch.user.repeat_interleave(num),
                batch.pos_item.repeat_interleave(num),
            )
            interaction = self._interaction(user, pos_item, items.reshape(-1))
            losses = self.model.calculate_loss(interaction)
        if len(found) != 1:
            name = type(self.model).__name__
            allowed = f"must call its BPR loss once in calculate_loss, not {len(found)} times"
            raise UserError.of("model", name, allowed)
        return found[0], losses, zero

    def total(
        self,
        encoded: EncodedPairs,
        batch: Batch,
        loss: Tensor,
        negatives: Negatives | None = None,
        negative_rows: NegativeRows | None = None,
    ) -> Losses:
        """What ``calculate_loss`` returned, with ``loss`` in place of the 0 that it was given."""
        return with_pairwise(encoded.losses, encoded.pairwise, self._reduced(loss, batch))

    def _forward_in_parts(self, user: Tensor, item: Tensor) -> Tensor:
        """``forward`` that keeps one part's activations at a time, and computes them twice."""
        forward = type(self.model).forward.__get__(self.model)
        parts = zip(user.split(PREDICT_PAIRS), item.split(PREDICT_PAIRS), strict=True)
        return torch.cat([checkpoint(forward, *part, use_reentrant=False) for part in parts])

    @classmethod
    def trains(cls, model: GeneralRecommender) -> bool:
        """Whether a model has a pairwise loss to replace."""
        return any(is_pairwise_loss(module) for module in model.modules())
