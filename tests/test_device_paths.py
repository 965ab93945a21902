"""What a GPU computes in another way, computed in that way on the CPU."""

import numpy as np
import pytest
import torch
from conftest import first_batch, prepared, step

from recbole_hns.data import NegativePool
from recbole_hns.ops import devices
from recbole_hns.sampler import SAMPLERS

#: Keys that suit 40 items, of samplers with other defaults.
KEYS = {
    "dns_mn": {"dns_m": 3, "candidate_num": 9},
    "softmax_v": {"candidate_num": 80},
    "warp": {"warp_max_trials": 9},
    "adasir": {"adasir_pool_size": 10, "adasir_sample_size": 20},
}


SHARINGS = [
    (name, sharing)
    for name, sampler in SAMPLERS.items()
    for sharing in (["row", "batch"] if sampler.can_share else ["row"])
]


@pytest.fixture
def other_way(monkeypatch):
    """Call it to have all that follows computed as on a GPU, with the CPU's draws."""

    def take():
        draw, pools = NegativePool.draw, {}

        # the draws of both ways follow one law, but not one sequence
        def drawn(pool, user, num):
            other = pools.setdefault(id(pool), NegativePool.of(pool._dataset))
            with monkeypatch.context() as context:
                context.setattr(devices, "on_cpu", lambda tensor: tensor.is_cpu)
                return draw(other.with_distribution(pool.distribution, pool.alpha), user, num)

        monkeypatch.setattr(NegativePool, "draw", drawn)
        monkeypatch.setattr(devices, "on_cpu", lambda tensor: False)

    return take


@pytest.mark.parametrize(("sampler", "sharing"), SHARINGS)
@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_a_step_is_the_same(model, sampler, sharing, toy, other_way):
    keys = {"candidate_sharing": sharing, **KEYS.get(sampler, {}), **toy}
    results = []
    for on_cpu in (True, False):
        if not on_cpu:
            other_way()
        _, train, _, trainer = prepared(model=model, sampler=sampler, **keys)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.copy_(
                    torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
                )
        batch = first_batch(trainer, train, 50)
        torch.manual_seed(4)
        trainer._start_epoch(0)
        losses, sums = step(trainer, batch)
        losses.sum().backward()
        gradients = [parameter.grad.clone() for parameter in trainer.model.parameters()]
        results.append((losses.detach(), sums, *gradients))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sampler", "sharing"), SHARINGS)
@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_an_epoch_has_the_same_losses(model, sampler, sharing, toy, other_way):
    # far enough from the start that losses tell steps apart
    keys = {"train_batch_size": 32, "learning_rate": 0.05, **KEYS.get(sampler, {}), **toy}
    keys["candidate_sharing"] = sharing
    results = []
    for on_cpu in (True, False):
        if not on_cpu:
            other_way()
        losses = []
        _, train, _, trainer = prepared(model=model, sampler=sampler, **keys)
        backward = torch.Tensor.backward

        def recorded(loss, *args, losses=losses, backward=backward, **kwargs):
            losses.append(loss.item())
            return backward(loss, *args, **kwargs)

        trainer.pool = trainer._pool_of(train)
        torch.manual_seed(4)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "backward", recorded)
            total = trainer._train_epoch(train, 0)
        trainer.tensorboard.close()
        assert len(losses) >= len(train) > 3
        results.append([total, *losses])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4)
