"""The items that each user has interacted with, and rows of them."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hns.data.interactions import UsedItems, rows, stable_order


@given(st.data())
def test_rows_are_those_of_the_users_one_after_the_other(data):
    user_num, item_num = data.draw(st.integers(1, 8)), data.draw(st.integers(2, 12))
    pair = st.tuples(st.integers(0, user_num - 1), st.integers(1, item_num - 1))
    pairs = data.draw(st.lists(pair))  # some are repeated
    user, item = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    used = UsedItems(user, item, user_num, item_num)
    own = [{i for u, i in pairs if u == user} for user in range(user_num)]
    assert list(used) == own
    assert len(used) == user_num
    assert list(zip(used.user.tolist(), used.item.tolist())) == sorted(set(pairs))

    offset, users = used.by_item
    by_item = np.split(users, offset[1:-1])
    assert by_item[0].tolist() == list(range(user_num))
    for number in range(1, item_num):
        assert by_item[number].tolist() == [u for u in range(user_num) if number in own[u]]

    wanted = data.draw(st.lists(st.integers(0, user_num - 1)))
    found = rows(
        torch.from_numpy(used.offset),
        torch.from_numpy(used.item),
        torch.tensor(wanted, dtype=torch.int64),
    )
    expected = [(row, item) for row, u in enumerate(wanted) for item in sorted(own[u])]
    assert list(zip(*(part.tolist() for part in found))) == expected


NUMBERS = {
    "few": st.integers(-3, 3),
    "whole": st.integers(-(2**70), 2**70).map(float),
    "numbers": st.floats(),
    "times": st.integers(1_600_000_000, 1_600_000_009).map(float),
    "ids": st.integers(-(2**63), 2**63 - 1),
}


@given(st.data())
def test_an_order_is_that_of_a_stable_sort(data):
    kind = data.draw(st.sampled_from(list(NUMBERS)))
    numbers = data.draw(st.lists(NUMBERS[kind], max_size=40))
    values = np.array(numbers, dtype=np.int64 if kind in ("few", "ids") else np.float64)
    if data.draw(st.booleans()):
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    found = stable_order(values)
    assert found.dtype == np.int64
    assert found.tolist() == np.argsort(values, kind="stable").tolist()
