"""SCE and its gradient against the paper's algorithm, written out query by query in float64."""

import math

import pytest
import torch
from fakes import pool_of

from recbole_hns.batch import Batch
from recbole_hns.errors import UserError
from recbole_hns.loss.sce import SCE

USERS, ITEMS, DIM = 12, 31, 4


def made(scale=1.0):
    """Queries, items, a batch that leaves out its positives, and the pool that does."""
    generator = torch.Generator().manual_seed(3)

    def rows(num):
        return torch.randn(num, DIM, generator=generator, dtype=torch.float64) * scale

    pos_item = torch.randint(1, ITEMS, (USERS,), generator=generator)
    rows_of = torch.arange(USERS)
    batch = Batch(rows_of, pos_item, USERS, excluded_by=pos_item, row=rows_of)
    pool = pool_of([(1, 1)], 2, ITEMS).of_items()
    return rows(USERS).requires_grad_(), rows(ITEMS).requires_grad_(), batch, pool


def literal(query, items, pos_item, directions, size_x, size_y):
    """The loss, and which queries are in a bucket."""
    query, items = query.tolist(), items.tolist()

    def product(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    losses = {}
    for direction in directions.tolist():
        inside = sorted(range(len(query)), key=lambda b: -product(direction, query[b]))[:size_x]
        found = sorted(range(1, len(items)), key=lambda j: -product(direction, items[j]))[:size_y]
        for b in inside:
            positive = int(pos_item[b])
            logits = [product(query[b], items[j]) for j in found if j != positive]
            of_positive = product(query[b], items[positive])
            highest = max([of_positive, *logits])
            total = sum(math.exp(r - highest) for r in [of_positive, *logits])
            losses[b] = max(losses.get(b, 0.0), highest + math.log(total) - of_positive)
    return sum(losses.values()) / len(losses)


def found_by(loss, query, items, batch, pool):
    torch.manual_seed(7)
    return loss.of_items(query, items, batch, pool)


def directions_of(loss, query, num):
    torch.manual_seed(7)
    return loss._directions(query.detach(), num)


@pytest.mark.parametrize("mix", [True, False])
@pytest.mark.parametrize("sizes", [(3, 4, 6), (1, 12, 30), (9, 2, 1), (5, 12, 200)], ids=str)
def test_value(sizes, mix):
    num, size_x, size_y = sizes
    loss = SCE(sce_n_buckets=num, sce_bucket_size_x=size_x, sce_bucket_size_y=size_y, sce_mix_x=mix)
    query, items, batch, pool = made()
    value, scores = found_by(loss, query, items, batch, pool)
    directions = directions_of(loss, query, num)
    expected = literal(query, items, batch.pos_item, directions, size_x, min(size_y, ITEMS - 1))
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert scores.pos.shape == (num * size_x, 1)
    assert torch.isfinite(scores.neg).all()


def test_gradient():
    loss = SCE(sce_n_buckets=4, sce_bucket_size_x=5, sce_bucket_size_y=7, sce_mix_x=False)
    query, items, batch, pool = made()
    found_by(loss, query, items, batch, pool)[0].backward()
    directions, step = directions_of(loss, query, 4), 1e-6
    for tensor in (query, items):
        for index in [(0, 0), (3, 1), (5, 2), (8, 3), (10, 0), (11, 3)]:
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    tensor[index] += sign * step
                    ends.append(literal(query, items, batch.pos_item, directions, 5, 7))
                    tensor[index] -= sign * step
            expected = (ends[0] - ends[1]) / (2 * step)
            assert tensor.grad[index].item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_one_bucket_of_everything_is_the_cross_entropy_of_all_items():
    loss = SCE(sce_n_buckets=1, sce_bucket_size_x=USERS, sce_bucket_size_y=ITEMS)
    query, items, batch, pool = made()
    value, _ = found_by(loss, query, items, batch, pool)
    logits = query @ items[1:].t()
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(logits, batch.pos_item - 1))


def test_large_scores():
    query, items, batch, pool = made(1e2)
    value, _ = found_by(SCE(), query, items, batch, pool)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(query.grad).all()
    assert torch.isfinite(items.grad).all()


def test_what_it_refuses():
    with pytest.raises(UserError, match="sce_bucket_size_y=0: must be an integer > 0"):
        SCE(sce_bucket_size_y=0)
