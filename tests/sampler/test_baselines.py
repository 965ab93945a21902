"""The papers' baselines that need scores and ids only: their loss and gradient in a training step
against their formulas written out literally, and what all of them have to stand.
"""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUIET, first_batch, prepared, step

from recbole_hns import UserError, run
from recbole_hns.cli import main
from recbole_hns.training.trainer import HardNegativeTrainer

EVERY = [
    {"sampler": "ssm", "candidate_num": 6, "ssm_tau": 0.5},
    {"sampler": "ssm", "candidate_num": 6, "ssm_negatives": "popularity"},
    {"sampler": "ssm", "candidate_num": 1, "ssm_negatives": "popularity"},
    {"sampler": "ssm", "ssm_negatives": "in_batch", "ssm_tau": 0.7},
    {"sampler": "ssm", "candidate_num": 6, "ssm_similarity": "cosine", "ssm_tau": 0.2},
    {"sampler": "ssm", "ssm_negatives": "in_batch", "ssm_similarity": "cosine"},
    {"sampler": "cuco", "candidate_num": 9, "cuco_epochs": 4},
    {"sampler": "aobpr", "aobpr_lambda": 5.0},
    {"sampler": "warp", "warp_max_trials": 7, "warp_margin": 0.5},
    {"sampler": "warp", "warp_max_trials": 7, "warp_normalize": True},
    {"sampler": "pris", "pris_tau": 0.5},
    {"sampler": "pris", "candidate_distribution": "popularity"},
    {"sampler": "adasir", "adasir_pool_size": 10, "adasir_sample_size": 20},
    {"sampler": "adasir", "adasir_correction": "none", "candidate_distribution": "popularity"},
    {"sampler": "adasir", "adasir_correction": "inverse", "adasir_refresh": 2},
    {"sampler": "kernel", "kernel_alpha": 3.0},
    {"sampler": "kernel", "kernel_alpha": 3.0, "kernel_refresh": "epoch"},
]


def label(keys):
    return "-".join(str(value) for value in keys.values())


@pytest.fixture
def float64():
    """RecBole's EmbLoss adds up in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def ready(model="BPR", scale=0.7, ties=False, **keys):
    """A trainer in epoch 1 of a run, with scores that are no rounding errors, and a batch."""
    if model == "LightGCN":
        keys = {"n_layers": 2, "reg_weight": 0.0, **keys}
    _, train, _, trainer = prepared(model=model, embedding_size=5, **keys)
    network = trainer.model.to(torch.get_default_dtype())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, scale)
            if ties:
                parameter.mul_(2).round_().div_(2)
    if model == "LightGCN":
        network.norm_adj_matrix = network.norm_adj_matrix.to(torch.get_default_dtype())
    trainer.pool = trainer._pool_of(train)
    trainer._start_epoch(1)
    return trainer, first_batch(trainer, train, 40)


def drawn_in_a_step(trainer, batch):
    """Losses of a step, and the candidates that were drawn in it, ``[batch, N]``."""
    draws, propose = [], trainer.sampler.propose

    def watched(*args):
        draws.append(propose(*args))
        return draws[-1]

    trainer.sampler.propose = watched
    losses, _ = step(trainer, batch)
    del trainer.sampler.propose
    return losses, torch.cat([drawn.items.expand(batch.size, -1) for drawn in draws])


def bpr(pos, neg):
    return torch.nn.functional.softplus(neg - pos)


def softmax(exponents):
    powers = [math.exp(x - max(exponents)) for x in exponents]
    return [power / sum(powers) for power in powers]


def literal_row(trainer, u, items, pos, scores):
    """Loss of one positive by the specification, from scores with gradient."""
    sampler, r = trainer.sampler, [score.item() for score in scores]
    if sampler.name == "ssm":
        others = sum(torch.exp(score / sampler.ssm_tau) for score in scores)
        own = torch.exp(pos / sampler.ssm_tau)
        # in the batch, the row's own positive is one of the candidates
        return -torch.log(own / (others + (sampler.ssm_negatives != "in_batch") * own))
    if sampler.name == "cuco":
        n = max(1, math.floor((1 - sampler.epoch / sampler.cuco_epochs) * sampler.candidate_num))
        assert len(r) == n
        return bpr(pos, scores[r.index(max(r))])
    if sampler.name == "aobpr":
        return bpr(pos, scores[0])
    if sampler.name == "warp":
        negatives = trainer.pool.item_num - 1 - len(trainer.pool.used[u])
        for trial, score in enumerate(scores, start=1):
            if score.item() > pos.item() - sampler.warp_margin:
                weight = sum(1 / s for s in range(1, max(1, negatives // trial) + 1))
                if sampler.warp_normalize:
                    weight /= sum(1 / s for s in range(1, negatives + 1))
                return weight * (sampler.warp_margin - pos + score)
        return 0 * pos
    if sampler.name == "pris":
        log_q = [0.0] * len(r)
        if sampler.candidate_distribution == "popularity":
            count = np.bincount(trainer.pool.used.item, minlength=100)
            log_q = [math.log(math.log(1 + count[j])) for j in items]
        weights = softmax([x / sampler.pris_tau - q for x, q in zip(r, log_q)])
    elif sampler.name == "adasir":
        pool = dict(zip(sampler.pool[u].tolist(), sampler.pool_log_v[u].tolist()))
        sign = {"program": 1, "none": 0, "inverse": -1}[sampler.adasir_correction]
        weights = softmax([x + sign * pool[j] for x, j in zip(r, items)])
    else:
        weights = softmax([x - math.log(sampler.kernel_alpha * x * x + 1) for x in r])
    return sum(weight * bpr(pos, score) for weight, score in zip(weights, scores, strict=True))


@pytest.mark.parametrize("keys", EVERY, ids=label)
@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_loss_and_gradient_of_a_step(model, keys, toy, float64):
    trainer, batch = ready(model, ties=keys["sampler"] in ("adasir", "warp"), **toy, **keys)
    if keys.get("kernel_refresh") == "epoch":
        trainer._start_epoch(2)
    trainer.model.zero_grad()
    losses, items = drawn_in_a_step(trainer, batch)
    losses.sum().backward()
    found = [parameter.grad.clone() for parameter in trainer.model.parameters()]

    trainer.model.zero_grad()
    if model == "BPR":
        tables = trainer.model.user_embedding.weight, trainer.model.item_embedding.weight
    else:
        tables = trainer.model.forward()
    if keys.get("ssm_similarity") == "cosine":
        tables = [table / table.norm(dim=1, keepdim=True) for table in tables]
    expected = 0
    rows = zip(batch.user.tolist(), batch.pos_item.tolist(), items.tolist(), strict=True)
    for u, i, row in rows:
        pos, *scores = (tables[0][u] @ tables[1][j] for j in [i, *row])
        expected = expected + literal_row(trainer, u, row, pos, scores) / batch.size
    expected.backward()
    # what AdaSIR keeps from epoch to epoch, and log q, are float32
    assert losses.item() == pytest.approx(expected.item(), rel=1e-6)
    for gradient, parameter in zip(found, trainer.model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("keys", EVERY, ids=label)
def test_no_negative_is_the_users_own(keys, toy):
    trainer, batch = ready(**toy, **keys)
    if keys.get("ssm_negatives", "uniform") != "uniform":
        return  # as the authors' program has it
    _, items = drawn_in_a_step(trainer, batch)
    for u, row in zip(batch.user.tolist(), items.tolist(), strict=True):
        assert not set(row) & (trainer.pool.used[u] | {0})


@pytest.mark.parametrize("keys", [k for k in EVERY if "ssm_negatives" in k], ids=label)
@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF"])
def test_shared_candidates_are_the_same_for_each_row(model, keys, toy, monkeypatch):
    """Also with L2, and learnt in parts: the loss is that of each row having them for itself."""
    more = {"reg_weight": 0.1, "require_pow": True}
    more.update({"NGCF": {"message_dropout": 0.0}}.get(model, {}))
    trainer, batch = ready(model, **{**toy, **keys, **more})
    sampler, results = trainer.sampler, []
    propose = sampler.propose

    def repeated(part, *args):
        candidates = propose(part, *args)
        return candidates._replace(items=candidates.items.repeat(len(part.user), 1))

    for own, pair_bytes in ((propose, 64), (repeated, 64), (propose, 2**24)):
        monkeypatch.setattr("recbole_hns.model.base.PAIR_BYTES", pair_bytes)
        sampler.propose = own
        torch.manual_seed(5)
        trainer.model.zero_grad()
        losses, sums = step(trainer, batch)
        losses.sum().backward()
        results.append(
            (losses.detach(), sums, *(p.grad.clone() for p in trainer.model.parameters()))
        )
    for shared, separate, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(shared, separate, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(shared, in_parts, rtol=1e-4, atol=1e-6)


# edge cases


@pytest.mark.parametrize("keys", EVERY, ids=label)
@pytest.mark.parametrize("scale", [0.0, 40.0], ids=["zero", "1e4"])
def test_embeddings_of_zero_and_scores_of_1e4(scale, keys, toy):
    trainer, batch = ready(scale=scale, **toy, **keys)
    trainer.model.zero_grad()
    losses, sums = step(trainer, batch)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(sums).all()
    for parameter in trainer.model.parameters():
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("keys", EVERY, ids=label)
def test_users_with_one_negative_left_or_without_positives(keys, write_dataset):
    """One item is left to u0; u9's only interactions are in the validation and the test part."""
    pairs = [(0, i) for i in range(12)] + [(u, i) for u in range(1, 9) for i in range(u, u + 5)]
    toy = write_dataset([*pairs, (1, 12), (9, 0), (9, 1)])
    split = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "RO", "group_by": "user"}}
    result = run(config_dict={**QUIET, **toy, **keys, **split, "epochs": 3}, saved=False)
    assert math.isfinite(result["test_result"]["ndcg@10"])


# runs


@pytest.mark.parametrize("keys", EVERY, ids=label)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(keys, toy, monkeypatch):
    keys = {**QUIET, **toy, **keys, "epochs": 4, "train_batch_size": 64, "eval_step": 2}
    results = []
    train_epoch = HardNegativeTrainer._train_epoch

    def keep_state(self, *args, **kwargs):
        losses = train_epoch(self, *args, **kwargs)
        results.append((losses, copy.deepcopy(self.sampler.state_dict())))
        return losses

    monkeypatch.setattr(HardNegativeTrainer, "_train_epoch", keep_state)
    expected = run(config_dict=keys)
    whole, results[:] = results[-1], []
    run(config_dict={**keys, "epochs": 2, "checkpoint_dir": "part"})
    (checkpoint,) = Path("part").glob("*.pth")
    assert run(resume=checkpoint, config_dict={"epochs": 4}) == expected
    assert results[-1][0] == whole[0]
    torch.testing.assert_close(results[-1][1], whole[1], rtol=0, atol=0)


def test_cosine_needs_embeddings(toy):
    keys = {**QUIET, **toy, "cnn_channels": [1, 2, 2, 2, 2], "ssm_similarity": "cosine"}
    with pytest.raises(UserError, match="ssm_similarity=cosine: needs a model that scores by an"):
        run("ConvNCF", sampler="ssm", config_dict=keys, saved=False)


MISTAKES = {
    "--sampler=ssm --ssm_tau=0": "ssm_tau=0: must be a number > 0",
    "--sampler=ssm --ssm_similarity=dot": "ssm_similarity=dot: must be inner or cosine",
    "--sampler=ssm --ssm_negatives=all": "ssm_negatives=all: must be uniform or popularity or in",
    "--sampler=ssm --candidate_num=all": "candidate_num=all: must be an integer > 0",
    "--sampler=ssm --candidate_distribution=popularity": "set ssm_negatives=popularity instead",
    "--sampler=ssm --ssm_tua=1": "ssm_tua=1: no such key; did you mean ssm_tau?",
    "--sampler=cuco --cuco_epochs=0": "cuco_epochs=0: must be an integer > 0",
    "--sampler=cuco --cuco_direction=up": "cuco_direction=up: must be hard_to_easy or easy_to_hard",
    "--sampler=cuco --cuco_power=0": "cuco_power=0: must be a number > 0",
    "--sampler=aobpr --aobpr_lambda=-1": "aobpr_lambda=-1: must be a number > 0",
    "--sampler=aobpr --candidate_num=2": "candidate_num=2: must be 1",
    "--sampler=warp --warp_margin=0": "warp_margin=0: must be a number > 0",
    "--sampler=warp --warp_max_trials=0": "warp_max_trials=0: must be an integer > 0",
    "--sampler=warp --warp_normalize=2": "warp_normalize=2: must be True or False",
    "--sampler=pris --pris_tau=0": "pris_tau=0: must be a number > 0",
    "--sampler=pris --candidate_alpha=-1": "candidate_alpha=-1: must be a number >= 0 or unset",
    "--sampler=adasir --adasir_pool_size=300": "adasir_pool_size=300: must be <= adasir_sample_s",
    "--sampler=adasir --adasir_sample_size=0": "adasir_sample_size=0: must be an integer > 0",
    "--sampler=adasir --candidate_num=51": "candidate_num=51: must be <= adasir_pool_size=50",
    "--sampler=adasir --adasir_correction=v": "must be program or none or inverse",
    "--sampler=adasir --adasir_refresh=0": "adasir_refresh=0: must be an integer > 0",
    "--sampler=kernel --kernel_alpha=-1": "kernel_alpha=-1: must be a number >= 0",
    "--sampler=kernel --kernel_refresh=never": "kernel_refresh=never: must be batch or epoch",
    "--sampler=kernel --candidate_distribution=popularity": "must be uniform",
    "--sampler=dns --kernel_alpha=-1": "kernel_alpha=-1: must be a number >= 0",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_ends_in_one_line(arguments, capfd):
    assert main(["run", "--state=ERROR", *arguments.split()]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert MISTAKES[arguments] in err
