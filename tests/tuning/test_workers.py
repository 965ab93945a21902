"""What a worker makes of a run's arguments."""

import sys
from types import SimpleNamespace

import pytest

from recbole_hns import quick_start
from recbole_hns.tuning import workers
from recbole_hns.tuning.cluster import Resources


@pytest.mark.parametrize(("gpus", "keys"), [(0, (False, "")), (1, (True, "3"))])
def test_a_worker_has_the_gpus_that_ray_gives_it(gpus, keys, monkeypatch, tmp_path):
    runs = []
    mailbox = SimpleNamespace(ended=SimpleNamespace(remote=lambda: (None, None)))
    mailbox.end = SimpleNamespace(remote=lambda result, text: None)
    monkeypatch.setattr(workers, "ray", SimpleNamespace(get=lambda value: value))
    monkeypatch.setattr(workers.train, "get_checkpoint", lambda: None)
    monkeypatch.setattr(workers.torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(
        quick_start, "_run", lambda **given: (runs.append(given), given["report"]("table"))
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    arguments = {
        "config_dict": {"epochs": 2, "gpu_id": "0"},
        "command_line": {"gpu_id": "0,1", "use_gpu": "True", "seed": "1"},
        "callbacks": [],
    }
    workers.train_worker(
        {
            "arguments": arguments,
            "mailbox": mailbox,
            "folder": str(tmp_path),
            "resources": Resources(1, gpus),
        }
    )
    (given,) = runs
    assert given["config_dict"] == {"epochs": 2, "use_gpu": keys[0], "gpu_id": keys[1]}
    assert given["command_line"] == {"seed": "1"}
