"""The base class of samplers: declared keys, sharing, proposals, and what is refused."""

import pytest
import torch
from fakes import set_up, toy_pool
from pydantic import Field

from recbole_hns.batch import Batch
from recbole_hns.errors import UserError
from recbole_hns.sampler import SAMPLERS, HardNegativeSampler
from recbole_hns.sampler.dns import DNS


class Declaring(HardNegativeSampler):
    """With keys of its own."""

    some_num: int = Field(3, gt=0, description="a number")
    plain: float = 0.5


def propose(sampler, batch):
    """The pool, and what is proposed for a batch."""
    pool = set_up(sampler, toy_pool())
    batch = batch._replace(shared=sampler.shared_items(batch, pool))
    return pool, sampler.propose(batch, None, pool)


def batch(num=5):
    return Batch.of(torch.arange(1, num + 1), torch.arange(11, 11 + num))


def test_keys_are_collected_with_those_inherited():
    assert Declaring.name == "Declaring"
    assert list(Declaring.hyperparameters)[-2:] == ["some_num", "plain"]
    assert {"candidate_num", "candidate_sharing"} < set(Declaring.hyperparameters)
    assert Declaring.hyperparameters["some_num"].description == "a number"
    assert "some_num" not in HardNegativeSampler.hyperparameters
    assert (Declaring.some_num, Declaring().plain, Declaring(plain=1).plain) == (3, 0.5, 1.0)


def test_a_key_without_a_default_is_the_authors_mistake():
    with pytest.raises(TypeError, match=r"Broken\.some: a hyperparameter needs a default"):
        type("Broken", (HardNegativeSampler,), {"__annotations__": {"some": int}})


def test_a_row_draws_for_itself():
    pool, candidates = propose(DNS(candidate_num=7), batch())
    assert candidates.items.shape == (5, 7)
    assert candidates.excluded is None
    assert not pool.is_used(batch().user.unsqueeze(1), candidates.items).any()


def test_all_items_but_a_users_own():
    pool, (items, (row, item), *_) = propose(DNS(candidate_num="all"), batch())
    assert items is None
    for index, user in enumerate(batch().user.tolist()):
        assert set(item[row == index].tolist()) == pool.used[user] | {0}


@pytest.mark.parametrize("distribution", ["uniform", "popularity", "in_batch"])
def test_a_batch_shares(distribution):
    sampler = DNS(candidate_sharing="batch", candidate_distribution=distribution)
    pool, (items, (row, column), *_) = propose(sampler, batch(9))
    assert items.shape == ((1, 9) if distribution == "in_batch" else (1, 32))
    if distribution == "in_batch":
        assert items[0].tolist() == batch(9).pos_item.tolist()
    for index, user in enumerate(batch(9).user.tolist()):
        own = [n for n, j in enumerate(items[0].tolist()) if j in pool.used[user]]
        assert sorted(column[row == index].tolist()) == own


def test_in_batch_implies_sharing():
    _, candidates = propose(DNS(candidate_distribution="in_batch"), batch())
    assert candidates.items.shape == (1, 5)


def test_scored_num():
    assert DNS(candidate_num=7).scored_num(1000, 64) == 7
    assert DNS(candidate_num="all").scored_num(1000, 64) == 1000
    assert DNS(candidate_num=7, candidate_distribution="in_batch").scored_num(1000, 64) == 64


def test_hooks_have_defaults():
    sampler = HardNegativeSampler()
    sampler.setup(None, 1)
    sampler.start_epoch(0, None, None)
    assert sampler.epoch_warning() is None
    assert sampler.loss_parameters() == {}
    with pytest.raises(NotImplementedError):
        sampler.select(None, None, None)


CANNOT_SHARE = [name for name, cls in SAMPLERS.items() if not cls.can_share]


@pytest.mark.parametrize("name", CANNOT_SHARE)
@pytest.mark.parametrize(
    "keys", [{"candidate_sharing": "batch"}, {"candidate_distribution": "in_batch"}]
)
def test_sharing_is_refused_where_it_has_no_meaning(name, keys):
    ((key, value),) = keys.items()
    with pytest.raises(UserError, match=f"^{key}={value}: ") as error:
        SAMPLERS[name](**keys)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"dns_m": 6}, "dns_m=6: sampler dns has only candidate_num, candidate_distribution"),
        ({"candidate_num": True}, "candidate_num=True"),
        ({"candidate_num": 10**6 + 1}, "candidate_num=1000001"),
        ({"candidate_sharing": "all"}, "candidate_sharing=all: must be row or batch"),
        (
            {"candidate_num": "all", "candidate_sharing": "batch"},
            "candidate_sharing=batch: must be row with candidate_num=all",
        ),
    ],
)
def test_what_every_sampler_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        DNS(**keys)
