"""The experiment with the memory of sequences: its data, and a row of each program."""

import sys

import numpy as np
import pytest
import sequences
import torch


def test_users_have_five_interactions_or_more():
    table = sequences.interactions(5000)
    assert len(table) == 5000
    assert table["user_id:token"].value_counts().min() >= 5
    assert table["user_id:token"].nunique() == 100
    assert table["item_id:token"].max() < 50
    assert not table.index.is_monotonic_increasing
    again = sequences.interactions(5000)
    assert all(np.array_equal(table[column], again[column]) for column in table)


@pytest.mark.parametrize("program", ["ours", "recbole"])
def test_a_row_of_each_program(program, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sequences.py", "--seed=5"])
    monkeypatch.setattr(sequences, "BATCHES", 1)
    folder = sequences.Path("dataset/sequences-200000")
    folder.mkdir(parents=True)
    sequences.write(folder / "sequences-200000.inter", 6000)
    threads = torch.get_num_threads()
    assert sequences.main([f"--program={program}", "--interactions=200000"]) == 0
    assert torch.get_num_threads() == threads
    header, _, row = capsys.readouterr().out.splitlines()
    found = dict(zip(header.split("|"), row.split("|"), strict=True))
    found = {key.strip(): value.strip() for key, value in found.items()}
    assert found["program"] == program
    # two of each of 120 users are left out, and the first is no target
    assert found["training rows"] == f"{6000 - 3 * 120:,}"
    assert 0 <= float(found["peak of reading, MiB"]) <= float(found["peak, MiB"])


def test_a_mistake_is_told_in_a_line(capsys):
    assert sequences.main(["--interactions=10"]) == 2
    assert "interactions=10: must be" in capsys.readouterr().err
