"""The score nearest to a target, against a search and against PyTorch's operations."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scored import scores

from recbole_hns.ops import devices
from recbole_hns.ops.nearest import nearest


def literal(row, target):
    """Column of the first that is nearest, and whether the target is outside the scores."""
    finite = [score for score in row if score > -math.inf]
    moved = min(max(target, min(finite)), max(finite))
    distance = [abs(score - moved) for score in row]
    return distance.index(min(distance)), moved != target


@given(scores(excluded=True), st.sampled_from([0.0, 0.3, -2.0, 1e30, -1e30]))
def test_nearest(scores, target):
    targets = scores.pos + target
    columns, moved = nearest(scores.neg, targets)
    assert columns.shape == moved.shape == targets.shape
    for number, row in enumerate(scores.neg.tolist()):
        if max(row) > -math.inf:
            expected = literal(row, targets[number].item())
            assert (columns[number].item(), moved[number].item()) == expected
        else:
            assert columns[number] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ways_choose_the_same(dtype, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(300, 9, generator=generator, dtype=dtype).mul_(3).round_()
    scores[::7] *= 1e4
    scores[torch.rand(scores.shape, generator=generator) < 0.2] = -torch.inf
    scores[5] = -torch.inf
    scores[6, 4] = scores[7, 0] = scores[8, 2] = torch.nan
    target = torch.randn(300, 1, generator=generator, dtype=dtype)
    target[::11] = torch.inf
    found = nearest(scores, target)
    monkeypatch.setattr(devices, "on_cpu", lambda tensor: False)
    # a row with NaN has no highest score there
    rows = ~scores.isnan().any(dim=1)
    for own, expected in zip(found, nearest(scores, target), strict=True):
        assert torch.equal(own[rows], expected[rows])
    assert scores.gather(1, found[0])[6:9].isnan().all()
