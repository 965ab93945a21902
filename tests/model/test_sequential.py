"""Sequential models: what RecBole computes of a step is what is computed here."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import QUIET, prepared
from recbole.data.interaction import Interaction
from torch import nn

from recbole_hns import UserError, load, run
from recbole_hns.batch import Scores
from recbole_hns.config import Config
from recbole_hns.config.config import model_class
from recbole_hns.config.known import model_keys
from recbole_hns.model.registry import SEQUENTIAL
from recbole_hns.model.sequential import SequentialAdapter
from recbole_hns.training.step import batch_losses

#: Of the models that have them.
SMALL = {"hidden_size": 8, "embedding_size": 8, "inner_size": 16}
#: What a model takes beside or in place of these.
KEYS = {
    "FDSA": {"selected_features": ["class"], "pooling_mode": "mean"},
    "GRU4RecF": {"selected_features": ["class"], "pooling_mode": "sum"},
    "SASRecF": {"selected_features": ["class"], "pooling_mode": "sum"},
    "BERT4Rec": {"mask_ratio": 0.5},
    "Caser": {"reg_weight": 0.01},
    "HGN": {"reg_weight": [0.1, 0.1]},
    "FOSSIL": {"reg_weight": 0.1},
    "GCSAN": {"reg_weight": 0.1},
    "NextItNet": {"reg_weight": 0.01},
}


@pytest.fixture
def visits(tmp_path):
    """30 users with 5 to 9 of 25 items in the order of time, and a class of each item."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "dataset" / "visits"
    folder.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(30):
        items = rng.choice(25, rng.integers(5, 10))
        lines += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(items)]
    (folder / "visits.inter").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\tclass:token_seq", *(f"i{item}\tc{item % 3}" for item in range(25))]
    (folder / "visits.item").write_text("\n".join(lines) + "\n")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    return {"dataset": "visits", "load_col": columns, "topk": [5], "valid_metric": "MRR@5"}


def ready(visits, model, **keys):
    """Trainer, pool and the first batch of an epoch."""
    small = {key: SMALL[key] for key in SMALL.keys() & model_keys(model_class(model))}
    given = {**visits, **small, **KEYS.get(model, {}), **keys}
    given.update(MAX_ITEM_LIST_LENGTH=6, train_batch_size=40)
    _, train, _, trainer = prepared(model=model, **given)
    trainer.pool = trainer._pool_of(train)
    trainer.model.train()
    batch, pool = trainer._excluding(next(trainer._batches(train)))
    return trainer, pool, batch


def learned(trainer, losses):
    """Losses and the gradients of their sum."""
    trainer.model.zero_grad()
    losses = losses if isinstance(losses, tuple) else (losses,)
    sum(each.sum() for each in losses).backward()
    names = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    return [each.detach() for each in losses], {name: grad.clone() for name, grad in names.items()}


def seeded():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)


def ours(trainer, pool, batch):
    seeded()
    return learned(
        trainer, batch_losses(batch, trainer.adapter, trainer.sampler, trainer.loss, pool).losses
    )


def recboles(trainer, batch, **more):
    interaction = batch.sequences
    for name, value in more.items():
        interaction.interaction[name] = value
    seeded()
    return learned(trainer, trainer.model.calculate_loss(interaction))


def same(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    for name in found[1].keys() | expected[1].keys():
        zero = torch.zeros(())
        a, b = (grads.get(name, zero) for grads in (found[1], expected[1]))
        torch.testing.assert_close(*torch.broadcast_tensors(a, b), rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("model", [name for name in SEQUENTIAL if name != "CORE"])
def test_with_one_uniform_negative_loss_and_gradient_are_recboles(model, visits, monkeypatch):
    trainer, pool, batch = ready(visits, model, sampler="rns")
    if model == "HGN":  # RecBole scores its negatives, alone, by the table of sequences
        trainer.model.item_embedding_for_prediction = trainer.model.item_embedding
    negatives = pool.draw(batch.owner, 1)
    assert (negatives.squeeze(1) != batch.pos_item).all()
    monkeypatch.setattr(type(pool), "draw", lambda self, owner, num: negatives)
    found = ours(trainer, pool, batch)
    more = {trainer.model.NEG_ITEM_ID: negatives.squeeze(1)}
    if model == "BERT4Rec":
        sequences = batch.sequences[trainer.model.NEG_ITEMS]
        mask = batch.sequences[trainer.model.MASK_INDEX] > 0
        more = {trainer.model.NEG_ITEMS: sequences.masked_scatter(mask, negatives)}
    same(found, recboles(trainer, batch, **more))


@pytest.mark.parametrize(
    "keys",
    [
        {"sampler": "dns"},
        {"sampler": "all", "loss": "softmax"},
        {"sampler": "all", "loss": "softmax", "candidate_num": "all"},
        {"sampler": "all", "loss": "sce"},
    ],
)
def test_a_batch_without_a_mask_has_no_loss(keys, visits):
    trainer, pool, batch = ready(visits, "BERT4Rec", **keys)
    batch.sequences[trainer.model.MASK_INDEX].zero_()
    (loss,), grads = ours(trainer, pool, trainer.adapter.batch(batch.sequences))
    assert loss == 0
    assert all((grad == 0).all() for grad in grads.values())


class WithoutPadding(nn.Module):
    """Cross-entropy over the items; RecBole's has the padding id as one more."""

    def forward(self, logits, target):
        return F.cross_entropy(logits[:, 1:], target - 1)


@pytest.mark.parametrize("model", [name for name in SEQUENTIAL if name != "FPMC"])
@pytest.mark.parametrize("pair_bytes", [64, 2**20])
def test_softmax_of_all_items_is_recboles_cross_entropy(model, pair_bytes, visits, monkeypatch):
    """In one chunk of the catalogue, and in many."""
    monkeypatch.setattr("recbole_hns.model.base.PAIR_BYTES", pair_bytes)
    keys = {"sampler": "all", "candidate_num": "all", "loss": "softmax"}
    keys.update(loss_tau=1.0, softmax_positive=True)
    trainer, pool, batch = ready(visits, model, **keys)
    network = trainer.model
    if model == "BERT4Rec":
        with torch.no_grad():
            network.output_bias[0] = -1e4
    found = ours(trainer, pool, batch)
    network.loss_type, network.loss_fct = "CE", WithoutPadding()
    same(found, recboles(trainer, batch))


def excluded_of(trainer, pool, batch):
    """The items that no row may have as a candidate, row by row."""
    row, item = pool.own_items(batch.owner)
    found = [set() for _ in range(len(batch.user))]
    for b, i in zip(row.tolist(), item.tolist(), strict=True):
        found[b].add(i)
    return found


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("exclude", ["target", "sequence", "history"])
def test_what_is_no_candidate(exclude, positions, visits):
    keys = {"candidate_exclude": exclude, "train_positions": positions, "candidate_num": 50}
    trainer, pool, batch = ready(visits, "SASRec", sampler="softmax", **keys)
    sequences = batch.sequences
    (sequence, *_), pos_item = trainer.adapter.targets(sequences)
    assert torch.equal(pos_item, batch.pos_item)
    found = excluded_of(trainer, pool, batch)
    drawn = pool.draw(batch.owner, 50)
    shared = torch.arange(1, pool.item_num).unsqueeze(0)
    row, column = pool.own_columns(batch.owner, shared)
    num = pool.negative_num(batch.owner)
    for b in range(len(batch.user)):
        of = sequence[b]
        expected = {0, int(pos_item[b])}
        if exclude != "target":
            expected |= {*sequences["item_id_list"][of].tolist(), int(sequences["item_id"][of])}
        if exclude == "history":
            expected |= trainer.pool.used[int(batch.user[b])]
        assert found[b] == expected
        assert expected.isdisjoint(drawn[b].tolist())
        assert set(shared[0, column[row == b]].tolist()) == expected - {0}
        assert num[b] == pool.item_num - len(expected)


CAUSAL = [each.__name__ for each in SequentialAdapter.causal]


@pytest.mark.parametrize("model", CAUSAL)
def test_all_positions_are_those_of_as_many_sequences(model, visits):
    """Each position's query is that of the sequence that ends there, and so is the loss."""
    keys = {"sampler": "all", "candidate_num": "all", "loss": "softmax"}
    trainer, pool, batch = ready(visits, model, train_positions="all", **keys)
    trainer.model.eval()
    with trainer.adapter.encode(batch) as encoded:
        queries = encoded.query(batch)
    (sequence, position), _ = trainer.adapter.targets(batch.sequences)
    assert len(batch.user) == int(batch.sequences["item_length"].sum())
    listed = batch.sequences["item_id_list"]
    interaction = {
        "user_id": batch.user,
        "item_id": batch.pos_item,
        "item_length": position + 1,
        "item_id_list": listed[sequence].masked_fill(
            torch.arange(listed.shape[1]) > position.unsqueeze(1), 0
        ),
    }
    expected = trainer.adapter.queries(Interaction(interaction))
    torch.testing.assert_close(queries, expected, rtol=1e-4, atol=1e-5)
    rows, all_rows = trainer.adapter.batch(Interaction(interaction)), batch
    rows, _ = trainer._excluding(rows)
    losses = [
        batch_losses(each, trainer.adapter, trainer.sampler, trainer.loss, pool).losses
        for each in (rows, all_rows)
    ]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", SEQUENTIAL)
def test_queries_and_items_give_the_scores_that_are_evaluated(model, visits):
    trainer, _, batch = ready(visits, model, sampler="rns")
    trainer.model.eval()
    if model == "SHAN":  # RecBole's full ranking is of sequences that are not inverted
        batch.sequences.interaction["Inverse_item_id_list"] = batch.sequences["item_id_list"]
    with torch.no_grad():
        found = trainer.adapter.queries(batch.sequences) @ trainer.adapter.item_table().t()
        expected = trainer.model.full_sort_predict(batch.sequences)
    torch.testing.assert_close(found[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sharing", ["in_batch", "popularity"])
def test_log_q_of_what_is_drawn_more(sharing, visits):
    """Each candidate weighs the inverse of its count, of which popularity takes a power."""
    keys = {"sampler": "all", "all_log_q": True, "candidate_distribution": sharing}
    keys.update({"candidate_sharing": "batch", "candidate_num": 9} if sharing != "in_batch" else {})
    trainer, pool, batch = ready(visits, "GRU4Rec", loss="softmax", candidate_alpha=0.5, **keys)
    sampler, counts = trainer.sampler, torch.from_numpy(pool.popularity).double()
    batch = batch._replace(shared=sampler.shared_items(batch, pool))
    candidates = sampler.propose(batch, None, pool)
    items, (row, column) = candidates.items[0], candidates.excluded
    neg = torch.randn(len(batch.user), len(items)).index_put(
        (row, column), torch.tensor(-torch.inf)
    )
    found = sampler.select(Scores(torch.zeros(len(neg), 1), neg), candidates, batch).weight
    q = counts[items] ** (1.0 if sharing == "in_batch" else 0.5)
    expected = torch.where(neg == -torch.inf, 0, 1 / q)
    expected /= expected.sum(dim=1, keepdim=True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared", ["row", "batch"])
@pytest.mark.parametrize("model", ["SASRec", "FPMC"])
def test_cosines(model, shared, visits):
    """Loss and gradients of a step, and what is predicted, against plain cosines."""
    keys = {"sampler": "all", "loss": "softmax", "similarity": "cosine", "candidate_num": 7}
    trainer, pool, batch = ready(visits, model, candidate_sharing=shared, **keys)
    drawn = []
    propose = trainer.sampler.propose
    trainer.sampler.propose = lambda *args: drawn.append(propose(*args)) or drawn[-1]
    if shared == "batch":
        batch = batch._replace(shared=trainer.sampler.shared_items(batch, pool))
        trainer.sampler.shared_items = lambda *_: batch.shared
    found = ours(trainer, pool, batch)

    (candidates,) = drawn
    seeded()
    with trainer.adapter.encode(batch) as encoded:
        query, table = encoded._users, trainer.adapter.item_table()
    cosines = F.cosine_similarity(query.unsqueeze(1), table.unsqueeze(0), dim=2)
    negatives = cosines.gather(1, candidates.items.expand(len(query), -1))
    if candidates.excluded is not None:
        negatives = negatives.index_put(candidates.excluded, torch.tensor(-torch.inf))
    pos = cosines.gather(1, batch.pos_item.unsqueeze(1)).squeeze(1)
    literal = ((negatives / 0.1).logsumexp(dim=1) - pos / 0.1).mean()
    same(found, learned(trainer, literal))

    trainer.model.eval()
    sequences = batch.sequences
    queries, items = trainer.adapter.queries(sequences), trainer.adapter.item_table()
    cosines = F.cosine_similarity(queries.unsqueeze(1), items.unsqueeze(0), dim=2)
    predicted = trainer.model.full_sort_predict(sequences).view(cosines.shape)
    torch.testing.assert_close(predicted, cosines)
    pairs = trainer.model.predict(sequences)
    wanted = sequences[trainer.model.ITEM_ID].unsqueeze(1)
    torch.testing.assert_close(pairs, cosines.gather(1, wanted).squeeze(1))


def test_lists_of_cosines(visits):
    keys = {**visits, **QUIET, "epochs": 1, "MAX_ITEM_LIST_LENGTH": 6, "embedding_size": 8}
    trained = run("STAMP", sampler="dns", config_dict={**keys, "similarity": "cosine"})
    lists = trained.recommend(["u3", "u4"], 3)
    assert lists.score.between(-1, 1).all()
    again = load(trained.checkpoint).recommend(["u3", "u4"], 3)
    assert again.equals(lists)


@pytest.mark.parametrize("again", [True, False])
def test_whether_what_a_user_knows_is_ranked(again, visits):
    """Against ranks counted one by one from the file; users come back to some items."""
    keys = {**visits, "MAX_ITEM_LIST_LENGTH": 3, "metrics": ["Hit", "MRR"], "topk": [1, 5]}
    keys.update(embedding_size=8, repeatable=again, metric_decimal_place=9, valid_metric="MRR@5")
    _, train, valid, trainer = prepared(model="STAMP", **keys)
    trainer.eval_collector.data_collect(train)
    found = trainer.evaluate(valid, load_best_model=False)

    lines = Path("dataset/visits/visits.inter").read_text().splitlines()[1:]
    visited = {}
    for user, item, _ in (line.split("\t") for line in lines):
        visited.setdefault(user, []).append(item)
    dataset, model = valid._dataset, trainer.model
    hits, reciprocal = {1: 0, 5: 0}, {1: 0.0, 5: 0.0}
    with torch.no_grad():
        for index in range(len(dataset)):
            interaction = dataset[torch.tensor([index])]
            items = visited[dataset.id2token("user_id", interaction["user_id"].item())]
            scores = model.full_sort_predict(interaction).view(-1).tolist()
            (wanted,) = dataset.token2id("item_id", [items[-2]])
            left = set(range(1, dataset.item_num))
            if not again:
                left -= set(dataset.token2id("item_id", items[:-2])) - {wanted}
            rank = 1 + sum(scores[item] > scores[wanted] for item in left)
            for k in hits:
                hits[k] += rank <= k
                reciprocal[k] += (rank <= k) / rank
    for k in hits:
        assert found[f"hit@{k}"] == pytest.approx(hits[k] / len(visited))
        assert found[f"mrr@{k}"] == pytest.approx(reciprocal[k] / len(visited))


REFUSED = {
    "DIN": {"model": "DIN"},
    "S3Rec": {"model": "S3Rec"},
    "RepeatNet": {"model": "RepeatNet"},
    "TransRec": {"model": "TransRec"},
    "model=SASRec: sampler=kernel": {"model": "SASRec", "sampler": "kernel"},
    "model=SASRec: loss=sl_at_k": {"model": "SASRec", "loss": "sl_at_k"},
    "sampler=all, not dns_mn": {"model": "SASRec", "loss": "sce"},
    "candidate_exclude=target: must be left out": {"model": "BPR", "candidate_exclude": "target"},
    "train_positions=all: must be left out": {"model": "BPR", "train_positions": "all"},
    "train_positions=all: needs": {"model": "NARM", "train_positions": "all"},
    "MAX_ITEM_LIST_LENGTH=0: must be": {"model": "SASRec", "MAX_ITEM_LIST_LENGTH": 0},
    "LIST_SUFFIX=: must be": {"model": "SASRec", "LIST_SUFFIX": ""},
    "similarity=cosine: must be inner": {"model": "CORE", "similarity": "cosine"},
    "eval_similarity=cosine: must be inner": {"model": "BERT4Rec", "eval_similarity": "cosine"},
    "order must be TO": {"model": "SASRec", "eval_args": {"order": "RO"}},
    "did you mean SASRec": {"model": "SASRek"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message):
    with pytest.raises(UserError, match=message):
        Config(config_dict={**QUIET, **REFUSED[message]})


def test_as_recboles_users_run_it(visits):
    """Keys that RecBole asks for with cross-entropy, and parts of eval_args."""
    keys = {**visits, **QUIET, **SMALL, "n_layers": 1, "epochs": 1, "metrics": ["NDCG", "OPAUC"]}
    del keys["embedding_size"]
    more = {"train_neg_sample_args": None, "loss_type": "CE", "eval_args": {"mode": "uni10"}}
    keys.update(more, valid_metric="NDCG@5", MAX_ITEM_LIST_LENGTH=6)
    config = Config("SASRec", config_dict=keys)
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["candidate_exclude"] == "target"
    assert list(config.unused_keys()) == ["loss_type"]
    result = run("SASRec", config_dict=keys)
    assert "opauc@0.1" in result["test_result"]


def test_each_users_metrics(visits):
    keys = {**visits, **QUIET, "epochs": 1, "MAX_ITEM_LIST_LENGTH": 6, "embedding_size": 8}
    keys.update(metrics=["NDCG"], valid_metric="NDCG@5", user_metrics=True)
    result = run("STAMP", config_dict=keys)
    table = pd.read_parquet(result.result_file.with_suffix(".users.parquet"))
    assert sorted(table.user) == sorted(f"u{user}" for user in range(30))
    assert table["ndcg@5"].mean() == pytest.approx(result["test_result"]["ndcg@5"], abs=1e-4)


@pytest.mark.parametrize("model", ["GRU4Rec", "BERT4Rec"])
def test_recommendations(model, visits):
    keys = {**visits, **QUIET, "epochs": 1, "MAX_ITEM_LIST_LENGTH": 6, "hidden_size": 8}
    trained = run(model, config_dict={**keys, "sampler": "all", "loss": "gbce"})
    again = run(model, config_dict={**keys, "sampler": "all", "loss": "gbce"}, saved=False)
    lists = trained.recommend(["u3", "u4"], 3)
    assert lists.user.tolist() == ["u3"] * 3 + ["u4"] * 3
    assert again.recommend(["u3", "u4"], 3).equals(lists)
    # what is known of a user, the first of all among it
    lines = Path("dataset/visits/visits.inter").read_text().splitlines()
    known = {line.split("\t")[1] for line in lines if line.startswith("u3\t")}
    assert known.isdisjoint(lists.item[:3])
