"""Batches in parts, and what becomes of candidates that are no negatives."""

import math

import pytest
import torch

from recbole_hns.batch import Batch, Candidates, Negatives, Scores, Selection


def test_a_batch_is_split_in_its_order():
    batch = Batch.of(torch.arange(7), torch.arange(7) + 10)
    parts = list(batch.split(3))
    assert [part.user.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(part.size == 7 for part in parts)


def test_all_rows_of_a_user_stay_in_one_part():
    user, item = torch.tensor([3, 1, 3, 2, 1, 3, 9]), torch.arange(7)
    parts = list(Batch.of(user, item).split(2, whole_users=True))
    pairs = [pair for part in parts for pair in zip(part.user.tolist(), part.pos_item.tolist())]
    assert sorted(pairs) == sorted(zip(user.tolist(), item.tolist()))
    assert [part.user.tolist() for part in parts] == [[1, 1], [2], [3, 3, 3], [9]]


@pytest.mark.parametrize("weight", [None, [[0.5, 0.25, 0.25], [math.nan] * 3]])
def test_what_is_no_negative_has_weight_0(weight):
    outside = torch.tensor([0, 1, 1, 1]), torch.tensor([1, 0, 1, 2])
    scores = Scores(torch.zeros(2, 1), torch.tensor([[1.0, 9.0, 2.0], [1.0, 2.0, 3.0]]))
    scores.neg[outside] = -math.inf
    selection = Selection(weight=weight if weight is None else torch.tensor(weight))
    candidates = Candidates(torch.tensor([[4, 5, 6]]), outside)
    negatives = Negatives.of(candidates, scores, selection)
    expected = [0.5, 0.0, 0.5] if weight is None else [0.5, 0.0, 0.25]
    assert negatives.weights().tolist() == [expected, [0.0] * 3]
    assert negatives.items.tolist() == [[4, 5, 6]]
    assert negatives.mean_scores().tolist() == [1.5 if weight is None else 1.0, 0.0]
    # a loss that squares scores has a gradient, too
    if weight is None:
        assert negatives.scores.neg.tolist() == [[1.0, -math.inf, 2.0], [0.0] * 3]
    else:
        assert negatives.scores.neg.tolist() == [[1.0, 0.0, 2.0], [0.0] * 3]


def test_nan_in_scores_or_weights_stays():
    """A weight that is no number must not be taken for that of an item that is no negative."""
    scores = Scores(torch.zeros(1, 1), torch.tensor([[math.nan, -math.inf, 1.0]]))
    candidates = Candidates(torch.tensor([[1, 2, 3]]), (torch.tensor([0]), torch.tensor([1])))
    weight = torch.tensor([[math.nan, math.nan, math.nan]])
    found = Negatives.of(candidates, scores, Selection(weight=weight)).weight[0].tolist()
    assert math.isnan(found[0])
    assert found[1] == 0
    assert math.isnan(found[2])


def test_selected_columns_of_shared_and_of_all_items():
    scores = Scores(torch.zeros(2, 1), torch.arange(6.0).view(2, 3))
    columns = torch.tensor([[2, 0], [1, 1]])
    shared = Negatives.of(Candidates(torch.tensor([[7, 8, 9]])), scores, Selection(columns))
    assert shared.items.tolist() == [[9, 7], [8, 8]]
    assert shared.scores.neg.tolist() == [[2, 0], [4, 4]]
    every = Negatives.of(Candidates(None), scores, Selection(columns))
    assert every.items.tolist() == columns.tolist()
    assert every.weight is None
