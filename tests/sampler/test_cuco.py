"""CuCo: the schedule of its number of candidates, and the highest-scored of them."""

import math

import pytest
import torch
from fakes import assert_draws_what_is_left, bpr, recorded, set_up, toy_pool
from scored import assert_learns

from recbole_hns.batch import Batch
from recbole_hns.errors import UserError
from recbole_hns.sampler.cuco import CuCo
from recbole_hns.sampler.dns import DNS


@pytest.mark.parametrize("epoch", [0, 1, 3])
@pytest.mark.parametrize("sharing", ["row", "batch"])
def test_loss_and_gradient(epoch, sharing):
    def literal(pool, u, items, pos, neg):
        assert len(items) == max(1, math.floor((1 - epoch / 4) * 9))
        inside = [r for r, j in zip(neg, items, strict=True) if j not in pool.used[u]]
        return bpr(pos, max(inside, key=lambda r: r.item())) if inside else 0 * pos

    sampler = CuCo(candidate_num=9, cuco_epochs=4, candidate_sharing=sharing)
    assert_learns(sampler, literal, epoch)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 32), (1, 31), (50, 16), (75, 8), (93, 2), (94, 1), (99, 1), (500, 1)],
)
def test_schedule_of_the_specification(epoch, expected):
    sampler = CuCo()
    sampler.epoch = epoch
    assert sampler.num_drawn == expected
    assert sampler.scored_num(1000, 64) == expected


def test_schedule_is_that_of_whole_numbers():
    for num in (4, 7, 8, 16, 32, 64, 99):
        for total in (3, 10, 100):
            down = CuCo(candidate_num=num, cuco_epochs=total)
            up = CuCo(candidate_num=num, cuco_epochs=total, cuco_direction="easy_to_hard")
            for epoch in range(total + 3):
                down.epoch = epoch
                up.epoch = epoch
                assert down.num_drawn == max(1, num * max(total - epoch, 0) // total)
                assert up.num_drawn == max(1, num * min(epoch + 1, total) // total)


def test_power():
    sampler = CuCo(candidate_num=64, cuco_epochs=4, cuco_power=2.0)
    found = []
    for epoch in range(5):
        sampler.epoch = epoch
        found.append(sampler.num_drawn)
    assert found == [64, 36, 16, 4, 1]


def test_draws_as_many_as_the_schedule_says():
    """DNS at first and RNS at the end: select() is that of DNS."""
    sampler = CuCo(candidate_num=8, cuco_epochs=10)
    pool = set_up(sampler, toy_pool())
    drawn = recorded(pool, "draw")
    user = torch.full((3,), 7)
    for epoch in (0, 9):
        sampler.epoch = epoch
        sampler.propose(Batch.of(user, user), None, pool)
    assert [items.shape for items in drawn] == [(3, 8), (3, 1)]
    assert CuCo.select is DNS.select


def test_one_negative_left():
    assert_draws_what_is_left(CuCo())


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"cuco_epochs": 0}, "cuco_epochs=0: must be an integer > 0"),
        ({"cuco_direction": "up"}, "cuco_direction=up: must be hard_to_easy or easy_to_hard"),
        ({"cuco_power": 0}, "cuco_power=0: must be a number > 0"),
        ({"candidate_num": "all"}, "candidate_num=all: must be an integer > 0"),
        ({"candidate_distribution": "in_batch"}, "=in_batch: must be uniform or popularity"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        CuCo(**keys)
