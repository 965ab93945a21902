"""RecBole's sampler over a pool: used items and popularity by phase, and RecBole's layout."""

import numpy as np
import pytest
import torch
from fake_dataset import dataset

from recbole_hns.data.eval_sampler import EvalSampler


def test_it_stands_where_recbole_uses_its_own():
    train, valid = dataset([(1, 2), (1, 3), (2, 5)], 3, 8), dataset([(1, 4), (2, 2)], 3, 8)
    sampler = EvalSampler(["train", "valid"], [train, valid])
    assert sampler.set_phase("train").used_ids[1] == {2, 3}
    assert sampler.set_phase("valid").used_ids[1] == {2, 3, 4}
    assert [set(), {2, 3, 4}, {2, 5}] == list(sampler.set_phase("valid").used_ids)
    drawn = sampler.set_phase("valid").sample_by_user_ids(np.array([1, 2]), [4, 2], 500)
    assert drawn.shape == (1000,)
    assert set(drawn[0::2].tolist()) == {1, 5, 6, 7}
    assert set(drawn[1::2].tolist()) == {1, 3, 4, 6, 7}
    with pytest.raises(ValueError, match=r"user_id \[9\] not exist"):
        sampler.set_phase("train").sample_by_user_ids([9], [1], 1)
    with pytest.raises(ValueError, match="Phase"):
        sampler.set_phase("test")


def test_popularity_counts_no_later_phase():
    train, valid = dataset([(1, 2), (2, 3)], 3, 6), dataset([(1, 4), (2, 4)], 3, 6)
    sampler = EvalSampler(["train", "valid"], [train, valid], "popularity")
    pool = sampler.set_phase("train").pool
    assert set(pool.draw(torch.ones(50, dtype=int), 20).ravel().tolist()) == {3}
    assert set(sampler.set_phase("valid").sampling(500)) == {2, 3, 4}


def test_draws_are_the_pools():
    data = dataset([(1, 2), (1, 3), (2, 5)], 3, 8)
    sampler = EvalSampler(["train"], [data], "popularity", 0.5).set_phase("train")
    assert (sampler.pool.distribution, sampler.pool.alpha) == ("popularity", 0.5)
    user = torch.tensor([1, 2, 1])
    torch.manual_seed(1)
    expected = sampler.pool.draw(user, 4)
    torch.manual_seed(1)
    assert sampler.sample_by_key_ids(user.numpy(), 4).view(4, 3).t().equal(expected)


def test_another_distribution_is_one_of_all_phases():
    train, valid = dataset([(1, 2), (2, 3)], 3, 6), dataset([(1, 4), (2, 4)], 3, 6)
    sampler = EvalSampler(["train", "valid"], [train, valid])
    popular = sampler.with_distribution("popularity", 1.0)
    for phase, drawn in (("train", {2, 3}), ("valid", {2, 3, 4})):
        pools = [each.set_phase(phase).pool for each in (sampler, popular)]
        assert [pool.distribution for pool in pools] == ["uniform", "popularity"]
        assert set(pools[1].draw_shared(200, torch.device("cpu")).tolist()) == drawn


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_a_user_with_all_items_is_an_error(distribution):
    data = dataset([(1, 1), (1, 2), (2, 1)], 3, 3)
    sampler = EvalSampler(["train"], [data], distribution).set_phase("train")
    with pytest.raises(ValueError, match="every item"):
        sampler.sample_by_user_ids([1], [1], 1)
