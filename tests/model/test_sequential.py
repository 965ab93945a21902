"""Sequential models: what RecBole computes of a step is what is computed here."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import prepared
from torch import nn

from recbole_hns.config.config import model_class
from recbole_hns.config.known import model_keys
from recbole_hns.model.registry import SEQUENTIAL
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
