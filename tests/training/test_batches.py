"""The order of an epoch's batches."""

import torch
from conftest import prepared


def test_batches_are_recboles(toy):
    """Same seed, same interactions in the same order as RecBole's loader, epoch after epoch."""
    _, ours, _, trainer = prepared(**toy, sampler="rns", train_batch_size=50)
    _, theirs, _, _ = prepared(**toy, sampler="rns", train_batch_size=50)
    for _ in range(3):
        found = [torch.stack(batch[:2]) for batch in trainer._batches(ours)]
        expected = [torch.stack([b["user_id"], b["item_id"]]) for b in theirs]
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
