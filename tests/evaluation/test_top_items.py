"""The first items of rankings, from blocks of scores, against ``torch.topk`` of all of them."""

import numpy as np
import pytest
import torch
from conftest import QUIET, prepared
from hypothesis import given
from hypothesis import strategies as st
from recbole.evaluator import Collector as RecBoleCollector
from recbole.model.general_recommender import BPR

from recbole_hns.evaluation import top_items
from recbole_hns.evaluation.top_items import Ranking

KEYS = {**QUIET, "sampler": "rns", "embedding_size": 8, "epochs": 1, "metric_decimal_place": 16}
OF_TOP_ITEMS = {"metrics": ["Recall", "NDCG", "MAP", "ShannonEntropy"], "topk": [1, 5, 20]}


@given(st.data())
def test_the_first_items_are_those_of_topk_among_equal_scores_too(data):
    users, items = data.draw(st.integers(1, 40)), data.draw(st.integers(2, 90))
    k = data.draw(st.integers(1, items - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    # few values make many equal scores, without rounding
    few = data.draw(st.sampled_from([1, 2, 100])) * data.draw(st.sampled_from([1, 1e4]))
    tables = [torch.from_numpy(rng.integers(-few, few + 1, (n, 3))).float() for n in (50, items)]
    user = torch.from_numpy(rng.choice(50, users, replace=False))
    known = rng.random((users, items)) < data.draw(st.sampled_from([0, 0.1, 0.9, 1]))
    row, item = map(torch.from_numpy, known.nonzero())
    order = torch.from_numpy(rng.permutation(len(row)))  # RecBole's loader has sets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_items, "ITEMS", data.draw(st.sampled_from([16, 32, 1024])))
        patch.setattr(top_items, "USERS", data.draw(st.sampled_from([1, 20, 512])))
        ranking = Ranking.of(*tables, k)
        found = ranking.top(user, row[order], item[order])
    scores = tables[0][user] @ tables[1].t()
    scores[:, 0] = scores[row, item] = -torch.inf
    assert found.shape == (users, items)
    assert found.items.equal(scores.topk(k, dim=1).indices)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e25])
def test_scores_that_may_be_no_numbers_are_left_to_topk(value):
    users, items = torch.ones(3, 2), torch.ones(4, 2)
    assert Ranking.of(users, items, 2) is not None
    users[1, 1] = value
    assert Ranking.of(users, items * 1e20, 2) is None


class OwnRanking(BPR):
    def full_sort_predict(self, interaction):
        return -super().full_sort_predict(interaction)


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        ({"model": "BPR"}, True),
        ({"model": "BPR", "similarity": "cosine"}, True),
        ({"model": "LightGCN", "n_layers": 1}, True),
        ({"model": "LightGCN", "eval_similarity": "cosine"}, True),
        ({"model": "SGL"}, True),
        ({"model": "NGCF"}, True),
        ({"model": "BPR", "metrics": ["NDCG", "GAUC"]}, False),
        ({"model": "BPR", "metrics": ["NDCG", "OPAUC"]}, False),
        ({"model": "own"}, False),
    ],
    ids=str,
)
def test_metrics_are_those_of_all_scores(keys, taken, toy, monkeypatch):
    keys = {**KEYS, **toy, **OF_TOP_ITEMS, "valid_metric": "NDCG@5", "eval_batch_size": 300} | keys
    if keys["model"] == "own":
        keys["model"] = "BPR"
        monkeypatch.setattr("recbole.model.general_recommender.BPR", OwnRanking)
        monkeypatch.setattr("recbole_hns.config.config.get_model", lambda name: OwnRanking)
    config, train, valid, trainer = prepared(**keys)
    trainer.fit(train, valid, saved=False)
    tops = []
    monkeypatch.setattr(
        Ranking, "top", lambda *args, top=Ranking.top: tops.append(top(*args)) or tops[-1]
    )
    result = trainer.evaluate(valid, load_best_model=False)
    assert bool(tops) is taken
    if "OPAUC" not in keys["metrics"]:
        theirs = RecBoleCollector(config)
        trainer.eval_collector = theirs
        tops.clear()
        assert result == trainer.evaluate(valid, load_best_model=False)
        assert not tops
    # nothing is kept for the parameters of another epoch
    assert trainer._ranking is None
