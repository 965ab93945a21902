"""SCE: scalable cross-entropy (Mezentsev et al., RecSys 2024)."""

from __future__ import annotations

import math

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_hns.batch import Batch, Scores
from recbole_hns.data import NegativePool
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss


@register_loss("sce")
class SCE(Loss):
    """A cross-entropy over all items, of those in buckets with a row's query alone.

    Each bucket has a random direction, and takes the queries of the batch and the items of the
    catalogue with the highest inner products with it. A query's loss in a bucket is
    log(1 + sum_j exp(r_uj - r_ui)) over the bucket's items that are negatives of it. Its loss is
    the highest in any of its buckets, and that of the batch the mean over those with a bucket. With
    ``sce_mix_x`` directions are random mixtures of the batch's queries, which are near to them, or
    else Gaussian. Sizes follow the paper where not set, 2 sqrt(B) buckets of as many of B queries;
    these and the maximum are as in the authors' program.
    """

    picks_itself = True

    sce_n_buckets: PositiveInt | None = Field(
        None, description="number of buckets; unset is 2 sqrt(rows of the batch)"
    )
    sce_bucket_size_x: PositiveInt | None = Field(
        None, description="queries in a bucket; unset is 2 sqrt(rows of the batch)"
    )
    sce_bucket_size_y: PositiveInt = Field(256, description="items in a bucket")
    sce_mix_x: bool = Field(True, description="have directions be mixtures of the queries")

    def of_items(
        self, query: Tensor, items: Tensor, batch: Batch, pool: NegativePool
    ) -> tuple[Tensor, Scores]:
        """The loss of a batch."""
        usual = math.ceil(2 * math.sqrt(len(query)))
        buckets = self.sce_n_buckets or usual
        queries_each = min(self.sce_bucket_size_x or usual, len(query))
        items_each = min(self.sce_bucket_size_y, len(items) - 1)
        with torch.no_grad():
            directions = self._directions(query, buckets)
            row = (directions @ query.t()).topk(queries_each, dim=1).indices
            # the padding is in no bucket
            item = torch.cat(
                [
                    (part @ items[1:].t()).topk(items_each, dim=1).indices
                    for part in directions.split(max(1, 2**25 // len(items)))
                ]
            ).add_(1)
            excluded = pool.is_used(batch.owner[row].unsqueeze(2), item.unsqueeze(1))
        neg = torch.bmm(query[row], items[item].transpose(1, 2))
        pos = (query * items[batch.pos_item]).sum(dim=1)[row]
        neg = neg.masked_fill(excluded, -torch.inf)
        losses = torch.cat([pos.unsqueeze(2), neg], dim=2).logsumexp(dim=2) - pos
        # the highest of each row's; 0, which no loss is below, of those without a bucket
        zeros = losses.new_zeros(len(query))
        highest = zeros.scatter_reduce(0, row.view(-1), losses.view(-1), "amax")
        # a batch may have no rows, and no loss
        covered = torch.zeros_like(zeros).index_fill_(0, row.view(-1), 1.0).sum().clamp(min=1)
        means = neg.detach().masked_fill(excluded, 0).sum(dim=2) / (~excluded).sum(dim=2).clamp(
            min=1
        )
        return highest.sum() / covered, Scores(pos.detach().view(-1, 1), means.view(-1))

    def _directions(self, query: Tensor, num: int) -> Tensor:
        """Of each bucket, ``[num, dim]``; their lengths do not matter."""
        if not self.sce_mix_x:
            return torch.randn(num, query.shape[1], device=query.device, dtype=query.dtype)
        mixture = torch.randn(num, len(query), device=query.device, dtype=query.dtype)
        return mixture @ query
