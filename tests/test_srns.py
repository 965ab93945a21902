"""SRNS: choice and memory against their formulas, written out literally in float64."""

import math

import numpy as np
import pytest
import torch
from conftest import QUIET, prepared

from recbole_hns import run
from recbole_hns.config import Config
from recbole_hns.errors import UserError
from recbole_hns.sampler.srns import SRNS


def ready(toy, model="BPR", **keys):
    _, train, _, trainer = prepared(
        model=model, sampler="srns", **{"embedding_size": 4, **toy, **keys}
    )
    trainer._evaluates = trainer._saved = False
    trainer._candidates = trainer._candidate_sampler(train)
    return trainer, train


def start(trainer, epoch):
    trainer.sampler.start_epoch(epoch)
    with torch.no_grad():
        trainer.sampler.refresh(trainer.pairwise, trainer._candidates, 10**6)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF"])
@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
def test_choice_and_gradient(model, epochs, toy):
    """After some epochs of random parameters: the literal argmax, and the loss of BPR with it."""
    more = {"n_layers": 2, "reg_weight": 0.0, "hidden_size_list": [4], "message_dropout": 0.0}
    trainer, train = ready(toy, model, srns_alpha=3.0, srns_warmup=4, **more)
    sampler, tables = trainer.sampler, []
    for epoch in range(epochs):
        start(trainer, epoch)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.normal_(0, 0.7)
            tables.append([table.double() for table in trainer.model.forward()[:2]]
                          if model != "BPR" else
                          [trainer.model.user_embedding.weight.double(),
                           trainer.model.item_embedding.weight.double()])  # fmt: skip
    user, pos_item = (ids[:40] for ids in next(iter(trainer._batches(train))))
    memory = sampler.memory.clone()
    with torch.no_grad(), trainer.pairwise.step():
        chosen = sampler.choose(user, pos_item, trainer._candidates, trainer.pairwise)

    weight = 3.0 * min(1, (epochs - 1) / 4)
    past = tables[:-1][-5:]  # the last one is of the epoch under way
    for u, i, (found,), (score,) in zip(
        user.tolist(), pos_item.tolist(), chosen.items.tolist(), chosen.scores.tolist()
    ):
        values = []
        for j in memory[u].tolist():
            p = [sigmoid((users[u] @ items[j] - users[u] @ items[i]).item())
                 for users, items in (*past, tables[-1])]  # fmt: skip
            values.append(p[-1] + weight * (np.std(p[:-1]) if len(past) > 1 else 0))
        best = memory[u].tolist().index(found)
        assert values[best] == pytest.approx(max(values), abs=1e-5)
        users, items = tables[-1]
        assert score == pytest.approx((users[u] @ items[found]).item(), abs=1e-4)
    assert len(sampler.history) == min(epochs - 1, 5)


def test_the_first_of_equals_is_chosen(toy):
    trainer, _ = ready(toy)
    start(trainer, 0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.fill_(0.1)
    user, pos_item = torch.tensor([4, 9]), torch.tensor([1, 2])
    memory = trainer.sampler.memory[user].clone()
    with torch.no_grad(), trainer.pairwise.step():
        chosen = trainer.sampler.choose(user, pos_item, trainer._candidates, trainer.pairwise)
    assert torch.equal(chosen.items, memory[:, :1])


def test_memory_is_drawn_without_replacement_by_score(toy):
    """Two of four items: by enumeration, with probability softmax(r / tau) and then of the rest."""
    trainer, _ = ready(toy, srns_memory=2, candidate_num=4, srns_tau=2.0)
    sampler = trainer.sampler
    scores, counts = torch.tensor([[1.0, 3.0, 0.0, 2.0]]), {}
    items = torch.tensor([[11, 12, 13, 14]])
    for _ in range(6000):
        sampler._renew(torch.tensor([5]), items, scores)
        kept = tuple(sorted(sampler.memory[5].tolist()))
        counts[kept] = counts.get(kept, 0) + 1
    weights = dict(zip(items[0].tolist(), torch.softmax(scores[0] / 2, dim=0).tolist()))
    chi2 = 0
    for a in weights:
        for b in weights:
            if a < b:
                p = weights[a] * weights[b] * (1 / (1 - weights[a]) + 1 / (1 - weights[b]))
                chi2 += (counts[a, b] - 6000 * p) ** 2 / (6000 * p)
    assert chi2 < 20.5  # 0.1% point of 5 degrees of freedom


def test_memory_is_renewed_once_a_user_and_holds_no_positives(toy):
    trainer, train = ready(toy, srns_memory=5, candidate_num=15)
    sampler = trainer.sampler
    start(trainer, 0)
    before = sampler.memory.clone()
    items = torch.arange(1, 16).expand(4, -1) + torch.tensor([[0], [20], [0], [0]])
    sampler._renew(torch.tensor([3, 3, 8, 3]), items, torch.zeros(4, 15))
    assert set(sampler.memory[3].tolist()) <= set(range(1, 16))  # its first row
    changed = [u for u in range(31) if not torch.equal(before[u], sampler.memory[u])]
    assert set(changed) <= {3, 8}
    for epoch in range(2):
        trainer._train_epoch(train, epoch)
        for u in range(1, 31):
            own = sampler.memory[u].tolist()
            assert not set(own) & (train._sampler.used_ids[u] | {0})
            assert len(set(own)) == 5


def test_what_is_in_memory_takes_no_second_place(toy):
    trainer, _ = ready(toy, srns_memory=3, candidate_num=6)
    sampler = trainer.sampler
    for _ in range(50):
        items = torch.tensor([[7, 7, 8, 8, 9, 7], [7, 7, 7, 7, 7, 8]])
        sampler._renew(torch.tensor([1, 2]), items, torch.randn(2, 6))
        assert sorted(sampler.memory[1].tolist()) == [7, 8, 9]
        assert set(sampler.memory[2].tolist()) == {7, 8}  # too few: repeated


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_scores_stay_finite(scale, toy):
    trainer, train = ready(toy)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.copy_(torch.randn_like(parameter) * scale)
    for epoch in range(4):
        assert math.isfinite(trainer._train_epoch(train, epoch))


def test_one_negative_left(write_dataset):
    pairs = [(0, i) for i in range(11)] + [(u, i) for u in range(1, 9) for i in range(u, u + 4)]
    keys = {**QUIET, **write_dataset([*pairs, (9, 11)]), "eval_args": {"split": {"RS": [8, 1, 1]}}}
    keys.update(epochs=3, topk=3, valid_metric="MRR@3")
    result = run(sampler="srns", config_dict=keys)
    assert all(math.isfinite(value) for value in result["test_result"].values())


def test_a_model_without_embeddings_is_refused():
    text = "model=ConvNCF: sampler=srns needs a model whose scores are inner products"
    with pytest.raises(UserError, match=text):
        Config("ConvNCF", sampler="srns")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"srns_memory": 0}, "srns_memory=0: must be an integer > 0"),
        ({"srns_memory": 72}, "srns_memory=72: must be < candidate_num=72"),
        ({"srns_alpha": -1}, "srns_alpha=-1: must be a number >= 0"),
        ({"srns_warmup": -1}, "srns_warmup=-1: must be an integer >= 0"),
        ({"srns_tau": 0}, "srns_tau=0: must be a number > 0"),
        ({"candidate_num": "all"}, "candidate_num=all: must be an integer > 1"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        SRNS(**keys)
