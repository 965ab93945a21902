"""Models that make a query of a sequence of items, to score the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import (
    FDSA,
    FOSSIL,
    GCSAN,
    HGN,
    HRM,
    NARM,
    NPE,
    SHAN,
    SINE,
    SRGNN,
    STAMP,
    Caser,
    FEARec,
    GRU4Rec,
    GRU4RecF,
    LightSANs,
    NextItNet,
    SASRec,
    SASRecF,
)
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Negatives
from recbole_hns.data.sequences import targets_field
from recbole_hns.model.base import (
    Losses,
    ModelAdapter,
    NegativeRows,
    replaced,
    with_pairwise,
)
from recbole_hns.model.embeddings import EncodedTables
from recbole_hns.ops.product_sums import CatalogueSums, ProductSums


class EncodedQueries(EncodedTables):
    """A batch of sequences as a model encodes it: in place of a table of users, one of queries.

    Attributes:
        losses: what ``calculate_loss`` returned for a pairwise loss of 0, of models that call it.
        pairwise: that 0, which has a gradient in :attr:`losses`.
    """

    losses: Any = None
    pairwise: Any = None

    def query(self, part: Batch) -> Tensor:
        """What the model makes of each row's sequence, with gradient: ``[B, dim]``."""
        assert part.row is not None
        self._kept.clear()
        return self._rows(self._users, part.row)

    def unscored(
        self, query: Tensor, part: Batch, candidates: Candidates
    ) -> tuple[Tensor, ProductSums, Negatives]:
        """As of tables, and of the whole catalogue too."""
        if candidates.items is not None:
            return super().unscored(query, part, candidates)
        table = self.item_table
        pos = (query * self._items_of_part(part.pos_item)).sum(dim=1, keepdim=True)
        negatives = Negatives.unscored(candidates, pos.detach(), len(table))
        sums = CatalogueSums(query, table, negatives.excluded, self.pairs_in_memory)
        return pos, sums, negatives

    def user_scores(self, user: Tensor, items: Tensor | None) -> Tensor:
        """There is no query of a user, who has one for each sequence."""
        raise NotImplementedError

    def item_weight(self, negatives: Negatives) -> Tensor:
        """Nothing, as no sequential model has an L2 term of negatives."""
        return self._items.new_zeros(())


class SequentialAdapter(ModelAdapter):
    """Models whose ``forward`` returns a query of each sequence, which item embeddings multiply.

    ``calculate_loss`` runs once a batch, as RecBole wrote it for BPR, with a pairwise loss of 0:
    what its first call of ``forward`` returns are the queries, encoded once and with one dropout,
    and its further terms (contrastive, of weights) are in the total.

    Attributes:
        causal: the models of which each position sees only what is before it, so that all positions
            can be learned from. Their ``forward`` gathers the last one in ``gather_indexes``.
    """

    models: ClassVar[tuple[type, ...]] = (
        SASRec,
        GRU4Rec,
        NARM,
        STAMP,
        NextItNet,
        Caser,
        LightSANs,
        FEARec,
        SINE,
        SRGNN,
        GCSAN,
        HGN,
        SHAN,
        NPE,
        FOSSIL,
        HRM,
        SASRecF,
        GRU4RecF,
        FDSA,
    )
    causal: ClassVar[tuple[type, ...]] = (SASRec, GRU4Rec, SASRecF, GRU4RecF, FDSA)
    products: ClassVar[bool] = True
    splits: ClassVar[bool] = True
    sequential: ClassVar[bool] = True

    def item_table(self) -> Tensor:
        """What queries are multiplied by, ``[item_num, dim]``."""
        model = self.model
        if isinstance(model, HGN):
            return model.item_embedding_for_prediction.weight
        if isinstance(model, NPE):
            return model.relu(model.item_embedding.weight)
        return model.item_embedding.weight

    def batch(self, interaction: Interaction) -> Batch:
        """The rows that are learned from, each with a query of its own.

        Args:
            interaction: RecBole's, of sequences and the item that follows each, on the device.
        """
        (sequence, *_), pos_item = self.targets(interaction)
        user = interaction[self.model.USER_ID][sequence]
        row = torch.arange(len(user), device=user.device)
        # a batch of which nothing is masked has no row, and no loss
        return Batch(user, pos_item, max(1, len(user)), row=row, sequences=interaction)

    def queries(self, interaction: Interaction) -> Tensor:
        """What scores the items after each sequence, as ``predict`` makes it, ``[B, dim]``.

        Args:
            interaction: of sequences, on the device.
        """
        with self._outputs() as outputs:
            # the class's, as the model's own may be one by cosines
            type(self.model).predict(self.model, interaction)
        return outputs[0]

    def own_items(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of which sequence each row is, ``[B]``, and the items of every sequence.

        These are ``[S, L + 1]``, 0 being none: the one that follows the sequence is among them.
        """
        model, (index, _) = self.model, self.targets(batch.sequences)
        listed, last = batch.sequences[model.ITEM_SEQ], batch.sequences[model.ITEM_ID]
        return index[0], torch.cat([listed, last.unsqueeze(1)], dim=1)

    def targets(self, interaction: Interaction) -> tuple[tuple[Tensor, ...], Tensor]:
        """Where the rows' queries are in what ``forward`` returns, and their positives, ``[B]``.

        Returns:
            Indices of one dimension, or of two where there is a query of each position.
        """
        field = targets_field(self.model.ITEM_SEQ)
        if field in interaction:
            index = interaction[field].nonzero(as_tuple=True)
            return index, interaction[field][index]
        pos_item = interaction[self.model.POS_ITEM_ID]
        return (torch.arange(len(pos_item), device=pos_item.device),), pos_item

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """Make the queries of a batch."""
        assert batch is not None
        model = self.model
        zero = torch.zeros((), device=batch.user.device, requires_grad=True)
        sequences = batch.sequences
        items = sequences[model.POS_ITEM_ID]
        (index, _), field = self.targets(sequences), targets_field(model.ITEM_SEQ)
        with ExitStack() as stack:
            if field in sequences:
                items = sequences[field]
                every = replaced(model, "gather_indexes", lambda output, index: output)
                stack.enter_context(every)
            outputs = stack.enter_context(self._outputs())
            # FEARec adds to the loss in place, which a leaf does not allow
            stack.enter_context(self._pairwise_loss(lambda *_: zero.clone()))
            # negatives are looked up, and not looked at
            more = {model.POS_ITEM_ID: items, model.NEG_ITEM_ID: items}
            losses = model.calculate_loss(Interaction({**sequences.interaction, **more}))
        encoded = self._encoded(outputs[0][index], self.item_table())
        encoded.losses, encoded.pairwise = losses, zero
        yield encoded

    @contextmanager
    def _outputs(self) -> Iterator[list[Tensor]]:
        """What the model's ``forward`` returns within it, each time that it is called."""
        model, outputs = self.model, []

        def forward(*args: Any) -> Tensor:
            outputs.append(type(model).forward(model, *args))
            return outputs[-1]

        with replaced(model, "forward", forward):
            yield outputs

    def _encoded(self, queries: Tensor, items: Tensor) -> EncodedQueries:
        return EncodedQueries(queries, items, self.similarity, self.pairs_in_memory())

    def total(
        self,
        encoded: Any,
        batch: Batch,
        loss: Tensor,
        negatives: Negatives | None = None,
        negative_rows: NegativeRows | None = None,
    ) -> Losses:
        """What ``calculate_loss`` returned, with ``loss`` in place of the 0 that it was given."""
        return with_pairwise(encoded.losses, encoded.pairwise, loss)

    def rows_by_weight(self, encoded: Any, item_weight: Any) -> NegativeRows:
        """Nothing, which is not asked for: no sequential model has an L2 term of negatives."""
        return lambda: item_weight


class QueriesAdapter(SequentialAdapter):
    """Models of which queries and items are all, their loss having no further terms."""

    causal: ClassVar[tuple[type, ...]] = ()

    def batch_queries(self, batch: Batch) -> Tensor:
        """The query of each row, ``[B, dim]``."""
        return self.queries(batch.sequences)

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """Make the queries of a batch, then the items: both may draw a dropout."""
        assert batch is not None
        yield self._encoded(self.batch_queries(batch), self.item_table())

    def total(
        self,
        encoded: Any,
        batch: Batch,
        loss: Tensor,
        negatives: Negatives | None = None,
        negative_rows: NegativeRows | None = None,
    ) -> Losses:
        """The loss as it is."""
        return loss
