"""Models whose scores are inner products of the rows of two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, ClassVar, NamedTuple

import torch
from recbole.data.interaction import Interaction
from recbole.model.loss import EmbLoss
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Negatives, Scores
from recbole_hns.model.base import Losses, ModelAdapter, NegativeRows, Read, as_they_are
from recbole_hns.ops import devices, kernels, threads, workers
from recbole_hns.ops.list_scores import list_scores
from recbole_hns.ops.part_sums import PartSums
from recbole_hns.ops.product_sums import ProductSums
from recbole_hns.ops.products import products
from recbole_hns.ops.tables import Layers, Table, look_up
from recbole_hns.ops.unit_rows import unit_rows

#: Shorter embeddings have cosines as if they were this long, or their gradient had no bound.
SMALLEST_NORM = 1e-6


class EncodedTables:
    """A batch encoded by two tables: a query is the row of its user.

    Args:
        users: embeddings of all users, ``[user_num, dim]``.
        items: embeddings of all items, ``[item_num, dim]``.
        similarity: ``inner`` or ``cosine``.
        pairs_in_memory: as :class:`~recbole_hns.batch.Encoded` has it.
        read: called with a table and ids, None for all rows, before these are looked at.

    Attributes:
        dense: whether the gradient of a table is one of all its rows.
    """

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        similarity: str,
        pairs_in_memory: int,
        read: Read = as_they_are,
    ) -> None:
        self._users, self._items = users, items
        self.similarity = similarity
        self.pairs_in_memory = pairs_in_memory
        self.dense = False
        self._read = read
        self._normalised: dict[Tensor, Tensor] = {}
        self._kept: dict[Tensor, Tensor] = {}

    @property
    def items(self) -> Tensor:
        """Embeddings of all items, ``[item_num, dim]``."""
        self._read(self._items, None)
        return self._items

    @property
    def user_table(self) -> Tensor:
        """Embeddings of all users, scaled to length 1 for cosines, ``[user_num, dim]``."""
        return self._table(self._users)

    @property
    def item_table(self) -> Tensor:
        """Embeddings of all items, scaled to length 1 for cosines, ``[item_num, dim]``."""
        return self._table(self._items)

    def _table(self, table: Tensor, ids: Tensor | None = None) -> Tensor:
        """A table, of which with ``ids`` only these rows are looked at."""
        if self.similarity == "inner":
            self._read(table, ids)
            return table
        if table not in self._normalised:
            self._read(table, None)
            self.dense = True
            with torch.enable_grad():  # the loss goes on from here
                self._normalised[table] = unit_rows(table, SMALLEST_NORM)
        return self._normalised[table]

    def _rows(self, table: Tensor, ids: Tensor) -> Tensor:
        """Rows of a table, ``[len(ids), dim]``, scaled to length 1 for cosines."""
        self._read(table, ids)
        rows = look_up([Table.of(table)], [ids]).squeeze(0)
        return rows if self.similarity == "inner" else unit_rows(rows, SMALLEST_NORM)

    def _items_of_part(self, ids: Tensor) -> Tensor:
        """Rows of items, with gradient, kept until the next part, as they are asked for twice."""
        if ids not in self._kept:
            with torch.enable_grad():
                self._kept[ids] = self._rows(self._items, ids.view(-1))
        return self._kept[ids]

    def query(self, part: Batch) -> Tensor:
        """The embedding of each row's user, with gradient: ``[B, dim]``."""
        self._kept.clear()
        return self._rows(self._users, part.user)

    def score(self, query: Tensor, part: Batch, candidates: Candidates) -> Scores:
        """Scores of positives and candidates, without gradient."""
        query, items = query.detach(), candidates.items
        if items is not None and len(items) == 1:
            # few rows are scaled to length 1, not all of the table
            pos = (query * self._items_of_part(part.pos_item)).sum(dim=1, keepdim=True)
            neg = query @ self._items_of_part(items).t()
        else:
            pos_item = part.pos_item.unsqueeze(1)
            pos = list_scores(query, self._table(self._items, pos_item), pos_item)
            neg = self._scores(query, items)
        if candidates.excluded is not None:
            neg[candidates.excluded] = -torch.inf
        return Scores(pos, neg)

    def user_scores(self, user: Tensor, items: Tensor | None) -> Tensor:
        """Scores of any items for any users, without gradient, ``[B, N]``."""
        query = self._table(self._users, user).detach().index_select(0, user)
        return self._scores(query, items)

    def _scores(self, query: Tensor, items: Tensor | None) -> Tensor:
        if items is None:
            return query @ self.item_table.t()
        if len(items) == 1:
            return query @ self._rows(self._items, items[0]).t()
        return list_scores(query, self._table(self._items, items), items)

    def rescore(self, query: Tensor, part: Batch, negatives: Negatives) -> Scores:
        """Scores of positives and negatives, with gradient."""
        items = negatives.items
        if items is None or len(items) == 1:
            pos_e = self._items_of_part(part.pos_item)
            pos = (query * pos_e).sum(dim=1, keepdim=True)
            if items is None:
                self.dense = True
            item_e = self.item_table if items is None else self._items_of_part(items)
            neg = products(query, item_e, negatives.scores.neg, negatives.excluded)
            return Scores(pos, neg)
        listed = torch.cat([part.pos_item.unsqueeze(1), items], dim=1)
        known = torch.cat(negatives.scores, dim=1)
        scores = list_scores(query, self._table(self._items, listed), listed, known)
        return Scores(scores[:, :1], scores[:, 1:])

    def unscored(
        self, query: Tensor, part: Batch, candidates: Candidates
    ) -> tuple[Tensor, ProductSums, Negatives]:
        """All of the candidates that rows share as negatives, for sums over their scores.

        Returns:
            Scores of the positives, ``[B, 1]``, and what gives the sums, both with gradient, and
            the negatives.
        """
        assert candidates.items is not None
        pos = (query * self._items_of_part(part.pos_item)).sum(dim=1, keepdim=True)
        item_e = self._items_of_part(candidates.items)
        negatives = Negatives.unscored(candidates, pos.detach(), candidates.items.shape[1])
        return pos, ProductSums(query, item_e, negatives.excluded), negatives

    def in_parts(self, parameters: Iterable[Tensor]) -> tuple[EncodedTables, PartSums]:
        """The same with leaves for tables, and sums that take each part's gradient at once."""
        tables = [Table.of(table) for table in (self.user_table, self.item_table)]
        sums = PartSums(tables, parameters)
        # scaled to length 1 already, where they are to be
        users, items = sums.leaves
        leaves = type(self)(users, items, "inner", self.pairs_in_memory)
        self.dense = True
        return leaves, sums

    def item_weight(self, negatives: Negatives) -> Tensor:
        """Sum of the weights that each item has as a negative of the rows, ``[item_num]``."""
        items, weight = negatives.items, negatives.weights()
        if items is None:
            assert weight is not None  # an excluded item has weight 0
            return weight.sum(dim=0).detach().to(self.items.dtype)
        total = torch.zeros_like(self._items[:, 0], requires_grad=False)
        if weight is None:
            # candidates that the rows share count once for each of them
            rows = len(negatives.scores.pos) / max(len(items), 1)
            each = torch.full_like(total[:1], rows / items.shape[1]).expand(items.numel())
        else:
            each = (weight.sum(dim=0) if len(items) == 1 else weight).reshape(-1)
        # with mixed precision, weights may have a shorter type than the tables
        return total.index_add(0, items.reshape(-1), each.detach().to(total.dtype))


class EncodedLayers(NamedTuple):
    """Users and items encoded at every layer.

    Attributes:
        layers: the embeddings.
    """

    layers: Layers

    def in_parts(self, parameters: Iterable[Tensor]) -> tuple[EncodedLayers, PartSums]:
        """As :meth:`EncodedTables.in_parts`, with a second sum for the negatives' squared norm."""
        num = len(self.layers.user)
        sums = PartSums([*self.layers.user, *self.layers.item], parameters, num=2)
        tables = tuple(Table.of(leaf) for leaf in sums.leaves)
        return EncodedLayers(Layers(tables[:num], tables[num:])), sums


class EmbeddingAdapter(ModelAdapter):
    """The part that all models with embeddings have in common; a subclass defines ``encode``."""

    products: ClassVar[bool] = True
    has_embeddings: ClassVar[bool] = True
    splits: ClassVar[bool] = True

    def tables(self) -> tuple[Tensor, ...]:
        """Embeddings of all users and of all items, ``[user_num, dim]`` and ``[item_num, dim]``."""
        raise NotImplementedError

    def predicted_tables(self) -> tuple[Tensor, ...] | None:
        """The two tables whose products the model's ``full_sort_predict`` returns, or None.

        They are the model's own, not :meth:`tables`, which may be other in the last digits; None of
        a model that predicts in a way of its own.
        """
        model: Any = self.model
        if hasattr(model, "cosine_tables"):
            return model.cosine_tables.get()
        known: Any = next(known for known in self.models if isinstance(model, known))
        if getattr(model.full_sort_predict, "__func__", None) is not known.full_sort_predict:
            return None
        return self._predicted_tables()

    def _predicted_tables(self) -> tuple[Tensor, ...]:
        """As :meth:`predicted_tables`, of a model with the ``full_sort_predict`` of its class."""
        model: Any = self.model
        if model.restore_user_e is None or model.restore_item_e is None:
            nobody = torch.zeros(1, dtype=torch.int64, device=model.device)
            model.full_sort_predict(Interaction({model.USER_ID: nobody}))
        return model.restore_user_e, model.restore_item_e

    def _encoded(self, *tables: Tensor, read: Read = as_they_are) -> EncodedTables:
        users, items = tables
        return EncodedTables(users, items, self.similarity, self.pairs_in_memory(), read)

    def total(
        self,
        encoded: EncodedTables | EncodedLayers,
        batch: Batch,
        loss: Tensor,
        negatives: Negatives | None = None,
        negative_rows: NegativeRows | None = None,
    ) -> Losses:
        """The model's loss; with one negative a row, RecBole's own L2 term looks that one up."""
        pairwise = self._reduced(loss, batch)
        neg_item = batch.pos_item
        if negatives is not None:
            assert isinstance(encoded, EncodedTables)
            items = negatives.items
            alike = negatives.weight is None and negatives.excluded is None
            # of several workers, each has its own rows' negatives
            alike = alike and not workers.active()
            if items is not None and items.shape[1] == 1 and alike:
                neg_item = items[:, 0].expand(batch.size)
            else:
                negative_rows = self._negative_rows(encoded, negatives)
        return self._model_loss(encoded, batch, neg_item, pairwise, negative_rows)

    def _model_loss(
        self,
        encoded: EncodedTables | EncodedLayers,
        batch: Batch,
        neg_item: Tensor,
        pairwise: Tensor,
        negative_rows: NegativeRows | None,
    ) -> Losses:
        """The model's ``calculate_loss``; with ``negative_rows``, ``neg_item`` is not looked at."""
        with ExitStack() as stack:
            stack.enter_context(self._pairwise_loss(lambda *scores: pairwise))
            if negative_rows is not None:
                stack.enter_context(self._emb_loss(emb_loss_with(negative_rows)))
            interaction = self._interaction(batch.user, batch.pos_item, neg_item)
            return self.model.calculate_loss(interaction)

    def _negative_rows(self, encoded: EncodedTables, negatives: Negatives) -> NegativeRows:
        items, weight = negatives.items, negatives.weight
        if items is None or len(items) == 1 or items.numel() >= len(encoded.items):
            return self.rows_by_weight(encoded, encoded.item_weight(negatives))
        root = items.shape[1] ** -0.5 if weight is None else weight.sqrt().unsqueeze(2)
        return lambda: self._regularised_table(encoded)[items] * root

    def rows_by_weight(self, encoded: EncodedTables, item_weight: Tensor) -> NegativeRows:
        """One row an item, which are fewer than the negatives where these are many."""
        return lambda: self._regularised_table(encoded) * item_weight.sqrt().unsqueeze(1)

    def _regularised_table(self, encoded: EncodedTables) -> Tensor:
        """The table whose rows the model's L2 term is of."""
        return self.model.item_embedding.weight


class LeafTables:
    """The tables that are learned, with gradients of zeros to add to in place.

    Args:
        tables: of users and items, leaves.
    """

    def __init__(self, *tables: Tensor) -> None:
        self._tables = tables
        self._grads: list[Tensor] | None = None
        #: the rows of each table that the last step had gradients in; None if unknown
        self.touched: tuple[Tensor, ...] | None = None

    def cleared(self) -> tuple[Tensor, ...]:
        """The tables, their gradients being zero."""
        if self._grads is None:
            self._grads = [torch.empty_like(table) for table in self._tables]
        touched = self.touched or (None,) * len(self._tables)
        self.touched = None
        for table, grad, ids in zip(self._tables, self._grads, touched, strict=True):
            table.grad = grad
            # the other rows are zeros already
            if ids is None or len(ids) > len(table):
                grad.zero_()
            elif devices.on_cpu(grad):
                rows = ids.numpy()
                threads.over_rows(kernels.clear_rows, len(rows), rows, whole=[grad.numpy()])
            else:
                grad.index_fill_(0, ids, 0.0)
        return self._tables

    def touch(self, batch: Batch, negatives: Negatives) -> None:
        """Have :attr:`touched` be the rows of a batch and of its negatives, which are items."""
        assert negatives.items is not None  # all items have a dense gradient
        items = torch.cat([batch.pos_item, negatives.items.reshape(-1)])
        self.touched = batch.user, items
        if workers.active():
            users, items = (
                workers.rows_of_all(ids, len(table))
                for ids, table in zip(self.touched, self._tables, strict=True)
            )
            self.touched = users, items

    def touched_rows(self) -> dict[Tensor, Tensor]:
        """:attr:`touched` by table; nothing if it is unknown."""
        touched = self.touched or ()
        return dict(zip(self._tables, touched, strict=False))

    def as_layers(self) -> EncodedLayers:
        """The tables as one layer."""
        users, items = self.cleared()
        return EncodedLayers(Layers((Table.of(users),), (Table.of(items),)))


def emb_loss_with(negatives: NegativeRows) -> Callable[..., Tensor]:
    """``EmbLoss.forward`` with other negatives than those it is given."""

    def forward(
        module: EmbLoss, user_e: Tensor, pos_e: Tensor, neg_e: Tensor, **kwargs: bool
    ) -> Tensor:
        # EmbLoss divides by the length of its last argument, which has to stay the batch's
        return type(module).forward(module, _of_all_workers(negatives()), user_e, pos_e, **kwargs)

    return forward


def _of_all_workers(rows: Tensor) -> Tensor:
    """Rows with the norm that those of all workers have together; without workers, the same."""
    if not workers.active():
        return rows
    return row_of_norm(workers.summed(rows.square().sum()))


def row_of_norm(square: Tensor) -> Tensor:
    """A row, ``[1]``, whose squared norm is ``square``, a scalar: with its gradient."""
    # the root's derivative at 0 is infinite
    return square.clamp(min=torch.finfo(square.dtype).tiny).sqrt().view(1)
