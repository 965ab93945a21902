"""The experiment with several workers: what it trains, and the rows of its tables."""

import numpy as np
import pytest
import torch
import workers

#: As the command has them.
VALUES = {"dataset": "ml-100k", "data_path": None, "epochs": 2, "seed": 3, "samplers": "rns"}


@pytest.fixture(params=["samplers", "metrics", "speed"])
def table(request):
    return request.param


def test_tables_of_what_is_trained(table, toy):
    values = {**VALUES, **toy, "table": table}
    made = workers.cases(values)
    name, case = next(iter(made.items()))
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    figures = workers.trained(case, ".")
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, default)
    assert figures.losses.shape == (2, 2)
    other = figures._replace(
        losses=figures.losses * [[1, 1], [1 + 1e-6, 1]],
        metrics={each: 2 * value for each, value in figures.metrics.items()},
    )
    found = {1: {name: figures}, 2: {name: figures}, 3: {name: other}}
    if table == "samplers":
        (row,) = workers.samplers_rows(found)
        assert row == {
            "sampler": "`rns`",
            "model": "BPR",
            "losses, 2 workers": "0",
            "losses, 3 workers": "1e-06",
            "metrics, 2 workers": "0",
            "metrics, 3 workers": "1e+00",
        }
    elif table == "metrics":
        rows = workers.metrics_rows(found)
        assert [row["metric"] for row in rows] == list(figures.metrics)
        assert {row["full, 2 workers"] for row in rows} == {"0"}
        assert {row["full, 3 workers"] for row in rows} <= {"0", "1e+00"}
    else:
        rows = workers.speed_rows(found)
        assert [row["workers"] for row in rows] == ["1", "2", "3"]
        assert all(float(row["an epoch, s"]) >= 0 for row in rows)


def test_difference():
    assert workers.difference([2.0, 0.0], [2.0, 0.0]) == 0
    assert workers.difference([2.0, 0.0], [2.5, 0.1]) == 0.25
    assert workers.difference(0.0, 0.5) == 0.5
    assert np.isnan(workers.difference(np.nan, 1.0))
