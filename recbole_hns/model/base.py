"""What training needs of a RecBole model trained pairwise.

A model's ``calculate_loss`` stays in charge: it runs as RecBole wrote it, with its further terms
(L2, contrastive, correlation). Only its pairwise loss returns the configured loss instead, and an
L2 term sees all of the selected negatives, their squared norms weighted as in the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.convncf import ConvNCFBPRLoss
from recbole.model.loss import BPRLoss, EmbLoss
from torch import Tensor, nn

from recbole_hns.batch import Batch, Negatives

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import GeneralRecommender

#: A model's loss, or a tuple of parts that are summed, as ``calculate_loss`` returns it.
Losses = Tensor | tuple[Tensor, ...]

#: Rows whose squared Frobenius norm is the negatives' in an L2 term.
NegativeRows = Callable[[], Tensor]

#: Bytes that scoring, selecting and learning take for each pair of a positive and a candidate, with
#: the sampler and the model that take most.
PAIR_BYTES = 64


#: Called with a table and the rows that are going to be looked at, None for all.
Read = Callable[[Tensor, Tensor | None], None]


def as_they_are(table: Tensor, ids: Tensor | None) -> None:
    """Read a table whose rows never wait."""


class ModelAdapter:
    """A RecBole model trained pairwise, as the training step sees it.

    A subclass defines :meth:`encode` and :meth:`total` for one kind of model.

    Args:
        model: the RecBole model.
        config: ``similarity``, ``inner`` or ``cosine``, by which training scores, and
            ``step_memory``, MiB that the candidates of a part of a batch may take.

    Attributes:
        models: the RecBole classes that it is for.
        products: whether scores are inner products of queries and the rows of a table of items.
        cosines: whether these may be cosines in their place.
        has_embeddings: whether queries are the rows of another table, of users.
        has_layers: whether these are means over layers, which it can encode one by one.
        splits: whether a batch can be learned from in parts.
        summed: whether RecBole sums the pairwise loss over the batch in place of its mean.
        sequential: whether a query is made of a sequence of items, and a user has one for each.
        kept_between_epochs: attributes of the model, beside its parameters, that an epoch leaves
            to the next, for the checkpoint.
        before_read: called with a table and ids, None for all rows, before the step looks at them,
            by adapters with :meth:`touched_rows`; an optimiser may have let rows wait until then.
    """

    models: ClassVar[tuple[type, ...]] = ()
    products: ClassVar[bool] = False
    cosines: ClassVar[bool] = True
    has_embeddings: ClassVar[bool] = False
    has_layers: ClassVar[bool] = False
    splits: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    kept_between_epochs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: GeneralRecommender, config: Mapping[str, Any]) -> None:
        self.model: Any = model
        self.similarity = config["similarity"]
        self.step_memory = config["step_memory"] * 2**20
        self.before_read: Read = as_they_are
        #: whether the optimiser makes use of :meth:`touched_rows` for whatever model
        self.steps_by_rows = False
        # RecBole's BPRLoss is a mean over the batch; ConvNCF's own is a sum.
        self.summed = any(isinstance(module, ConvNCFBPRLoss) for module in model.modules())

    @classmethod
    def knows(cls, model: type[GeneralRecommender]) -> bool:
        """Whether the model is one of :attr:`models`, or a subclass that scores in the same way."""
        known: Any = next((known for known in cls.models if issubclass(model, known)), None)
        return known is not None and model.predict is known.predict

    @classmethod
    def check(cls, config: Config, dataset: Dataset) -> None:
        """See, before the model is made, that it can be.

        Raises:
            UserError: if it needs what is not installed, or a hyperparameter does not fit the data.
        """

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch, ``epoch`` being counted from 0."""

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Give the model :attr:`kept_between_epochs` from a checkpoint.

        Raises:
            AttributeError, KeyError, ValueError: if they are not those of such a model.
        """
        for name in self.kept_between_epochs:
            setattr(self.model, name, kept[name])

    def active(self, losses: tuple[Tensor, ...], epoch: int) -> tuple[Tensor, ...]:
        """The parts of the loss that an epoch trains with; default all."""
        return losses

    def touched_rows(self) -> Mapping[Tensor, Tensor]:
        """Rows of tables that the last step may have gradients in; default unknown, which is all.

        Returns:
            ``{table: ids}``, ids as often as the step looked them up.
        """
        return {}

    def encode(
        self, batch: Batch | None = None, layers: bool = False
    ) -> AbstractContextManager[Any]:
        """Encode users and items once for all that happens inside the context.

        Args:
            batch: the batch, of whose sequences a :attr:`sequential` model makes queries.
            layers: whether every layer is wanted; only where :attr:`has_layers`.

        Returns:
            A context with what :class:`~recbole_hns.batch.Encoded` describes; with ``layers``, an
            object with ``layers``.
        """
        raise NotImplementedError

    def total(
        self,
        encoded: Any,
        batch: Batch,
        loss: Tensor,
        negatives: Negatives | None = None,
        negative_rows: NegativeRows | None = None,
    ) -> Losses:
        """The model's loss with ``loss`` in place of its pairwise part.

        Args:
            encoded: what :meth:`encode` gave, its context still open.
            batch: the whole batch.
            loss: the configured loss, averaged over the batch, a scalar.
            negatives: the negatives of the whole batch, for an L2 term; None where it was learned
                from in parts, or where the negatives are no items.
            negative_rows: the rows for an L2 term where ``negatives`` is None.

        Returns:
            What the model's ``calculate_loss`` returns.
        """
        raise NotImplementedError

    def rows_by_weight(self, encoded: Any, item_weight: Any) -> NegativeRows:
        """Rows for an L2 term, from the weight of each item; where :attr:`splits`.

        Args:
            encoded: what :meth:`encode` gave.
            item_weight: sum of the weights that each item has as a negative, ``[item_num]``.
        """
        raise NotImplementedError

    def pairs_in_memory(self, rows_per_pair: int = 0) -> int:
        """Pairs of a positive and a candidate that ``step_memory`` has room for.

        Args:
            rows_per_pair: tensors of the size of all candidates' embeddings that are held at a
                time.
        """
        return self.step_memory // (PAIR_BYTES + rows_per_pair * self.row_bytes)

    @property
    def row_bytes(self) -> int:
        """Bytes of an item's embeddings, all layers together."""
        return 0

    def _reduced(self, loss: Tensor, batch: Batch) -> Tensor:
        return loss * batch.size if self.summed else loss

    def _interaction(self, user: Tensor, pos_item: Tensor, neg_item: Tensor) -> Interaction:
        model = self.model
        return Interaction(
            {model.USER_ID: user, model.ITEM_ID: pos_item, model.NEG_ITEM_ID: neg_item}
        )

    @contextmanager
    def _pairwise_loss(self, forward: Callable[..., Tensor]) -> Iterator[None]:
        """Have every pairwise loss of the model return ``forward(pos_scores, neg_scores)``."""
        with ExitStack() as stack:
            for module in self.model.modules():
                if is_pairwise_loss(module):
                    stack.enter_context(replaced(module, "forward", forward))
            yield

    @contextmanager
    def _emb_loss(self, forward: Callable[..., Tensor]) -> Iterator[None]:
        """Have every ``EmbLoss`` of the model return ``forward(module, *args, **kwargs)``."""
        with ExitStack() as stack:
            for module in self.model.modules():
                if isinstance(module, EmbLoss):
                    bound = forward.__get__(module)
                    stack.enter_context(replaced(module, "forward", bound))
            yield


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


def with_pairwise(losses: Losses, zero: Tensor, pairwise: Tensor) -> Losses:
    """What ``calculate_loss`` returned, with another pairwise loss than it was given.

    Args:
        losses: computed with a pairwise loss of 0.
        zero: that 0, which has a gradient in the losses.
        pairwise: the pairwise loss, a scalar.
    """

    def part_with(part: Tensor) -> Tensor:
        if not part.requires_grad:
            return part
        (slope,) = torch.autograd.grad(part.sum(), zero, retain_graph=True, allow_unused=True)
        return part if slope is None else part + slope * pairwise

    return tuple(map(part_with, losses)) if isinstance(losses, tuple) else part_with(losses)


def full_precision(propagate: Callable[..., Any]) -> Callable[..., Any]:
    """``propagate`` without mixed precision, in which sparse products have no backward pass."""

    def forward(*graph: Any) -> Any:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return propagate(*graph)

    return forward
