"""A stand-in for RecBole's data set, with as much of it as a pool and a sampler look at."""

from types import SimpleNamespace

import numpy as np
import torch


def dataset(pairs, user_num, item_num):
    """The data set of some pairs of a user's and an item's id."""
    user, item = np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T
    return SimpleNamespace(
        uid_field="user",
        iid_field="item",
        user_num=user_num,
        item_num=item_num,
        inter_feat={"user": torch.from_numpy(user.copy()), "item": torch.from_numpy(item.copy())},
        id2token=lambda field, id_: f"token{id_}",
    )
