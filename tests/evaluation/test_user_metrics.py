"""The file of the users' metrics against literal metrics of each user, and their means."""

import math
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest
from conftest import QUIET

import recbole_hns
from recbole_hns.errors import UserError

KEYS = {**QUIET, "epochs": 1, "embedding_size": 4, "topk": [2, 5], "metric_decimal_place": 12}
LISTS = ["Recall", "NDCG", "MRR", "Hit", "Precision"]


def test_each_user_has_what_the_definitions_give(toy):
    metrics = [*LISTS, "NormOPAUC", "LLPAUC", "ItemCoverage"]
    given = {**toy, **KEYS, "metrics": metrics, "user_metrics": True, "valid_metric": "NDCG@5"}
    result = recbole_hns.run(sampler="rns", config_dict=given)
    path = result.result_file.with_suffix(".users.parquet")
    table = pd.read_parquet(path).set_index("user")
    # that of all users together is not there
    expected = set(result["test_result"]) - {"itemcoverage@2", "itemcoverage@5"}
    assert set(table) == expected
    for key in expected:
        assert table[key].mean() == pytest.approx(result["test_result"][key], abs=1e-9)
    told = pyarrow.parquet.read_schema(path).metadata
    assert told[b"sampler"] == b"rns"
    assert told[b"data_split"].startswith(b"RecBole's RS")


def test_lists_of_each_user(write_split):
    keys = {**write_split("train", "valid", "test"), **KEYS, "metrics": LISTS}
    keys.update(user_metrics=True, valid_metric="NDCG@5")
    result = recbole_hns.run(sampler="rns", config_dict=keys)
    table = pd.read_parquet(result.result_file.with_suffix(".users.parquet")).set_index("user")
    lines = Path("dataset/split/split.test.inter").read_text().split("\n")
    rows = [line.split("\t") for line in lines]
    positives = {}
    for user, item in (row for row in rows[1:] if len(row) == 2):
        positives.setdefault(user, set()).add(item)
    assert set(table.index) == set(positives)
    for user, own in positives.items():
        # without what is known from training and validation, but with the test part
        ranked = ranking(result, user)
        for k in (2, 5):
            hits = [item in own for item in ranked[:k]]
            gains = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
            ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(own))))
            row = table.loc[user]
            assert row[f"recall@{k}"] == pytest.approx(sum(hits) / len(own))
            assert row[f"precision@{k}"] == pytest.approx(sum(hits) / k)
            assert row[f"hit@{k}"] == any(hits)
            assert row[f"ndcg@{k}"] == pytest.approx(gains / ideal)
            first = hits.index(True) + 1 if any(hits) else math.inf
            assert row[f"mrr@{k}"] == pytest.approx(1 / first)


def ranking(result, user):
    """All items but those that a user has in training and validation, the best first."""
    dataset, model = result.dataset, result.model
    known = set()
    for part in ("train", "valid"):
        for line in Path(f"dataset/split/split.{part}.inter").read_text().split("\n")[1:]:
            if line.startswith(f"{user}\t"):
                known.add(line.split("\t")[1])
    number = dataset.token2id("user_id", user)
    scores = (model.user_embedding.weight[number] @ model.item_embedding.weight.T).tolist()
    items = [dataset.id2token("item_id", item) for item in range(1, len(scores))]
    order = sorted(items, key=lambda item: -scores[dataset.token2id("item_id", item)])
    return [item for item in order if item not in known]


def test_users_metrics_need_a_result_file(toy):
    with pytest.raises(UserError, match="user_metrics=True: must be False where nothing is saved"):
        recbole_hns.run(config_dict={**toy, "user_metrics": True}, saved=False)


def test_no_file_is_left_unasked_or_of_values(toy, caplog):
    result = recbole_hns.run(sampler="rns", config_dict={**toy, **KEYS, "valid_metric": "MRR@5"})
    assert not list(result.result_file.parent.glob("*.parquet"))
    given = {**toy, **KEYS, "metrics": ["ItemCoverage"], "valid_metric": "ItemCoverage@5"}
    result = recbole_hns.run(
        sampler="rns", config_dict={**given, "user_metrics": True, "state": "WARNING"}
    )
    assert not list(result.result_file.parent.glob("*.parquet"))
    assert "user_metrics has no effect: itemcoverage are of all users" in caplog.text
