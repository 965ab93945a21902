"""Evaluation's loaders against RecBole's own."""

from pathlib import Path

import pytest
import torch
from conftest import QUIET
from recbole.data.dataloader import FullSortEvalDataLoader as RecBoleFullSortEvalDataLoader
from recbole.data.dataloader import NegSampleEvalDataLoader as RecBoleNegSampleEvalDataLoader
from recbole.model.general_recommender import BPR
from recbole.utils.case_study import full_sort_topk

import recbole_hns
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation, loader

SMALL = {"sampler": "rns", "embedding_size": 8, "epochs": 1, **QUIET}


def eval_args(mode):
    return {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "mode": mode}}


def loaders(keys):
    """Config and the three loaders of this package."""
    config = Config(config_dict={**SMALL, **keys})
    return config, *data_preparation(config, create_dataset(config))


def contents(batch):
    """A batch as users and sets of (row, item)."""
    user_df, (history_u, history_i), positive_u, positive_i = batch
    history = sorted(zip(history_u.tolist(), history_i.tolist()))
    positives = sorted(zip(positive_u.tolist(), positive_i.tolist()))
    assert (positive_u.diff() >= 0).all()
    return user_df["user_id"].tolist(), history, positives


@pytest.mark.parametrize("eval_batch_size", [41, 300, 10**6])
def test_full_sort_loader_gives_what_recboles_gives(eval_batch_size, toy):
    config, _, *ours = loaders({**toy, "eval_batch_size": eval_batch_size})
    for mine in ours:
        theirs = RecBoleFullSortEvalDataLoader(config, mine._dataset, mine._sampler)
        assert isinstance(mine, RecBoleFullSortEvalDataLoader)
        assert len(mine) == len(theirs) == -(-len(mine.uid_list) // max(eval_batch_size // 41, 1))
        for batch, expected in zip(mine, theirs):
            assert contents(batch) == contents(expected)
            assert all(t.dtype == torch.int64 for t in (*batch[1], *batch[2:]))
        assert mine.uid_list.equal(theirs.uid_list)
        assert (mine.uid2items_num == theirs.uid2items_num).all()
        for user in mine.uid_list:
            for name in ("uid2positive_item", "uid2history_item"):
                own, other = getattr(mine, name)[user], getattr(theirs, name)[user]
                assert own.tolist() == sorted(other.tolist())


def test_repeated_interactions_and_users_without_history(write_dataset):
    pairs = [(0, 1), (0, 1), (0, 2), (1, 2), (2, 3), (2, 3), (2, 3), (2, 4), (2, 1), (3, 4)]
    keys = {**write_dataset(pairs), **eval_args("full"), "topk": 3, "valid_metric": "MRR@3"}
    config, _, *ours = loaders(keys)
    for mine in ours:
        theirs = RecBoleFullSortEvalDataLoader(config, mine._dataset, mine._sampler)
        assert [contents(b) for b in mine] == [contents(b) for b in theirs]


def test_saved_loaders_give_the_same_run(toy):
    keys = {**SMALL, **toy, "save_dataloaders": True, "metrics": ["NormOPAUC", "NDCG"]}
    first, second = (
        recbole_hns.run(config_dict={**keys, "valid_metric": "NDCG@10"}) for _ in range(2)
    )
    assert first == second
    assert Path("saved/toy-for-BPR-dataloader.pth").exists()


def test_recboles_case_study_reads_the_loader(toy):
    config, train, _, test = loaders(toy)
    model = BPR(config, train._dataset)
    theirs = RecBoleFullSortEvalDataLoader(config, test._dataset, test._sampler)
    users = test.uid_list[:5].numpy()
    for mine, other in zip(*(full_sort_topk(users, model, data, 5) for data in (test, theirs))):
        assert mine.equal(other)


@pytest.mark.parametrize("mode", ["uni20", "pop20"])
def test_sampled_loader(mode, toy, monkeypatch):
    monkeypatch.setattr(loader, "MATRIX_BUDGET", 41 * 4)
    test = loaders({**toy, **eval_args(mode)})[-1]
    users = 0
    for pairs, row, positive_u, positive_i in test:
        user, item, label = (pairs[f].numpy() for f in ("user_id", "item_id", "label"))
        count = len(positive_u)
        assert len(user) == 21 * count
        assert positive_u[-1] + 1 <= 4
        assert label.sum() == label[:count].sum() == count
        assert item[:count].tolist() == positive_i.tolist()
        assert row[:count].tolist() == positive_u.tolist()
        for r in range(positive_u[-1] + 1):
            (u,) = set(user[row == r])
            held = test._dataset.inter_feat["item_id"][test._dataset.inter_feat["user_id"] == u]
            assert sorted(item[:count][row[:count] == r]) == sorted(held.tolist())
            negatives = item[count:][row[count:] == r]
            assert len(negatives) == 20 * len(held)
            assert not set(negatives) & {0, *test._sampler.used_ids[u]}
        users += int(positive_u[-1]) + 1
    assert users == test._dataset.inter_feat["user_id"].unique().numel()


@pytest.mark.parametrize(
    ("pairs_budget", "matrix_budget"), [(200, 10**6), (10**6, 41 * 3), (1, 1), (10**6, 10**6)]
)
def test_a_sampled_batch_is_bounded_by_default(pairs_budget, matrix_budget, toy, monkeypatch):
    monkeypatch.setattr(loader, "PAIRS_BUDGET", pairs_budget)
    monkeypatch.setattr(loader, "MATRIX_BUDGET", matrix_budget)
    test = loaders({**toy, **eval_args("uni9")})[-1]
    sizes = [(len(batch[0]), int(batch[2][-1]) + 1) for batch in test]
    for pairs, users in sizes:
        assert users == 1 or pairs <= pairs_budget
        assert users == 1 or users * 41 <= matrix_budget
    assert sum(users for _, users in sizes) == len(test.uid_list)


@pytest.mark.parametrize("eval_batch_size", [1, 100, 10**6])
def test_a_users_own_batch_size_keeps_recboles_meaning(eval_batch_size, toy, monkeypatch):
    monkeypatch.setattr(loader, "PAIRS_BUDGET", 1)
    monkeypatch.setattr(loader, "MATRIX_BUDGET", 1)
    keys = {**toy, **eval_args("uni9"), "eval_batch_size": eval_batch_size}
    config, *_, test = loaders(keys)
    theirs = RecBoleNegSampleEvalDataLoader(config, test._dataset, test._sampler)
    assert (test.step, len(test)) == (theirs.step, len(theirs))
