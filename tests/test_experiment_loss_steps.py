"""The experiment with the steps of a large catalogue: its data, and a row of each program."""

import loss_steps
import pytest
import torch


def test_each_item_comes_and_users_have_ten(tmp_path):
    loss_steps.write(tmp_path, 1234)
    lines = (tmp_path / "steps" / "steps.inter").read_text().splitlines()[1:]
    users, items, times = zip(*(line.split("\t") for line in lines), strict=True)
    assert set(items) == {str(item) for item in range(1234)}
    assert len(users) == 1240
    assert all(users.count(user) == 10 for user in set(users))
    assert times[:11] == (*"0123456789", "0")


@pytest.mark.parametrize("name", loss_steps.PROGRAMS)
def test_a_row_of_each_program(name, tmp_path):
    loss_steps.write(tmp_path, 1000)
    threads = torch.get_num_threads()
    row = loss_steps.measured(str(tmp_path), name, 16)
    torch.set_num_threads(threads)
    assert row["loss"] == name
    assert float(row["a step, s"]) > float(row["its optimiser, s"]) >= 0
