"""A data set that comes in parts: its interactions, and those of a loader to compare with."""

PARTS = {
    "train": [(u, i % 20) for u in range(9) for i in range(u, u + 5)],
    "valid": [(u, (u + 5) % 20) for u in range(9)],
    "test": [(u, (u + 7) % 20) for u in range(9)] + [(u, (u + 9) % 20) for u in range(5)],
}


def pairs(loader):
    """The interactions of a loader's data set, by their tokens."""
    dataset = loader._dataset
    feat = dataset.inter_feat
    user = dataset.id2token("user_id", feat["user_id"].numpy())
    item = dataset.id2token("item_id", feat["item_id"].numpy())
    return sorted(zip(user.tolist(), item.tolist()))


def named(*parts):
    """The interactions of some of the parts, likewise."""
    return sorted((f"u{u}", f"i{i}") for part in parts for u, i in PARTS[part])
