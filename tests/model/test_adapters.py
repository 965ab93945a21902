"""What adapters make of RecBole's models, beside what RecBole does."""

import math
from contextlib import nullcontext

import pytest
import torch
from conftest import first_batch, prepared, step
from recbole.model.general_recommender import BPR, LightGCN

from recbole_hns import UserError, run
from recbole_hns.batch import Negatives, Scores
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.model import make_adapter
from recbole_hns.model.lightgcn import LightGCNAdapter
from recbole_hns.model.predicted import PredictedAdapter


def test_l2_without_require_pow_is_the_norm_of_all_weighted_negatives(toy):
    keys = {"sampler": "dns_mn", "candidate_num": 6, "dns_m": 3, "reg_weight": 0.3}
    _, train, _, trainer = prepared(model="LightGCN", n_layers=0, **toy, **keys)
    model = trainer.model
    batch = first_batch(trainer, train, 20)
    items = trainer.pool.draw(batch.user, 3)
    with trainer.adapter.encode() as encoded:
        scores = Scores(torch.zeros(20, 1), torch.zeros(20, 3))
        negatives = Negatives(items, scores, None, None)
        found = trainer.adapter.total(encoded, batch, torch.zeros(()), negatives)
    negatives = model.item_embedding.weight[items] / math.sqrt(3)
    rows = (model.user_embedding(batch.user), model.item_embedding(batch.pos_item), negatives)
    expected = 0.3 * sum(each.norm() for each in rows) / batch.size
    torch.testing.assert_close(found.squeeze(), expected)


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF", "SGL", "NCL"])
def test_with_one_random_negative_the_loss_is_recboles(model, toy):
    keys = {"NGCF": {"message_dropout": 0.0}, "NCL": {"num_clusters": 3}}.get(model, {})
    _, train, _, trainer = prepared(model=model, sampler="rns", **toy, **keys)
    trainer.model.train()
    if model == "NCL":
        trainer.model.e_step()
    batch = first_batch(trainer, train)
    torch.manual_seed(5)
    neg_item = trainer.pool.draw(batch.user, 1).squeeze(1)
    torch.manual_seed(5)
    found, _ = step(trainer, batch)
    interaction = trainer.adapter._interaction(batch.user, batch.pos_item, neg_item)
    expected = trainer.model.calculate_loss(interaction)
    # RecBole's BPRLoss adds 1e-10 inside the logarithm
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_layers", [0, 2])
def test_an_l2_term_without_weight_changes_nothing(toy, n_layers):
    keys = {"model": "LightGCN", "n_layers": n_layers, "reg_weight": 0.0, "sampler": "rns"}
    _, train, _, trainer = prepared(**toy, **keys)
    model = trainer.model
    batch = first_batch(trainer, train)
    model.restore_user_e, model.restore_item_e = model.forward()
    torch.manual_seed(5)
    neg_item = trainer.pool.draw(batch.user, 1).squeeze(1)
    torch.manual_seed(5)
    found, _ = step(trainer, batch)
    # what evaluation had kept is that of the parameters of before
    assert model.restore_user_e is model.restore_item_e is None
    found.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    interaction = trainer.adapter._interaction(batch.user, batch.pos_item, neg_item)
    expected = model.calculate_loss(interaction)
    expected.sum().backward()
    torch.testing.assert_close(found, expected.squeeze(), rtol=1e-5, atol=1e-5)
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-7)


def test_any_model_with_bpr_loss_gets_the_same_loss_by_predict(toy):
    """A model this package does not know is scored pair by pair; BPR serves as one."""
    keys = {"sampler": "softmax_v", "candidate_num": 8}
    config, train, _, trainer = prepared(model="BPR", **toy, **keys)
    batch = first_batch(trainer, train, 50)
    results = []
    for adapter in (trainer.adapter, PredictedAdapter(trainer.model, config)):
        trainer.adapter = adapter
        torch.manual_seed(5)
        trainer.model.zero_grad()
        loss, sums = step(trainer, batch)
        loss.backward()
        grads = [p.grad.clone() for p in trainer.model.parameters()]
        results.append((loss.detach(), sums, *grads))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-5, atol=1e-7)


def test_convncf_in_parts_has_the_same_gradient(toy, monkeypatch):
    keys = {"sampler": "softmax_v", "candidate_num": 6, "embedding_size": 64, "dropout_prob": 0.0}
    more = {"cnn_channels": [1, 2, 2, 2, 2], "train_batch_size": 32}
    _, train, _, trainer = prepared(model="ConvNCF", **toy, **keys, **more)
    # one gradient is 0, and in single precision rounding alone
    trainer.model.double().train()
    batch = first_batch(trainer, train)
    results = []
    for pairs in (4096, 50):
        monkeypatch.setattr("recbole_hns.model.predicted.PREDICT_PAIRS", pairs)
        torch.manual_seed(5)
        trainer.model.zero_grad()
        loss, _ = step(trainer, batch)
        loss.backward()
        results.append((loss.detach(), *(p.grad.clone() for p in trainer.model.parameters())))
    for whole, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-4, atol=1e-6)


def test_a_subclass_that_scores_otherwise_is_scored_by_its_predict(toy):
    class Scaled(BPR):
        def predict(self, interaction):
            return 2 * super().predict(interaction)

    class Alike(LightGCN):
        pass

    for model, adapter in ((Scaled, PredictedAdapter), (Alike, LightGCNAdapter)):
        config = Config(model, config_dict={**toy, "embedding_size": 8, "n_layers": 1})
        train = data_preparation(config, create_dataset(config))[0]
        assert type(make_adapter(model(config, train._dataset), config)) is adapter


def test_propagation_happens_once_a_step(toy):
    config, train, _, trainer = prepared(model="LightGCN", **toy, sampler="dns_mn", dns_m=5)
    forward, calls = type(trainer.model).forward, []
    counted = type("Counted", (type(trainer.model),), {})
    counted.forward = lambda self: calls.append(1) or forward(self)
    trainer.model.__class__ = counted
    trainer.adapter = make_adapter(trainer.model, config)
    step(trainer, first_batch(trainer, train))
    assert len(calls) == 1


@pytest.mark.parametrize("model", ["LightGCN", "NGCF", "DGCF", "SGL", "NCL", "SpectralCF"])
def test_propagation_and_gradient_are_recboles(model, toy):
    keys = {"NGCF": {"message_dropout": 0.0}, "NCL": {"num_clusters": 3}}.get(model, {})
    _, _, _, trainer = prepared(model=model, sampler="rns", **toy, **keys)
    network = trainer.model
    graph = (network.train_graph,) if model == "SGL" else ()
    results = []
    for inside in (True, False):
        network.zero_grad()
        with trainer.adapter.encode() if inside else nullcontext():
            graph_now = (network.train_graph,) if model == "SGL" else ()
            user_table, item_table = network.forward(*graph_now)[:2]
            (user_table.square().sum() + item_table.sin().sum()).backward()
        results.append([user_table, item_table, *(p.grad for p in network.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert not graph or network.train_graph is graph[0]


def test_an_augmentation_of_sgl_that_there_is_not(toy):
    with pytest.raises(UserError, match=r"^type=XY: must be one of ED, ND, RW$"):
        run("SGL", config_dict={**toy, "type": "XY", "epochs": 1, "embedding_size": 4})
