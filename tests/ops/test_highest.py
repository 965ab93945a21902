"""The highest scores of each row, against sorting."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbole_hns.ops import devices
from recbole_hns.ops.highest import highest

TIED = st.sampled_from([-math.inf, -1.0, 0.0, -0.0, 0.5, 2.0])
FLOATS = {
    np.float32: st.floats(width=32),
    np.float64: st.floats(),
}


def key(score):
    """NaN is above all numbers."""
    return (1, 0.0) if math.isnan(score) else (0, score)


def of_row(row, columns):
    return sorted((key(row[k]) for k in columns), reverse=True)


@st.composite
def scores(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    elements = draw(st.sampled_from([TIED, FLOATS[dtype]]))
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    return draw(hnp.arrays(dtype, shape, elements=elements))


@example(np.full((2, 3), -np.inf), 2)
@example(np.array([[3e38, -3e38, 0.0, 1.0]], dtype=np.float32), 2)
@given(scores(), st.integers(1, 40))
def test_the_values_are_those_of_sorting(scores, num):
    if np.isnan(scores).any():
        scores[np.isposinf(scores)] = np.nan  # of both, the first ones are taken
    num = min(num, scores.shape[1])
    found = highest(torch.from_numpy(scores), num)
    assert found.shape == (len(scores), num)
    for row, columns in zip(scores.tolist(), found.tolist(), strict=True):
        assert len(set(columns)) == num
        assert of_row(row, columns) == of_row(row, range(len(row)))[:num]


@given(scores(), st.data())
def test_each_row_has_its_own_number(scores, data):
    scores = np.nan_to_num(scores, nan=0.0, posinf=1.0, neginf=-np.inf)
    width = scores.shape[1]
    num = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(1, width)))
    found = highest(torch.from_numpy(scores), torch.from_numpy(num))
    assert found.shape == (len(scores), num.max())
    for row, n, columns in zip(scores.tolist(), num.tolist(), found.tolist(), strict=True):
        assert len(set(columns[:n])) == n
        assert all(0 <= column < width for column in columns)
        assert of_row(row, columns[:n]) == of_row(row, range(width))[:n]


@pytest.mark.parametrize("kind", ["many ties", "random", "skewed"])
def test_long_rows(kind):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, 1000, generator=generator)
    if kind == "many ties":
        scores = scores.round()
    if kind == "skewed":
        scores = (8 * scores).exp()
    found = scores.gather(1, highest(scores, 70)).sort(dim=1, descending=True).values
    assert torch.equal(found, scores.topk(70, dim=1).values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_devices_and_types(dtype, monkeypatch):
    scores = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]], dtype=dtype)
    monkeypatch.setattr(devices, "on_cpu", lambda tensor: dtype == torch.bfloat16)
    assert [set(row) for row in highest(scores, 2).tolist()] == [{0, 2}, {1, 2}]
    own = highest(scores, torch.tensor([1, 2]))
    assert own[0, 0] == 0
    assert set(own[1].tolist()) == {1, 2}
