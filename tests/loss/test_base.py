"""The base class of losses, and losses by name."""

import math
from pathlib import Path

import pytest
import torch
from literal_loss import value

from recbole_hns.batch import Batch
from recbole_hns.errors import UserError
from recbole_hns.loss import LOSSES, Loss, loss_class, register_loss
from recbole_hns.loss.bpr import BPR


class Infinite(Loss):
    """An infinite loss of each row."""

    def row_losses(self, scores, negatives, part):
        return scores.pos.squeeze(1) / 0 + 0 * scores.neg.sum()


def test_a_scale_of_0_leaves_an_infinite_loss_out_and_nan_is_seen():
    assert value(Infinite(), [[1.0], [1.0]], [[0.0]] * 2, scale=[0.0, 0.0])[0] == 0
    assert value(Infinite(), [[1.0], [1.0]], [[0.0]] * 2, scale=[0.0, 0.5])[0] == math.inf
    assert math.isnan(value(Infinite(), [[1.0], [1.0]], [[0.0]] * 2, scale=[0.0, math.nan])[0])


def test_a_part_is_averaged_by_the_rows_of_the_batch():
    found = value(BPR(), [[0.0], [0.0]], [[0.0], [0.0]], size=8)[0]
    assert found == pytest.approx(2 / 8 * math.log(2))


def test_hooks_have_defaults():
    loss = Loss()
    loss.setup(None, 1)
    loss.start_epoch(0, None, None)
    assert not loss.pools_users
    with pytest.raises(NotImplementedError):
        loss.row_losses(None, None, None)


def test_parts_with_whole_users():
    user, item = torch.tensor([3, 1, 3, 2, 1, 3, 9]), torch.arange(7)
    found = list(Batch.of(user, item).split(2, whole_users=True))
    assert sorted(i for part in found for i in part.pos_item.tolist()) == list(range(7))
    assert sum(len(part.user.unique()) for part in found) == 4
    assert all(part.size == 7 for part in found)
    assert [len(part.user) for part in found] == [2, 1, 3, 1]


def test_every_loss_is_registered_under_its_file_name_and_has_a_test():
    ours = {n: cls for n, cls in LOSSES.items() if cls.__module__.startswith("recbole_hns.")}
    assert list(ours) == [cls.__module__.rpartition(".")[2] for cls in ours.values()]
    for name, cls in ours.items():
        assert name == cls.name
        assert (Path(__file__).parent / f"test_{name}.py").exists()


def test_a_name_or_a_class_or_a_module_is_found(monkeypatch):
    assert loss_class("bpr") is loss_class(BPR) is BPR
    assert loss_class("recbole_hns.loss.bpr:BPR") is BPR
    monkeypatch.setattr("recbole_hns.loss.registry.LOSSES", dict(LOSSES))
    mine = register_loss("mine")(type("Mine", (Loss,), {}))
    assert loss_class("mine") is mine


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sofmax", r"loss=sofmax: must be one of .*softmax.* \(did you mean softmax\?"),
        ("math:sqrt", "loss=math:sqrt: must be a subclass of Loss"),
        ("nowhere:Loss", "loss=nowhere:Loss: cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_refused(name, text):
    with pytest.raises(UserError, match=text):
        loss_class(name)


def test_a_loss_without_keys_says_so():
    with pytest.raises(UserError, match=r"loss_tau=1.0: loss bpr has no keys"):
        BPR(loss_tau=1.0)
