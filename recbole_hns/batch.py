"""The values that flow from a batch to its loss, in their order.

``training/step.py`` hands them on: a :class:`Batch` is given :class:`Candidates`, which are scored
(:class:`Scores`); a sampler selects among them (:class:`Selection`), and the :class:`Negatives`
that this makes are what a loss learns from. Samplers and losses see a model only as
:class:`Encoded`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from recbole_hns.ops.finite_sums import finite_sums
from recbole_hns.ops.log_sum_exp import log_sum_exp
from recbole_hns.ops.product_sums import ProductSums


class Batch(NamedTuple):
    """Positives to learn from: a whole batch, or the part of it that fits in memory.

    Attributes:
        user: ``[B]``, int64.
        pos_item: the positive of each, ``[B]``, int64.
        size: rows of the whole batch, by which its loss is averaged.
        shared: items that all rows of the batch have as candidates, ``[1, N]``, int64; None where
            each row has its own.
        excluded_by: whose items each row leaves out, as the pool numbers them, ``[B]``, int64; None
            for its user.
        row: index of each row's query among those of the whole batch, ``[B]``, int64, where a query
            is made of a sequence; None where it is the user's.
        sequences: RecBole's interaction with the sequences of the whole batch, likewise.
        whole: the part of which these rows are one worker's, where several train one model; None
            where this is all of it.
        rows: which of its rows these are, a slice or ``[B]``, int64; likewise.
    """

    user: Tensor
    pos_item: Tensor
    size: int
    shared: Tensor | None = None
    excluded_by: Tensor | None = None
    row: Tensor | None = None
    sequences: Any = None
    whole: Any = None
    rows: Any = None

    @property
    def owner(self) -> Tensor:
        """Whose items each row leaves out, as the pool numbers them, ``[B]``, int64."""
        return self.user if self.excluded_by is None else self.excluded_by

    @classmethod
    def of(cls, user: Tensor, pos_item: Tensor) -> Batch:
        """The whole batch of some users and their positives."""
        return cls(user, pos_item, len(user))

    def split(self, rows: int, whole_users: bool = False) -> Iterator[Batch]:
        """Parts of ``rows`` rows, the last perhaps smaller.

        Args:
            rows: > 0.
            whole_users: have all rows of a user in one part, which may then have more rows.
        """
        sizes: int | list[int] = rows
        fields = self._of_rows()
        if whole_users:
            order = self.user.argsort(stable=True)
            fields = {name: field[order] for name, field in fields.items()}
            sizes = [0]
            for count in fields["user"].unique_consecutive(return_counts=True)[1].tolist():
                if sizes[-1] and sizes[-1] + count > rows:
                    sizes.append(0)
                sizes[-1] += count
        for parts in zip(*(field.split(sizes) for field in fields.values()), strict=True):
            yield self._replace(**dict(zip(fields, parts, strict=True)))

    def of_worker(self, rows: slice | Tensor) -> Batch:
        """The rows of one worker, by their index."""
        fields: dict[str, Any] = {name: field[rows] for name, field in self._of_rows().items()}
        return self._replace(**fields, whole=self, rows=rows)

    def drawn(self, draw: Callable[[Batch], Tensor], dim: int = 0) -> Tensor:
        """Random numbers of each row, the same on however many workers.

        Args:
            draw: draws for the rows of a part.
            dim: the dimension of the rows in what it returns.
        """
        if self.whole is None:
            return draw(self)
        return draw(self.whole)[(slice(None),) * dim + (self.rows,)]

    def _of_rows(self) -> dict[str, Tensor]:
        """The fields with a value for each row."""
        names = ("user", "pos_item", "excluded_by", "row")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class Candidates(NamedTuple):
    """The candidates of a part, among which a sampler selects.

    Attributes:
        items: item ids, ``[B, N]``, or ``[1, N]`` where all rows share them, int64; None for every
            item of the catalogue, candidate n being item n.
        excluded: row and column of every candidate that cannot be a negative of its row,
            two int64 tensors of one length; its score is minus infinity. None: every candidate can.
        log_q: logarithm of the probability with which each candidate was drawn, up to a constant of
            its row, ``[B, N]``; None where all are as likely.
        negative_num: number of items that each row's user has not interacted with, ``[B, 1]``,
            int64; None where the sampler does not ask for it.
    """

    items: Tensor | None
    excluded: tuple[Tensor, Tensor] | None = None
    log_q: Tensor | None = None
    negative_num: Tensor | None = None

    def of_worker(self, part: Batch) -> Candidates:
        """Those of one worker's rows, from those of the whole part."""
        num, rows = len(part.whole.user), part.rows

        def own(values: Tensor | None) -> Tensor | None:
            if values is None or len(values) != num or values is part.shared:
                return values
            return values[rows]

        excluded = self.excluded
        if excluded is not None:
            row, column = excluded
            place = row.new_full((num,), -1)
            place[rows] = torch.arange(len(part.user), device=row.device)
            kept = place[row] >= 0
            excluded = place[row[kept]], column[kept]
        return Candidates(own(self.items), excluded, own(self.log_q), own(self.negative_num))


class Scores(NamedTuple):
    """Scores of positives and of candidates or negatives.

    Attributes:
        pos: r_ui, ``[B, 1]``.
        neg: r_uj, ``[B, N]``; minus infinity where excluded. A loss with ``sums_only`` may be given
            what stands for them, and hands it to :meth:`Negatives.log_sum_exp`.
    """

    pos: Tensor
    neg: Tensor


class Selection(NamedTuple):
    """What a sampler selected among the candidates.

    Attributes:
        columns: column of each selected candidate, ``[B, M]``, int64; None selects all N, in order.
        weight: weight of each in the loss, ``[B, M]``, each row summing to 1; None is 1 / M.
        scale: factor of each row's loss, ``[B]``; None is 1.
    """

    columns: Tensor | None = None
    weight: Tensor | None = None
    scale: Tensor | None = None


class Negatives(NamedTuple):
    """The negatives of a part.

    Attributes:
        items: item ids, ``[B, M]``, or ``[1, M]`` where all rows share them, int64; None for every
            item of the catalogue.
        scores: scores of the positives and of them, without gradient; 0 for an excluded candidate
            where there are weights.
        weight: weight of each, ``[B, M]``; 0 for an excluded candidate, also if selected. None
            weights all of a row alike that are not excluded.
        scale: factor of each row's loss, ``[B]``; None is 1. 0 in a row that has no negative.
        excluded: row and column of each excluded candidate among them, where there are no weights
            to say so; it scores minus infinity, also with gradient. None: there is none.
        num: number of negatives of each row, ``[B, 1]``, where ``excluded`` is given.
        means: mean of each row's scores, ``[B]``, where the scores are not made and stand as zeros.
    """

    items: Tensor | None
    scores: Scores
    weight: Tensor | None = None
    scale: Tensor | None = None
    excluded: tuple[Tensor, Tensor] | None = None
    num: Tensor | None = None
    means: Tensor | None = None

    @classmethod
    def of(cls, candidates: Candidates, scores: Scores, selection: Selection) -> Negatives:
        """The candidates that were selected, those that are excluded with weight 0."""
        columns, weight, scale = selection
        if candidates.excluded is not None and columns is None and weight is None:
            return cls._all_of(candidates.items, candidates.excluded, scores, scale)
        neg = scores.neg if columns is None else scores.neg.gather(1, columns)
        if candidates.excluded is not None:
            inside = neg != -torch.inf
            if weight is None:
                weight = 1 / inside.sum(dim=1, keepdim=True).clamp(min=1).to(neg.dtype)
            # not times 0: where nothing is inside, weights are NaN
            weight = torch.where(inside, weight, 0)
            # finite, or a loss that squares scores would have NaN for a gradient
            neg = torch.where(inside, neg, 0)
        items = candidates.items
        if items is None:
            items = columns
        elif columns is not None:
            items = items.expand(len(neg), -1).gather(1, columns)
        return cls(items, Scores(scores.pos, neg), weight, scale)

    @classmethod
    def _all_of(
        cls,
        items: Tensor | None,
        excluded: tuple[Tensor, Tensor],
        scores: Scores,
        scale: Tensor | None,
    ) -> Negatives:
        """All candidates but the excluded, without a matrix of weights, which costs several passes.

        A row of which all are excluded keeps them, with scores of 0 and at scale 0, so that its
        gradient is a number.
        """
        row, column = excluded
        rows, width = scores.neg.shape
        # torch.bincount would wait for a GPU
        num = width - row.new_zeros(rows).scatter_add_(0, row, torch.ones_like(row))
        some = num > 0
        none = (~some).nonzero().squeeze(1)
        if len(none):  # seldom, and copies take time
            scores = scores._replace(neg=scores.neg.index_fill(0, none, 0.0))
            scale = some.to(scores.neg.dtype) if scale is None else torch.where(some, scale, 0)
            kept = some[row]
            excluded = row[kept], column[kept]
        return cls(items, scores, None, scale, excluded, num.unsqueeze(1))

    @classmethod
    def unscored(cls, candidates: Candidates, pos: Tensor, num: int) -> Negatives:
        """All candidates that rows share, with zeros that take no memory in place of their scores.

        Args:
            candidates: the candidates.
            pos: scores of the positives, ``[B, 1]``, without gradient.
            num: how many candidates there are.
        """
        neg = pos.new_zeros(()).expand(len(pos), num)
        return cls.of(candidates, Scores(pos, neg), Selection())

    def with_sums(self, sums: Tensor) -> Negatives:
        """The same with the mean of scores that are not made, from each row's sum, ``[B]``."""
        if self.num is None:
            return self._replace(means=sums / self.scores.neg.shape[1])
        num = self.num.squeeze(1)
        return self._replace(means=torch.where(num > 0, sums, 0) / num.clamp(min=1))

    def mean(self, losses: Tensor) -> Tensor:
        """Weighted mean of the losses of each row's negatives.

        Args:
            losses: ``[B, M]``; 0 for a score of minus infinity.

        Returns:
            ``[B]``.
        """
        if self.weight is not None:
            return weighted(losses, self.weight).sum(dim=1)
        if self.num is None:
            return losses.mean(dim=1)
        return losses.sum(dim=1) / self.num.squeeze(1).clamp(min=1)

    def counts(self) -> Tensor:
        """Number of each row's negatives, ``[B]``: those of a weight > 0."""
        if self.weight is not None:
            return torch.count_nonzero(self.weight, dim=1)
        if self.num is not None:
            return self.num.squeeze(1)
        rows, width = self.scores.neg.shape
        return torch.full((rows,), width, device=self.scores.neg.device)

    def log_sum_exp(self, values: Tensor | ProductSums, tau: float, linear: bool = False) -> Tensor:
        """Log sum_j n w_j exp(x_j / tau) of each row, n being the number of weights > 0.

        With equal weights that is the logarithm of the plain sum.

        Args:
            values: x, ``[B, M]``; where there are no weights, minus infinity for what is excluded.
                Or the negatives' scores in the form in which the loss was given them.
            tau: the temperature, > 0.
            linear: whether the loss of a row is it, up to a constant and a factor that all rows
                have alike; a hint that saves time.

        Returns:
            ``[B]``; any number, without gradient, in a row without negatives.
        """
        if isinstance(values, ProductSums):
            return values.log_sum_exp(tau, linear)
        if self.weight is None:
            return log_sum_exp(values, tau)
        num = self.counts().unsqueeze(1)
        exponent = torch.where(
            self.weight == 0, -torch.inf, values / tau + (self.weight * num).log()
        )
        return log_sum_exp(torch.where(num == 0, 0.0, exponent), 1.0)

    def mean_scores(self) -> Tensor:
        """Weighted mean of the scores of each row's negatives, ``[B]``; 0 where it has none."""
        if self.means is not None:
            return self.means
        if self.num is None:
            return self.mean(self.scores.neg)
        return finite_sums(self.scores.neg) / self.num.squeeze(1).clamp(min=1)

    def weights(self) -> Tensor | None:
        """The weights as a matrix, ``[B, M]``; None where all of the part are 1 / M."""
        if self.excluded is None or self.num is None:
            return self.weight
        weight = (1 / self.num.clamp(min=1)).to(self.scores.neg.dtype) * (self.num > 0)
        weight = weight.expand(self.scores.neg.shape).contiguous()
        weight[self.excluded] = 0
        return weight


def weighted(losses: Tensor, weight: Tensor) -> Tensor:
    """Losses times weights, a weight of 0 giving 0 whatever the loss.

    A weight that is NaN makes the product NaN.
    """
    return torch.where(weight == 0, 0, losses * weight)


class Encoded(Protocol):
    """A batch as a model encodes it: queries, and the items that they score.

    Attributes:
        user_table: embeddings of all users, ``[user_num, dim]``; of models that have them.
        item_table: embeddings of all items, ``[item_num, dim]``; likewise.
        pairs_in_memory: pairs of a query and an item that ``step_memory`` has room for.
    """

    @property
    def user_table(self) -> Tensor: ...

    @property
    def item_table(self) -> Tensor: ...

    @property
    def pairs_in_memory(self) -> int: ...

    def query(self, part: Batch) -> Tensor:
        """What scores the items of each row, with gradient: ``[B, dim]``."""

    def score(self, query: Tensor, part: Batch, candidates: Candidates) -> Scores:
        """Scores of positives and candidates, without gradient."""

    def rescore(self, query: Tensor, part: Batch, negatives: Negatives) -> Scores:
        """Scores of positives and negatives, with gradient."""

    def user_scores(self, user: Tensor, items: Tensor | None) -> Tensor:
        """Scores of any items for any users, without gradient.

        Args:
            user: ``[B]``, int64.
            items: ``[B, N]`` or ``[1, N]``, int64; None for every item.

        Returns:
            ``[B, N]``.
        """
