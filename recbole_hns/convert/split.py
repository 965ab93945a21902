"""Splitting interactions into parts, user by user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recbole_hns.convert import PARTS
from recbole_hns.convert.interactions import Interactions, some_users_each

#: Fraction of a user's interactions that is the test part where a source has none.
TEST_SHARE = 0.2


def split(interactions: Interactions, validation: float, seed: int) -> NDArray[np.int8]:
    """Give every interaction a part.

    Args:
        interactions: whose parts are kept; a test part is drawn if they have none.
        validation: fraction of each user's training part that becomes the validation part; 0 if
            they have one.
        seed: of the draws.

    Returns:
        ``[n]``, int8: its part's index in :data:`PARTS`.
    """
    random = np.random.default_rng(seed)
    user = interactions.user
    part = np.zeros(len(user), dtype=np.int8)
    if interactions.part is None:
        part[held_out(user, TEST_SHARE, random)] = PARTS.index("test")
    else:
        part[:] = interactions.part
    if validation:
        train = np.flatnonzero(part == PARTS.index("train"))
        chosen = held_out(user[train], validation, random)
        part[train[chosen]] = PARTS.index("valid")
    return part


def held_out(
    user: NDArray[np.int32], share: float, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw a fraction of each user's interactions, rounded (a half upwards), but never all of them.

    Args:
        user: ``[n]``, codes.
        share: in [0, 1).
        random: what the draws come from.

    Returns:
        ``[n]``: whether the interaction was drawn.
    """
    count = np.bincount(user)
    wanted = np.minimum(np.floor(share * count + 0.5).astype(np.int64), np.maximum(count - 1, 0))
    drawn = np.zeros(len(user), dtype=np.bool_)
    for rows in some_users_each(user):
        # by user, and at random within one
        order = rows[np.lexsort((random.random(len(rows)), user[rows]))]
        owner = user[order]
        rank = np.arange(len(order)) - np.searchsorted(owner, owner)
        drawn[order[rank < wanted[owner]]] = True
    return drawn
