"""The way of a batch from its users and positives to the model's loss.

This is the one module that knows models, samplers and losses; they do not know each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_hns.batch import Batch, Encoded, Negatives, Scores, Selection
from recbole_hns.data import NegativePool
from recbole_hns.loss import Loss
from recbole_hns.model import Losses, ModelAdapter
from recbole_hns.model.embeddings import EncodedTables, row_of_norm
from recbole_hns.model.sequential import EncodedQueries
from recbole_hns.ops import workers
from recbole_hns.sampler import HardNegativeSampler, LayeredSampler


class Step(NamedTuple):
    """What a batch is learned from.

    Attributes:
        losses: the model's loss, as its ``calculate_loss`` returns it.
        score_sums: sums of the selected negatives' scores, weighted, and of the positives',
            ``[2]``, float64; hardness is their ratio.
    """

    losses: Losses
    score_sums: Tensor


def batch_losses(
    batch: Batch,
    model: ModelAdapter,
    sampler: HardNegativeSampler,
    loss: Loss,
    pool: NegativePool,
) -> Step:
    """Propose candidates, score them, select negatives and compute the loss of a batch.

    A batch whose candidates take more than ``step_memory`` is learned from in parts: the gradient
    of each part is taken at once, so that nothing of a part but what it adds to the gradient
    outlives it. The model's other terms are computed for the whole batch.

    Where several workers train one model, each selects and learns for its own rows of every part,
    and its loss is so many times theirs: the mean over the workers, also of the gradients, is that
    of the batch. A loss that picks its negatives itself, and a model whose batches are not learned
    from in parts, are the whole batch's on each of them.

    Args:
        batch: the whole batch.
        model: the model's adapter.
        sampler: selects the negatives; its parameters get their gradient.
        loss: what is learned from them; its parameters likewise.
        pool: what candidates are drawn from.
    """
    scored = sampler.scored_num(pool.item_num, batch.size)
    rows = model.pairs_in_memory(sampler.rows_per_pair) // scored + 1
    with torch.no_grad():
        batch = batch._replace(shared=sampler.shared_items(batch, pool))
    catalogue = model.sequential and batch.shared is None and sampler.num_drawn == "all"
    whole = loss.picks_itself or (catalogue and _sums_suffice(sampler, loss, batch.user))
    if rows < batch.size and model.splits and not whole:
        parts = list(batch.split(rows, whole_users=loss.pools_users))
    else:
        parts = [batch]
    with model.encode(batch, isinstance(sampler, LayeredSampler)) as encoded:
        if isinstance(sampler, LayeredSampler):
            return _layered_losses(batch, parts, model, encoded, sampler, loss, pool)
        if loss.picks_itself:
            value, scores = loss.of_items(encoded.query(batch), encoded.item_table, batch, pool)
            # an L2 term has no negatives
            nothing = torch.zeros_like(encoded.item_table[:1])
            total = model.total(encoded, batch, value, negative_rows=lambda: nothing)
            return Step(total, _sums(scores))
        if len(parts) == 1:
            value, negatives = part_losses(batch, encoded, sampler, loss, pool, model.splits)
            total = model.total(encoded, batch, value, negatives)
            return Step(total, _negatives_sums(negatives, model.splits))

        leaves, sums = encoded.in_parts(chain(sampler.parameters(), loss.parameters()))
        score_sums, item_weights = [], []
        for part in parts:
            value, negatives = part_losses(part, leaves, sampler, loss, pool)
            sums.add(value)
            item_weights.append(leaves.item_weight(negatives))
            score_sums.append(_negatives_sums(negatives, model.splits))
        (value,) = sums.totals()
        rows_of_negatives = model.rows_by_weight(encoded, sum(item_weights))
        total = model.total(encoded, batch, value, negative_rows=rows_of_negatives)
        return Step(total, torch.stack(score_sums).sum(dim=0))


def part_losses(
    part: Batch,
    encoded: Encoded,
    sampler: HardNegativeSampler,
    loss: Loss,
    pool: NegativePool,
    divides: bool = True,
) -> tuple[Tensor, Negatives]:
    """The configured loss of a part of a batch, a scalar, and the negatives it learns from.

    Args:
        part: users and positives.
        encoded: the batch.
        sampler: selects the negatives.
        loss: what is learned from them.
        pool: what candidates are drawn from.
        divides: whether each of several workers takes its own rows, which the negatives are then
            of; the loss is their number times that of these.
    """
    with torch.no_grad():
        candidates = sampler.propose(part, encoded, pool)
    selection = None
    if divides and workers.active():
        if not sampler.divides:
            with torch.no_grad():
                scores = encoded.score(encoded.query(part), part, candidates)
                selection = sampler.select(scores, candidates, part)
        part = _own(part, loss)
        candidates = candidates.of_worker(part)
        if selection is not None:
            selection = Selection(
                *(None if each is None else each[part.rows] for each in selection)
            )
    query = encoded.query(part)
    items = candidates.items
    if (
        isinstance(encoded, EncodedTables)
        and _sums_suffice(sampler, loss, query)
        and (isinstance(encoded, EncodedQueries) if items is None else len(items) == 1)
    ):
        pos, products, negatives = encoded.unscored(query, part, candidates)
        # not made, as the loss only hands them on
        neg: Any = products
        value = loss(Scores(pos, neg), negatives, part)
        return _of_all(value, part), negatives.with_sums(products.sums)
    with torch.no_grad():
        scores = encoded.score(query, part, candidates)
        if selection is None:
            selection = sampler.select(scores, candidates, part)
        negatives = Negatives.of(candidates, scores, selection)
    value = loss(encoded.rescore(query, part, negatives), negatives, part)
    return _of_all(value, part), negatives


def _own(part: Batch, loss: Loss) -> Batch:
    """The rows of this worker, where there are several; else all."""
    if not workers.active():
        return part
    return part.of_worker(workers.own_rows(part.user, loss.pools_users))


def _of_all(value: Tensor, part: Batch) -> Tensor:
    """What one worker's rows add to the loss of a batch, in proportion to the mean over workers."""
    return value if part.whole is None else value * workers.number()


def _sums_suffice(sampler: HardNegativeSampler, loss: Loss, on: Tensor) -> bool:
    """Whether sums over all candidates are all that is learned from, where rows have the same."""
    takes_sums = sampler.takes_all and loss.sums_only
    return takes_sums and not torch.is_autocast_enabled(on.device.type)


def _layered_losses(
    batch: Batch,
    parts: Sequence[Batch],
    model: ModelAdapter,
    encoded: Any,
    sampler: LayeredSampler,
    loss: Loss,
    pool: NegativePool,
) -> Step:
    """As :func:`batch_losses`, of a sampler that learns from the embeddings of every layer."""
    if len(parts) == 1:
        own = _own(batch, loss)
        learned = sampler.batch_losses(own, encoded, pool, loss)
        value = _of_all(learned.loss, own)
        total = model.total(encoded, batch, value, negative_rows=lambda: learned.negatives)
        return Step(total, _sums(learned.scores, divided=True))

    leaves, sums = encoded.in_parts(chain(sampler.parameters(), loss.parameters()))
    score_sums = []
    for part in parts:
        own = _own(part, loss)
        learned = sampler.batch_losses(own, leaves, pool, loss)
        sums.add(_of_all(learned.loss, own), learned.negatives.square().sum())
        score_sums.append(_sums(learned.scores, divided=True))
    value, squares = sums.totals()
    total = model.total(encoded, batch, value, negative_rows=lambda: row_of_norm(squares))
    return Step(total, torch.stack(score_sums).sum(dim=0))


def _negatives_sums(negatives: Negatives, divided: bool) -> Tensor:
    return _sums(Scores(negatives.scores.pos, negatives.mean_scores()), divided)


def _sums(scores: Scores, divided: bool = False) -> Tensor:
    """Sums of the scores, times the number of workers where each has its own rows."""
    sums = torch.stack([scores.neg.detach().double().sum(), scores.pos.detach().double().sum()])
    return sums * workers.number() if divided else sums
