"""The learning rate over the epochs."""

import pytest
from conftest import QUIET

from recbole_hns import run


def learning_rates(keys):
    """The learning rate of every epoch, as the optimiser has it."""
    found = []
    run(
        config_dict=keys,
        callbacks=[lambda end: found.append(end.trainer.optimizer.param_groups[0]["lr"])],
    )
    return found


def test_the_learning_rate_decays_in_steps(toy):
    keys = {**QUIET, **toy, "epochs": 5, "learning_rate": 0.01}
    found = learning_rates({**keys, "lr_decay": 0.5, "lr_decay_step": 2})
    assert found == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])


def test_the_learning_rate_stays_unless_told_otherwise(toy):
    assert set(learning_rates({**QUIET, **toy, "epochs": 6})) == {0.001}
