"""What the trainer needs of a RecBole model trained pairwise.

A model's ``calculate_loss`` stays in charge: it runs as RecBole wrote it, with its further terms
(L2, contrastive, correlation). Only its pairwise loss returns the sampler's loss instead, and an L2
term sees all of the chosen negatives, their squared norms weighted as in the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.convncf import ConvNCFBPRLoss
from recbole.model.loss import BPRLoss, EmbLoss
from torch import Tensor, nn

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

    from recbole_hns.data.candidates import CandidateSampler
    from recbole_hns.sampler.base import Chosen, HardNegativeSampler

#: Loss of each positive, ``[batch]``, from its score ``[batch, 1]``, those of its negatives
#: ``[batch, M]`` and their weights ``[batch, M]`` (None: 1 / M).
RowLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

#: A model's loss, or a tuple of parts that are summed, as ``calculate_loss`` returns it.
Losses = Tensor | tuple[Tensor, ...]


class PairwiseModel:
    """A RecBole model trained pairwise, as the trainer sees it.

    Args:
        model: the RecBole model.

    Attributes:
        row_bytes: size of an item's embeddings, for samplers that hold those of candidates.
    """

    row_bytes = 0

    #: of an :class:`~recbole_hns.model.InnerProductModel`, within a step
    user_table: Any
    item_table: Any
    cosine: bool

    def __init__(self, model: GeneralRecommender) -> None:
        self.model = model
        # RecBole's BPRLoss is a mean over the batch; ConvNCF's own is a sum.
        summed = any(isinstance(module, ConvNCFBPRLoss) for module in model.modules())
        self.reduce = torch.sum if summed else torch.mean

    def step(self) -> AbstractContextManager[None]:
        """Encloses scoring and loss of one batch, which may share work."""
        raise NotImplementedError

    def scores(
        self, user: Tensor, pos_item: Tensor, items: Tensor | None, candidates: CandidateSampler
    ) -> tuple[Tensor, Tensor]:
        """Scores of positives and candidates, to be called without gradient.

        Args:
            user: ``[batch]``, int64.
            pos_item: ``[batch]``, int64.
            items: candidates, ``[batch, N]``, or ``[1, N]`` if all rows share them, int64; None
                for all items.
            candidates: tells which items are no negatives; where ``items`` is None, these score
                minus infinity.

        Returns:
            ``[batch, 1]`` and ``[batch, N]``, N being the number of items if ``items`` is None.
        """
        raise NotImplementedError

    def score(self, user: Tensor, items: Tensor | None, candidates: CandidateSampler) -> Tensor:
        """Scores of any users' candidates, inside :meth:`step`, without effect on it.

        Args:
            user: ``[batch]``, int64.
            items: as in :meth:`scores`.
            candidates: as in :meth:`scores`.

        Returns:
            ``[batch, N]``.
        """
        raise NotImplementedError

    def loss(
        self,
        user: Tensor,
        pos_item: Tensor,
        items: Tensor | None,
        weight: Tensor | None,
        row_loss: RowLoss,
    ) -> Losses:
        """The model's loss with the sampler's in place of its pairwise part.

        Args:
            user: ``[batch]``, int64.
            pos_item: ``[batch]``, int64.
            items: the chosen negatives, ``[batch, M]`` or ``[1, M]``, int64; None for all items.
            weight: their weights, ``[batch, M]``; None is 1 / M.
            row_loss: the sampler's loss.

        Returns:
            What the model's ``calculate_loss`` returns.
        """
        raise NotImplementedError

    def learn(
        self,
        user: Tensor,
        pos_item: Tensor,
        size: int,
        candidates: CandidateSampler,
        sampler: HardNegativeSampler,
    ) -> tuple[Losses, Tensor]:
        """Choose the negatives of a batch and compute the loss.

        A model that can has the negatives of ``size`` positives in memory at a time.

        Args:
            user: ``[batch]``, int64.
            pos_item: ``[batch]``, int64.
            size: positives in a part.
            candidates: what the sampler draws from.
            sampler: chooses; its parameters get their gradient.

        Returns:
            What the model's ``calculate_loss`` returns, and ``[2]``, float64: the sums of the
            chosen negatives' scores, weighted, and of the positives'.
        """
        items, weight, sums = self.choose(user, pos_item, candidates, sampler)
        return self.loss(user, pos_item, items, weight, sampler.loss), sums

    @torch.no_grad()
    def choose(
        self,
        user: Tensor,
        pos_item: Tensor,
        candidates: CandidateSampler,
        sampler: HardNegativeSampler,
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """The negatives of a batch, ``[batch, M]``, their weights, and the two sums."""
        chosen = sampler.choose(user, pos_item, candidates, self)
        self._keep(chosen)
        items, weight, pos_scores, scores = chosen
        if weight is None:
            scores = scores.mean(dim=1)
        else:
            scores = torch.where(weight > 0, scores * weight, 0).sum(dim=1)
        return items, weight, score_sums(pos_scores, scores)

    def _keep(self, chosen: Chosen) -> None:
        """Called with the chosen negatives, whose scores the loss may need not compute again."""

    def _interaction(self, user: Tensor, pos_item: Tensor, neg_item: Tensor) -> Interaction:
        model = self.model
        return Interaction(
            {model.USER_ID: user, model.ITEM_ID: pos_item, model.NEG_ITEM_ID: neg_item}
        )

    def _pairwise_losses(self) -> list[nn.Module]:
        return [module for module in self.model.modules() if is_pairwise_loss(module)]

    @contextmanager
    def _emb_loss(self, forward: Callable[..., Tensor]) -> Iterator[None]:
        """Have every ``EmbLoss`` of the model return ``forward(module, *args, **kwargs)``."""
        with ExitStack() as stack:
            for module in self.model.modules():
                if isinstance(module, EmbLoss):
                    bound = forward.__get__(module)
                    stack.enter_context(replaced(module, "forward", bound))
            yield


def score_sums(pos_scores: Tensor, scores: Tensor) -> Tensor:
    """Sums of the negatives' and of the positives' scores, ``[2]``, float64."""
    return torch.stack([scores.double().sum(), pos_scores.double().sum()])


def is_pairwise_loss(module: nn.Module) -> bool:
    """Whether ``module`` is one of RecBole's BPR losses."""
    return isinstance(module, (BPRLoss, ConvNCFBPRLoss))


@contextmanager
def replaced(target: object, name: str, value: Any) -> Iterator[None]:
    """Shadow the method ``name`` of one object by ``value`` for the time of the context."""
    setattr(target, name, value)
    try:
        yield
    finally:
        delattr(target, name)
