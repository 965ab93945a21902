"""Splitting interactions into parts: by draws, by time, or by each user's order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recbole_hns.convert import PARTS, How
from recbole_hns.convert.interactions import Interactions, some_users_each

#: Fraction of a user's interactions, or of all, that is the test part where a source has none.
TEST_SHARE = 0.2


def split(
    interactions: Interactions,
    validation: float,
    seed: int,
    at_least_one: bool = False,
    how: How = "random",
) -> NDArray[np.int8]:
    """Give every interaction a part.

    Args:
        interactions: whose parts are kept; a test part is made if they have none. In the order of
            time, but for ``random``.
        validation: fraction of each user's training part, of ``temporal`` of all of it, that
            becomes the validation part; 0 if they have one. With ``leave-last`` it is one
            interaction, unless this is 0.
        seed: of the draws.
        at_least_one: how a user's number of validation interactions is rounded, as in
            :func:`held_out`.
        how: ``random`` draws of each user's interactions; ``temporal`` parts by one time for all
            users; ``leave-last`` leaves out the last of each user's.

    Returns:
        ``[n]``, int8: its part's index in :data:`PARTS`.
    """
    if how == "temporal":
        return _temporal(interactions.fields["timestamp"], validation)
    if how == "leave-last":
        return _leave_last(interactions.user, validation > 0)
    random = np.random.default_rng(seed)
    user = interactions.user
    part = np.zeros(len(user), dtype=np.int8)
    if interactions.part is None:
        part[held_out(user, TEST_SHARE, random)] = PARTS.index("test")
    else:
        part[:] = interactions.part
    if validation:
        train = np.flatnonzero(part == PARTS.index("train"))
        chosen = held_out(user[train], validation, random, at_least_one)
        part[train[chosen]] = PARTS.index("valid")
    return part


def held_out(
    user: NDArray[np.int32], share: float, random: np.random.Generator, at_least_one: bool = False
) -> NDArray[np.bool_]:
    """Draw a fraction of each user's interactions, rounded (a half upwards), but never all of them.

    Args:
        user: ``[n]``, codes.
        share: in [0, 1).
        random: what the draws come from.
        at_least_one: round down instead, but to no less than one, as IR-Benchmark's program does.

    Returns:
        ``[n]``: whether the interaction was drawn.
    """
    count = np.bincount(user)
    wanted = np.floor(share * count + (0 if at_least_one else 0.5)).astype(np.int64)
    if at_least_one:
        wanted = np.maximum(wanted, 1)
    wanted = np.minimum(wanted, np.maximum(count - 1, 0))
    drawn = np.zeros(len(user), dtype=np.bool_)
    for rows in some_users_each(user):
        # by user, and at random within one
        order = rows[np.lexsort((random.random(len(rows)), user[rows]))]
        owner = user[order]
        rank = np.arange(len(order)) - np.searchsorted(owner, owner)
        drawn[order[rank < wanted[owner]]] = True
    return drawn


def _temporal(time: NDArray[np.float64], validation: float) -> NDArray[np.int8]:
    """Parts of which each is later than the one before, for times in ascending order, ``[n]``.

    Interactions of the same time are in the same part, the later one, so that nothing is trained
    with that is not known before what is tested.
    """
    part = np.zeros(len(time), dtype=np.int8)
    end = len(time)
    for name, share in (("test", TEST_SHARE), ("valid", validation)):
        wanted = int(np.floor(share * end + 0.5))
        if wanted:
            start = int(np.searchsorted(time, time[end - wanted]))
            part[start:end] = PARTS.index(name)
            end = start
    return part


def _leave_last(user: NDArray[np.int32], validation: bool) -> NDArray[np.int8]:
    """The last interaction of each user is the test part, the one before the validation part.

    The first of a user is always in the training part; of two, the last is the test part. As
    RecBole's leave-one-out.

    Args:
        user: ``[n]``, codes, in the order of time.
        validation: whether there is a validation part.
    """
    order = np.argsort(user, kind="stable")
    owner = user[order]
    first = np.searchsorted(owner, owner)
    place = np.arange(len(order)) - first
    # 0 for the last one
    left = np.searchsorted(owner, owner, side="right") - 1 - np.arange(len(order))
    part = np.zeros(len(user), dtype=np.int8)
    part[order[(left == 0) & (place > 0)]] = PARTS.index("test")
    if validation:
        part[order[(left == 1) & (place > 0)]] = PARTS.index("valid")
    return part
