"""What every registered sampler and loss, and every adapter, has to meet."""

import copy
import math
import re
from pathlib import Path

import pytest
import torch
from conftest import QUIET, first_batch, prepared, step

from recbole_hns import run
from recbole_hns.component import Component
from recbole_hns.config.config import model_class
from recbole_hns.config.known import model_keys
from recbole_hns.errors import UserError
from recbole_hns.loss import LOSSES
from recbole_hns.model import adapter_class
from recbole_hns.model.registry import ADAPTERS
from recbole_hns.sampler import SAMPLERS
from recbole_hns.training.trainer import HardNegativeTrainer

#: Keys that suit 40 items, of samplers with other defaults.
KEYS = {
    "dns_mn": {"dns_m": 3, "candidate_num": 9},
    "softmax_v": {"candidate_num": 9},
    "warp": {"warp_max_trials": 9},
    "adasir": {"adasir_pool_size": 10, "adasir_sample_size": 20},
    "irgan": {"irgan_cycle": [1, 1]},
    "cuco": {"cuco_epochs": 4, "candidate_num": 8},
}
#: Keys with which a loss keeps state within few epochs, or depends on other rows of the batch.
LOSS_KEYS = {
    "advinfonce": {"advinfonce_interval": 1},
    "bsl": {"bsl_pooled": True},
    "sl_at_k": {"sl_k": 5, "sl_every": 1},
}

#: Of sequential models, which need times.
TIMES = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": 6,
}

#: A model of each adapter, the one that is scored by its predict included, and what it takes.
MODELS = {
    "BPR": {},
    "LightGCN": {"n_layers": 2},
    "NGCF": {},
    "SGL": {},
    "NCL": {"num_clusters": 3, "warm_up_step": 1},
    "ConvNCF": {"cnn_channels": [1, 2, 2, 2, 2], "embedding_size": 64},
    "SASRec": {"hidden_size": 8, "inner_size": 8, "n_layers": 1, **TIMES},
    "FPMC": {"embedding_size": 8, **TIMES},
    "CORE": {"embedding_size": 8, "inner_size": 8, "n_layers": 1, **TIMES},
    "BERT4Rec": {"hidden_size": 8, "inner_size": 8, "n_layers": 1, **TIMES},
}

#: Models whose adapters differ from that of SASRec in how they encode alone.
LIKE_SASREC = ("FPMC", "CORE", "BERT4Rec")


def unfit(model, sampler, loss):
    """What begins the message if a model does not give what sampler and loss need, or None."""
    adapter, needs = adapter_class(model_class(model)), SAMPLERS[sampler].needs
    gives = {"layers": adapter.has_layers, "embeddings": adapter.has_embeddings}.get(needs, True)
    for axis, part in (("sampler", SAMPLERS[sampler]), ("loss", LOSSES[loss])):
        renewed = part.start_epoch is not Component.start_epoch
        if (axis == "sampler" and not gives) or (adapter.sequential and renewed):
            return f"model={model}: {axis}={part.name} "
    if LOSSES[loss].picks_itself and (sampler != "all" or not adapter.products):
        return f"loss={loss}: "
    return None


def learns(model, sampler, loss):
    return unfit(model, sampler, loss) is None


def resumes(tmp_path, monkeypatch, model, **keys):
    """Check that two epochs and two more are four epochs, to the last bit."""
    states, train_epoch = [], HardNegativeTrainer._train_epoch

    def keep_state(self, *args, **kwargs):
        losses = train_epoch(self, *args, **kwargs)
        parts = (self.sampler.state_dict(), self.loss.state_dict(), self.model.state_dict())
        states.append((losses, copy.deepcopy(parts)))
        return losses

    monkeypatch.setattr(HardNegativeTrainer, "_train_epoch", keep_state)
    keys = {**QUIET, **keys, "epochs": 4, "train_batch_size": 64, "eval_step": 2}
    expected = run(model, config_dict=keys)
    whole, states[:] = states[-1], []
    run(model, config_dict={**keys, "epochs": 2, "checkpoint_dir": "part"})
    (checkpoint,) = (tmp_path / "part").glob("*.pth")
    assert run(resume=checkpoint, config_dict={"epochs": 4}) == expected
    assert states[-1][0] == whole[0]
    torch.testing.assert_close(states[-1][1], whole[1], rtol=0, atol=0)
    assert all(math.isfinite(value) for value in expected["test_result"].values())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_trains_and_resumes_to_the_same_figures(sampler, toy, tmp_path, monkeypatch):
    model = "LightGCN" if SAMPLERS[sampler].needs == "layers" else "BPR"
    resumes(tmp_path, monkeypatch, model, sampler=sampler, **toy, **KEYS.get(sampler, {}))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_and_resumes_to_the_same_figures(loss, toy, tmp_path, monkeypatch):
    keys = {"candidate_sharing": "batch", "similarity": "cosine", "sampler": "dns_mn"}
    keys.update({**KEYS["dns_mn"], **LOSS_KEYS.get(loss, {})})
    if LOSSES[loss].picks_itself:
        keys = {"sampler": "all"}
    resumes(tmp_path, monkeypatch, "LightGCN", loss=loss, **toy, **keys)


@pytest.mark.parametrize("model", MODELS)
def test_every_adapter_trains_and_resumes_to_the_same_figures(model, toy, tmp_path, monkeypatch):
    keys = {**toy, **KEYS["dns_mn"], **MODELS[model]}
    resumes(tmp_path, monkeypatch, model, sampler="dns_mn", loss="softmax", **keys)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("model", [model for model in MODELS if model not in LIKE_SASREC])
def test_every_combination_learns_or_is_refused_in_a_line(model, sampler, loss, toy):
    keys = {**toy, **MODELS[model], **KEYS.get(sampler, {}), "train_batch_size": 32}
    refused = unfit(model, sampler, loss)
    if refused:
        with pytest.raises(UserError, match=f"^{refused}"):
            prepared(model=model, sampler=sampler, loss=loss, **keys)
        return
    _, train, _, trainer = prepared(model=model, sampler=sampler, loss=loss, **keys)
    trainer.pool = trainer._pool_of(train)
    trainer._start_epoch(0)
    losses, sums = step(trainer, first_batch(trainer, train))
    parts = losses if isinstance(losses, tuple) else (losses,)
    sum(part.sum() for part in parts).backward()
    assert all(torch.isfinite(part).all() for part in (*parts, sums))
    learned = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert learned
    assert all(torch.isfinite(gradient).all() for gradient in learned)


@pytest.mark.parametrize(
    "keys",
    [
        {"candidate_sharing": "batch"},
        {"candidate_num": "all"},
        {"candidate_sharing": "batch", "similarity": "cosine", "loss": "softmax"},
        {"candidate_num": "all", "step_memory": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF"])
def test_mixed_precision(model, keys, toy):
    keys = {**toy, **KEYS["dns_mn"], **keys, "enable_amp": True}
    _, train, _, trainer = prepared(model=model, sampler="dns_mn", **keys)
    trainer.pool = trainer._pool_of(train)
    trainer._train_epoch(train, 0)
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", [model for model in MODELS if model != "ConvNCF"])
def test_every_loss_learns_the_same_in_parts(model, loss, toy, monkeypatch):
    if not learns(model, "dns_mn", loss):
        pytest.skip("refused")
    keys = {**toy, **MODELS[model], "message_dropout": 0.0}
    if "reg_weight" in model_keys(model_class(model)):
        keys["reg_weight"] = 0.2
    keys.update(sampler="dns_mn", candidate_num="all", dns_m=6, **LOSS_KEYS.get(loss, {}))
    _, train, _, trainer = prepared(model=model, loss=loss, **keys)
    trainer.pool = trainer._pool_of(train)
    trainer._start_epoch(1)
    batch = first_batch(trainer, train, 23)
    results = []
    # bytes for a pair that make one part, and parts of a few positives
    for pair_bytes in (64, 512 * 2**20 // (3 * trainer.pool.item_num)):
        monkeypatch.setattr("recbole_hns.model.base.PAIR_BYTES", pair_bytes)
        torch.manual_seed(5)
        for parameter in trainer.model.parameters():
            parameter.grad = None
        losses, sums = step(trainer, batch)
        parts = losses if isinstance(losses, tuple) else (losses,)
        sum(part.sum() for part in parts).backward()
        gradients = [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]
        results.append((*(part.detach() for part in parts), sums, *gradients))
    for whole, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "names"), [("sampler", SAMPLERS), ("loss", LOSSES)])
def test_each_has_a_literal_reference(kind, names):
    """In a file of its name, by a test of the gradient against one written out in the test."""
    for name in names:
        text = (Path(__file__).parent / kind / f"test_{name}.py").read_text()
        assert re.search(r"^def test_\w*gradient", text, re.MULTILINE), name


def test_every_adapter_has_a_model_here():
    used = {adapter_class(model_class(model)) for model in MODELS}
    assert set(ADAPTERS) <= used
