"""Every path on the GPU, beside the same on the CPU.

``pytest tests/gpu --device=cpu`` checks the tests themselves where there is no GPU.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import QUIET, prepared

from recbole_hns import load_data_and_model, run
from recbole_hns.batch import Batch, Candidates, Scores
from recbole_hns.cli import main
from recbole_hns.config.config import model_class
from recbole_hns.data import NegativePool
from recbole_hns.errors import UserError
from recbole_hns.evaluation import norm_opauc
from recbole_hns.model import check_part
from recbole_hns.recommendation import read_checkpoint, restore
from recbole_hns.recommendation.lists import Lists
from recbole_hns.sampler import SAMPLERS
from recbole_hns.training.checkpoint import load_checkpoint

SHORT = {**QUIET, "epochs": 3, "embedding_size": 16, "train_batch_size": 64}

#: What it takes to train each model on 30 users.
MODELS = {
    "BPR": {},
    "LightGCN": {},
    "NGCF": {},
    "DGCF": {"embedding_size": 16, "n_factors": 4},
    "SGL": {},
    "NCL": {"num_clusters": 3, "warm_up_step": 1},
    "SpectralCF": {},
    "ConvNCF": {"cnn_channels": [1, 2, 2, 2, 2], "embedding_size": 64},
}

#: Keys that suit 40 items, of samplers with other defaults.
KEYS = {"dns_mn": {"dns_m": 3, "candidate_num": 9}, "softmax_v": {"candidate_num": 9}}


@pytest.fixture
def device(request):
    name = request.config.getoption("device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no NVIDIA GPU")
    return torch.device(name)


def on(device):
    """The config key that chooses a device."""
    return {"use_gpu": device.type == "cuda"}


@pytest.fixture
def drawn_on_cpu(monkeypatch):
    """Candidates are the same whatever the device, whose generators differ."""
    draw, draw_shared = NegativePool.draw, NegativePool.draw_shared
    monkeypatch.setattr(
        NegativePool,
        "draw",
        lambda self, user, num: draw(self, user.cpu(), num).to(user.device),
    )
    monkeypatch.setattr(
        NegativePool,
        "draw_shared",
        lambda self, num, device: draw_shared(self, num, torch.device("cpu")).to(device),
    )


def losses():
    (path,) = Path("saved").glob("*.json")
    found = [epoch["train_loss"] for epoch in json.loads(path.read_text())["epochs"]]
    shutil.rmtree("saved")
    return found


# --- the parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_candidates(distribution, toy, device):
    _, train, _, _ = prepared(**toy)
    sampler = train._sampler.pool.with_distribution(distribution, 0.75)
    user = torch.arange(1, sampler.user_num, device=device).repeat(20)
    item = sampler.draw(user, 50)
    assert item.device.type == device.type
    assert item.shape == (len(user), 50)
    scores = sampler.exclude(user, torch.zeros(len(user), sampler.item_num, device=device))
    assert scores.gather(1, item).min() == 0  # neither padding nor one of the user's own

    count = torch.zeros_like(scores).scatter_add_(
        1, item, torch.ones_like(item, dtype=scores.dtype)
    )
    share = count.view(20, -1, sampler.item_num).sum(dim=0).cpu().numpy() / 1000
    tables = sampler.tables("cpu")
    mass = np.diff(tables.mass.numpy(), prepend=0) * (scores[: len(share)] == 0).cpu().numpy()
    np.testing.assert_allclose(share, mass / mass.sum(axis=1, keepdims=True), atol=0.06)


#: Those that select by scores alone, without state or chance.
SELECTING = [name for name, cls in SAMPLERS.items() if cls.needs != "layers" and name != "srns"]


@pytest.mark.parametrize("name", SELECTING)
def test_samplers_choose_the_same(name, device):
    sampler = SAMPLERS[name](**KEYS.get(name, {}))
    generator = torch.Generator().manual_seed(1)
    num = sampler.candidate_num
    pos, neg = (torch.randn(64, n, generator=generator) for n in (1, num))
    sampler.setup(SimpleNamespace(n_users=64, n_items=100), 1)
    users = torch.arange(64)
    items = torch.arange(1, 1 + num).expand(64, -1)
    log_q = torch.rand(64, num, generator=generator)

    def select(target):
        sampler.to(target)
        candidates = Candidates(
            items.to(target), None, log_q.to(target), 90 + 0 * users[:, None].to(target)
        )
        part = Batch.of(users.to(target), users.to(target))
        return sampler.select(Scores(pos.to(target), neg.to(target)), candidates, part)

    expected, found = select("cpu"), select(device)
    for theirs, ours in zip(expected, found):
        if theirs is None:
            assert ours is None
        elif theirs.is_floating_point():
            torch.testing.assert_close(ours.cpu(), theirs)
        else:  # the order of several is free
            assert torch.equal(ours.cpu().sort().values, theirs.sort().values)


def test_opauc(device):
    generator = torch.Generator().manual_seed(2)
    scores = torch.randint(50, (40, 300), generator=generator) / 8  # with ties
    scores[torch.rand(scores.shape, generator=generator) < 0.1] = -torch.inf
    user, item = (torch.rand(scores.shape, generator=generator) < 0.05).nonzero(as_tuple=True)
    betas = [0.01, 0.1, 0.35, 1.0]
    expected = norm_opauc(scores.clone(), user, item, betas)
    found = norm_opauc(scores.to(device), user.to(device), item.to(device), betas)
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-12, equal_nan=True)


def refuses(model, sampler):
    """Whether the config refuses the pair."""
    try:
        check_part(model_class(model), SAMPLERS[sampler])
    except UserError:
        return True
    return False


PAIRS = [(m, s) for m in MODELS for s in SAMPLERS if not refuses(m, s)]


def slow(cases, quick):
    """Parameters of which those that are not quick are marked slow."""
    return [case if quick(case) else pytest.param(*case, marks=pytest.mark.slow) for case in cases]


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "sampler"), slow(PAIRS, lambda case: "BPR" in case or "dns" in case)
)
def test_every_model_trains_with_every_sampler(model, sampler, toy, device):
    keys = {**SHORT, **toy, **on(device), **MODELS[model], **KEYS.get(sampler, {}), "epochs": 2}
    metrics = {"metrics": ["NDCG", "NormOPAUC"], "valid_metric": "NDCG@10"}
    result = run(model, sampler=sampler, config_dict={**keys, **metrics})
    assert 0 < result["test_result"]["normopauc@1.0"] < 1
    assert np.isfinite(losses()).all()


#: Those whose draws are all the pool's, which the test makes the same on every device.
SAME_DRAWS = [
    name
    for name in SAMPLERS
    if name not in ("adasir", "ans", "aobpr", "irgan", "kernel", "mixgcf", "srns")
]
SHARED = {"candidate_sharing": "batch", "similarity": "cosine", "loss": "softmax"}


@pytest.mark.parametrize(
    ("sampler", "axes"), [*((name, {}) for name in SAME_DRAWS), ("dns_mn", SHARED), ("all", SHARED)]
)
@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
@pytest.mark.parametrize("mode", ["full", pytest.param("uni10", marks=pytest.mark.slow)])
def test_same_seed_and_data_same_figures(model, sampler, axes, mode, toy, device, drawn_on_cpu):
    keys = {**SHORT, **toy, **KEYS.get(sampler, {}), "eval_args": {"mode": mode}, "topk": [5, 10]}
    keys.update(axes)
    keys.update(metrics=["Recall", "NDCG", "MRR", "OPAUC"], valid_metric="NDCG@10")
    found = {}
    for place in (torch.device("cpu"), device):
        result = run(model, sampler=sampler, config_dict={**keys, **on(place)})
        found[place] = result["test_result"], losses()
    (expected, expected_losses), (result, result_losses) = found[torch.device("cpu")], found[device]
    np.testing.assert_allclose(result_losses, expected_losses, rtol=1e-3)
    assert result.keys() == expected.keys()
    for metric, value in expected.items():
        assert result[metric] == pytest.approx(value, abs=0.02), metric


EXACT = [
    (model, sampler)
    for model in ("BPR", "LightGCN", "ConvNCF")
    for sampler in ("dns", "dns_mn", "softmax", "softmax_v", "ahns")
]


@pytest.mark.parametrize(
    ("model", "sampler"), slow(EXACT, lambda case: "ConvNCF" not in case or "dns" in case)
)
def test_every_negative_exactly(model, sampler, toy, device):
    keys = {**SHORT, **toy, **MODELS[model], "candidate_num": "all", "epochs": 2}
    found = {}
    for place in (torch.device("cpu"), device):
        run(model, sampler=sampler, config_dict={**keys, "dropout_prob": 0.0, **on(place)})
        found[place] = losses()
    np.testing.assert_allclose(found[device], found[torch.device("cpu")], rtol=1e-3)


def test_metrics_of_a_real_data_set_with_its_own_draws(device):
    """Each device draws its own candidates: the figures agree as those of two seeds do."""
    keys = {**QUIET, "epochs": 10, "learning_rate": 0.005, "topk": [20], "valid_metric": "NDCG@20"}
    found = [
        run("BPR", sampler="ahns", config_dict={**keys, **on(place)}, saved=False)["test_result"]
        for place in (torch.device("cpu"), device)
    ]
    for metric, value in found[0].items():
        assert found[1][metric] == pytest.approx(value, rel=0.1), metric


@pytest.mark.parametrize("candidate_num", [9, "all"])
@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF"])
def test_mixed_precision(model, candidate_num, toy, device):
    keys = {**SHORT, **toy, "candidate_num": candidate_num, **on(device)}
    found = []
    for more in ({}, {"enable_amp": True}, {"enable_amp": True, "enable_scaler": True}):
        run(model, sampler="softmax_v", config_dict={**keys, **more})
        found.append(losses())
    np.testing.assert_allclose(found[1], found[0], rtol=0.05)
    np.testing.assert_allclose(found[2], found[0], rtol=0.05)


# --- what comes after -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["BPR", "NCL"])
def test_a_run_is_resumed_and_read_on_either_device(model, toy, device):
    keys = {**SHORT, **toy, **MODELS[model], "epochs": 4}
    whole = run(model, sampler="dns", config_dict={**keys, **on(device)})
    shutil.rmtree("saved")
    run(model, sampler="dns", config_dict={**keys, **on(device), "epochs": 2})
    (path,) = Path("saved").glob("*.pth")
    assert load_checkpoint(path)["state_dict"]["user_embedding.weight"].device.type == "cpu"
    again = run(resume=path, config_dict={"epochs": 4})
    for metric, value in whole["test_result"].items():
        assert again["test_result"][metric] == pytest.approx(value, abs=0.02), metric
    run(resume=path, config_dict={"epochs": 5, "use_gpu": False})
    assert load_data_and_model(path)[0]["epochs"] == 5


def test_a_trained_model_scores_the_same_on_either_device(toy, device):
    _, train, valid, trainer = prepared(**toy, **SHORT, **on(device))
    trainer.fit(train, valid, saved=False)
    found = trainer.evaluate(valid, load_best_model=False)
    _, _, valid, other = prepared(**toy, **SHORT, use_gpu=False)
    other.model.load_state_dict({k: v.cpu() for k, v in trainer.model.state_dict().items()})
    expected = other.evaluate(valid, load_best_model=False)
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=0.01), metric


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "ConvNCF"])
def test_lists_are_the_same_on_either_device(model, toy, device):
    keys = {**SHORT, **toy, **MODELS[model], "epochs": 1, "sampler": "rns"}
    result = run(model, config_dict={**keys, **on(device)})
    found = result.recommend(k=20)
    path = result.checkpoint
    other = Lists(restore(*read_checkpoint(path, {"use_gpu": False}), path))
    (part,) = other.of_users(np.arange(1, result.dataset.user_num), 20)
    np.testing.assert_allclose(found["score"], part.score, rtol=1e-3, atol=1e-4)
    items = result.dataset.id2token("item_id", part.item)
    assert (found["item"] == items).mean() > 0.95


def test_benchmark(device):
    arguments = ["--synthetic=20,30,200", "--samplers=ahns,dns_mn:dns_m=2,candidate_num=6"]
    keys = [f"--use_gpu={on(device)['use_gpu']}", "--rounds=1", "--output=out"]
    assert main(["benchmark", *arguments, *keys]) == 0
    assert device.type in Path("out/benchmark.csv").read_text()
