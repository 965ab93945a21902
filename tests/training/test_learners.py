"""Runs with optimisers that change only the rows that have a gradient."""

import pytest
import torch
from conftest import QUIET

from recbole_hns import UserError, run
from recbole_hns.model.lightgcn import LightGCNAdapter
from recbole_hns.training.checkpoint import load_checkpoint

LEARNERS = ["sparse_adam", "rowwise_adagrad"]


def parameters(**keys):
    found = {}

    def keep(end):
        found.update({k: v.detach().clone() for k, v in end.trainer.model.state_dict().items()})
        found["file"] = end.trainer.saved_model_file

    run(callbacks=[keep], config_dict={**QUIET, "seed": 3, **keys})
    return found


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_a_resumed_run_is_one_that_was_never_stopped(model, learner, toy):
    keys = {**toy, "model": model, "sampler": "dns", "learner": learner, "learning_rate": 0.05}
    right = parameters(**keys, epochs=4)
    first = parameters(**keys, epochs=2)
    run(resume=first["file"], config_dict={**QUIET, "epochs": 4})
    last = load_checkpoint(first["file"])["last"]["state_dict"]
    for name, value in last.items():
        assert torch.equal(value, right[name])


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize(
    "keys",
    [
        {"sampler": "irgan"},
        {"sampler": "all", "loss": "softmax"},
        {"sampler": "softmax", "candidate_sharing": "batch"},
        {"sampler": "dns", "step_memory": 1},
        {"sampler": "dns", "similarity": "cosine"},
        {"sampler": "dns", "clip_grad_norm": {"max_norm": 0.1}},
        {"sampler": "dns", "enable_amp": True},
        {"sampler": "mixgcf"},
        {"model": "LightGCN", "n_layers": 0},
        {"model": "NGCF"},
    ],
    ids=str,
)
def test_what_it_goes_with(keys, learner, toy):
    found = parameters(**toy, learner=learner, epochs=1, **keys)
    assert all(v.isfinite().all() for v in found.values() if isinstance(v, torch.Tensor))


@pytest.mark.parametrize("learner", LEARNERS)
def test_whole_tables_of_gradients_change_the_same_rows(learner, toy, monkeypatch):
    keys = {**toy, "sampler": "dns", "learner": learner, "learning_rate": 0.05, "epochs": 2}
    told = parameters(**keys)
    monkeypatch.setattr("recbole_hns.model.mf.MFAdapter.touched_rows", lambda self: {})
    untold = parameters(**keys)
    for name in ("user_embedding.weight", "item_embedding.weight"):
        assert torch.equal(told[name], untold[name])


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("require_pow", [False, True])
@pytest.mark.parametrize(
    "keys",
    [
        {"sampler": "dns"},
        {"sampler": "dns_mn", "dns_m": 2, "candidate_num": 5},
        {"sampler": "softmax"},
    ],
    ids=lambda keys: keys["sampler"],
)
def test_without_propagation_gradients_are_those_of_rows(
    keys, require_pow, learner, toy, monkeypatch
):
    keys = {"candidate_num": 3, **keys, "require_pow": require_pow, "reg_weight": 0.3}
    keys |= {**toy, "model": "LightGCN", "n_layers": 0, "learner": learner, "train_batch_size": 8}
    seen = []
    touched_rows = LightGCNAdapter.touched_rows

    def watched(self):
        found = touched_rows(self)
        seen.append(bool(found))
        return found

    monkeypatch.setattr(LightGCNAdapter, "touched_rows", watched)
    told = parameters(**keys, epochs=2)
    assert any(seen)
    monkeypatch.setattr(LightGCNAdapter, "_by_rows", lambda *_: False)
    untold = parameters(**keys, epochs=2)
    for name in ("user_embedding.weight", "item_embedding.weight"):
        torch.testing.assert_close(told[name], untold[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learner", LEARNERS)
def test_weight_decay_is_refused(learner, toy):
    with pytest.raises(UserError, match=r"weight_decay=1e-06: must be 0 with learner=.*reg_weight"):
        run(config_dict={**QUIET, **toy, "learner": learner, "weight_decay": 1e-6})
