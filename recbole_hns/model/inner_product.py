"""Models that score by an inner product of user and item embeddings."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from recbole.model.general_recommender import BPR, DGCF, NCL, NGCF, SGL, LightGCN, SpectralCF
from recbole.model.loss import EmbLoss
from torch import Tensor

from recbole_hns.model.base import Losses, PairwiseModel, RowLoss, replaced
from recbole_hns.model.graph import Adjacency, adjacencies, mean_of_layers
from recbole_hns.model.parts import PartSums
from recbole_hns.model.scores import Table, list_scores, look_up

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

    from recbole_hns.data.candidates import CandidateSampler
    from recbole_hns.sampler.base import Chosen, HardNegativeSampler

#: ``forward()`` of these propagates over the graph and returns all embeddings.
GRAPH_MODELS = (LightGCN, NGCF, DGCF, NCL, SpectralCF)

#: Shorter embeddings have cosines as if they were this long, or their gradient had no bound.
SMALLEST_NORM = 1e-6


class InnerProductModel(PairwiseModel):
    """BPR and the graph models; the latter propagate once a step.

    What is propagated for scoring the candidates is what ``calculate_loss`` gets of its call of
    ``forward``.
    """

    models: ClassVar[tuple[type, ...]] = (BPR, SGL, *GRAPH_MODELS)

    @classmethod
    def knows(cls, model: type[GeneralRecommender]) -> bool:
        """Whether the model is one of these, or a subclass that scores in the same way."""
        for known in cls.models:
            if issubclass(model, known):
                names = ("predict", "forward") if known is BPR else ("predict",)
                return all(getattr(model, name) is getattr(known, name) for name in names)
        return False

    def __init__(self, model: GeneralRecommender) -> None:
        super().__init__(model)
        if isinstance(model, SGL):
            self.reduce = torch.sum
        #: whether the scores in training are cosines, or inner products
        self.cosine = False
        #: tensors within a step, None outside
        self.user_table: Any = None
        self.item_table: Any = None
        self._propagated_items: Any = None
        self._adjacencies: dict[str, Adjacency] = {}
        self._grads: list[Tensor] | None = None
        #: the rows of user and item table that the last step had gradients in; None if unknown
        self._touched: tuple[Tensor, Tensor] | None = None
        self._user_e: Any = None
        #: candidates of this step, then the chosen ones, and what the positives and they scored
        self._scored: tuple[Tensor, Tensor, Tensor] | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Propagate once for all that happens inside."""
        model = self.model
        with ExitStack() as stack:
            stack.enter_context(adjacencies(model, self._adjacencies))
            light_gcn = propagates_as_light_gcn(type(model))
            if isinstance(model, BPR) or (light_gcn and model.n_layers == 0):
                tables = self._leaf_tables()
                if light_gcn:
                    stack.enter_context(replaced(model, "forward", lambda: tables))
            else:
                # SGL's takes a graph, of which the whole one is what scores items
                graph = (model.train_graph,) if isinstance(model, SGL) else ()
                forward = full_precision(model.forward)
                if light_gcn and isinstance(model.norm_adj_matrix, Adjacency):
                    ego = model.get_ego_embeddings()
                    mean = mean_of_layers(ego, model.norm_adj_matrix, model.n_layers)
                    tables = mean.split([model.n_users, model.n_items])
                else:
                    tables = forward(*graph)

                def known(*other: Any) -> Any:
                    return tables if all(map(operator.is_, other, graph)) else forward(*other)

                stack.enter_context(replaced(model, "forward", known))
            self.user_table, self.item_table = tables[:2]
            self._propagated_items = self.item_table
            if self.cosine:
                self.user_table, self.item_table = (
                    F.normalize(table, dim=1, eps=SMALLEST_NORM) for table in tables[:2]
                )
            yield
        self.user_table = self.item_table = self._user_e = self._scored = None
        self._propagated_items = None

    def _leaf_tables(self) -> tuple[Tensor, Tensor]:
        """The learnt tables of users and items, with gradients of zeros to add to in place."""
        tables = self.model.user_embedding.weight, self.model.item_embedding.weight
        if self._grads is None:
            self._grads = [torch.empty_like(table) for table in tables]
        touched, self._touched = self._touched or (None, None), None
        for table, grad, ids in zip(tables, self._grads, touched, strict=True):
            # the other rows are zeros already, and filling one takes as long as 16 in a sweep
            if ids is not None and 16 * len(ids) < len(table):
                table.grad = grad.index_fill_(0, ids, 0.0)
            else:
                table.grad = grad.zero_()
        return tables

    def scores(
        self, user: Tensor, pos_item: Tensor, items: Tensor | None, candidates: CandidateSampler
    ) -> tuple[Tensor, Tensor]:
        """As the base class says."""
        with torch.enable_grad():  # the loss goes on from here
            self._user_e = _rows(self.user_table, user)
        user_e = self._user_e.detach()
        pos_scores = list_scores(user_e, self.item_table, pos_item.unsqueeze(1))
        scores = self._candidate_scores(user, user_e, items, candidates)
        if items is not None:
            self._scored = items, pos_scores, scores
        return pos_scores, scores

    def score(self, user: Tensor, items: Tensor | None, candidates: CandidateSampler) -> Tensor:
        """As the base class says."""
        user_e = self.user_table.detach().index_select(0, user)
        return self._candidate_scores(user, user_e, items, candidates)

    def _candidate_scores(
        self, user: Tensor, user_e: Tensor, items: Tensor | None, candidates: CandidateSampler
    ) -> Tensor:
        if items is None:
            return candidates.exclude(user, user_e @ self.item_table.t())
        if len(items) == 1:
            return user_e @ self.item_table.index_select(0, items[0]).t()
        return list_scores(user_e, self.item_table, items)

    def loss(
        self,
        user: Tensor,
        pos_item: Tensor,
        items: Tensor | None,
        weight: Tensor | None,
        row_loss: RowLoss,
    ) -> Losses:
        """As the base class says; :meth:`scores` was called before, for the same users."""
        pairwise = self.reduce(self._row_losses(pos_item, items, weight, row_loss))
        if self._has_bpr_alone and items is not None:
            self._touched = user, torch.cat([pos_item, items.reshape(-1)])
        if items is not None and items.shape[1] == 1:
            return self._model_loss(user, pos_item, items[:, 0].expand(len(user)), pairwise)
        emb_loss = self._weighted_emb_loss(items, weight)
        return self._model_loss(user, pos_item, pos_item, pairwise, emb_loss)

    def learn(
        self,
        user: Tensor,
        pos_item: Tensor,
        size: int,
        candidates: CandidateSampler,
        sampler: HardNegativeSampler,
    ) -> tuple[Losses, Tensor]:
        """As the base class says.

        The gradient of each part is taken at once, so that nothing of a part but its share in the
        gradient outlives it; the model's other terms are computed for the whole batch.
        """
        if size >= len(user):
            return super().learn(user, pos_item, size, candidates, sampler)
        tables = self.user_table, self.item_table
        pairwise = PartSums([Table.of(table) for table in tables], sampler.parameters())
        share = torch.zeros_like(self.item_table[:, 0])
        sums = torch.zeros(2, dtype=torch.float64, device=user.device)
        self.user_table, self.item_table = pairwise.leaves
        for users, positives in zip(user.split(size), pos_item.split(size), strict=True):
            items, weight, scores = self.choose(users, positives, candidates, sampler)
            pairwise.add(self._row_losses(positives, items, weight, sampler.loss).sum())
            share += self._share(items, weight)
            sums += scores
        self.user_table, self.item_table = tables

        (total,) = pairwise.totals()
        if self.reduce is torch.mean:
            total = total / len(user)
        emb_loss = emb_loss_with(lambda: self._regularised_rows(share))
        return self._model_loss(user, pos_item, pos_item, total, emb_loss), sums

    def _keep(self, chosen: Chosen) -> None:
        if self._scored is not None and chosen.items is not None:
            self._scored = chosen.items, chosen.pos_scores, chosen.scores

    def _row_losses(
        self,
        pos_item: Tensor,
        items: Tensor | None,
        weight: Tensor | None,
        row_loss: RowLoss,
    ) -> Tensor:
        """The sampler's loss of each positive, ``[batch]``, of the users last scored."""
        user_e = self._user_e
        if items is None:
            scores = user_e @ self.item_table.t()
            pos_scores = scores.gather(1, pos_item.unsqueeze(1))
        elif len(items) == 1:
            pos_e = _rows(self.item_table, pos_item)
            pos_scores = (user_e * pos_e).sum(dim=1, keepdim=True)
            scores = user_e @ _rows(self.item_table, items[0]).t()
        else:
            known = None
            if self._scored is not None and items is self._scored[0]:
                known = torch.cat(self._scored[1:], dim=1)
            listed = torch.cat([pos_item.unsqueeze(1), items], dim=1)
            scores = list_scores(user_e, self.item_table, listed, known)
            pos_scores, scores = scores[:, :1], scores[:, 1:]
        return row_loss(pos_scores, scores, weight)

    @property
    def _has_bpr_alone(self) -> bool:
        """Whether the model's loss is its pairwise loss and nothing else."""
        return type(self.model).calculate_loss is BPR.calculate_loss

    def _model_loss(
        self,
        user: Tensor,
        pos_item: Tensor,
        neg_item: Tensor,
        pairwise: Tensor,
        emb_loss: Callable[..., Tensor] | None = None,
    ) -> Losses:
        """The model's ``calculate_loss`` with ``pairwise`` for its pairwise loss.

        With ``emb_loss``, its L2 terms are that function's, and ``neg_item`` is not looked at.
        """
        if self._has_bpr_alone:
            return pairwise

        def return_pairwise(*args: Any) -> Tensor:
            return pairwise

        model = self.model
        with ExitStack() as stack:
            for module in self._pairwise_losses():
                stack.enter_context(replaced(module, "forward", return_pairwise))
            if isinstance(model, SGL):

                def bpr_and_l2(user_emd: Tensor, item_emd: Tensor, *ids: Tensor) -> Tensor:
                    rows = (table(id_) for table, id_ in zip(ego_tables, ids, strict=True))
                    return pairwise + model.reg_weight * model.reg_loss(*rows)

                ego_tables = (model.user_embedding, model.item_embedding, model.item_embedding)
                stack.enter_context(replaced(model, "calc_bpr_loss", bpr_and_l2))
            if emb_loss:
                stack.enter_context(self._emb_loss(emb_loss))
            return model.calculate_loss(self._interaction(user, pos_item, neg_item))

    def _weighted_emb_loss(
        self, items: Tensor | None, weight: Tensor | None
    ) -> Callable[..., Tensor]:
        """``EmbLoss`` whose negatives' squared norm is the weighted mean over all M.

        With M = 1 it is RecBole's own. Its three arguments are rows of users, positives and
        negatives; the last is replaced by rows whose Frobenius norm is that mean's root.
        """
        if items is None or len(items) == 1 or items.numel() >= len(self.item_table):
            return emb_loss_with(lambda: self._regularised_rows(self._share(items, weight)))
        root = items.shape[1] ** -0.5 if weight is None else weight.sqrt().unsqueeze(2)
        return emb_loss_with(lambda: self._regularised_table()[items] * root)

    def _regularised_rows(self, share: Tensor) -> Tensor:
        """One row an item for the same norm, which is smaller where the negatives are many."""
        return self._regularised_table() * share.sqrt().unsqueeze(1)

    def _regularised_table(self) -> Tensor:
        propagated = isinstance(self.model, (NGCF, SpectralCF))
        return self._propagated_items if propagated else self.model.item_embedding.weight

    def _share(self, items: Tensor | None, weight: Tensor | None) -> Tensor:
        """Sum of the weights that each item has as a negative, ``[item_num]``."""
        if items is None:
            assert weight is not None
            return weight.sum(dim=0)
        share = torch.zeros_like(self.item_table[:, 0], requires_grad=False)
        if weight is None:
            # candidates that the rows share count once for each of them
            rows = len(self._user_e) / len(items)
            each = torch.full_like(share[:1], rows / items.shape[1]).expand(items.numel())
        else:
            each = (weight.sum(dim=0) if len(items) == 1 else weight).reshape(-1)
        return share.index_add(0, items.reshape(-1), each.detach())


def _rows(table: Tensor, ids: Tensor) -> Tensor:
    return look_up([Table.of(table)], [ids]).squeeze(0)


def propagates_as_light_gcn(model: type[GeneralRecommender]) -> bool:
    """Whether a model's tables are LightGCN's, the means over the layers."""
    return all(
        getattr(model, name, None) is getattr(LightGCN, name)
        for name in ("forward", "get_ego_embeddings")
    )


def emb_loss_with(negatives: Callable[[], Tensor]) -> Callable[..., Tensor]:
    """``EmbLoss.forward`` with other negatives than those it is given."""

    def forward(
        module: EmbLoss, user_e: Tensor, pos_e: Tensor, neg_e: Tensor, **kwargs: Any
    ) -> Tensor:
        # EmbLoss divides by the length of its last argument, which has to stay the batch's
        return type(module).forward(module, negatives(), user_e, pos_e, **kwargs)

    return forward


def full_precision(propagate: Callable[..., Any]) -> Callable[..., Any]:
    """``propagate`` without mixed precision, in which sparse products have no backward pass."""

    def forward(*graph: Any) -> Any:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return propagate(*graph)

    return forward
