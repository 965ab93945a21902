"""One training on several workers: the same figures as one process has."""

import logging
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from recbole.utils import init_seed

import recbole_hns.quick_start
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.errors import UserError
from recbole_hns.loss import LOSSES
from recbole_hns.ops import workers
from recbole_hns.sampler import SAMPLERS

# the last of the batches has one row, which leaves none to most workers
BASE = {
    "epochs": 2,
    "eval_step": 2,
    "train_batch_size": 609,
    "learning_rate": 0.05,
    "embedding_size": 8,
    "metric_decimal_place": 15,
    "valid_metric": "NDCG@10",
    "show_progress": False,
    "state": "ERROR",
    "use_gpu": False,
}
#: Resumed by others than began it; the sampler has a state. Adam's is refused where the default is
#: double precision.
STATEFUL = {"sampler": "srns", "learner": "sgd"}
RANKING = ["Recall", "MRR", "NDCG", "Hit", "MAP", "Precision", "GAUC", "ItemCoverage"]
RANKING += ["AveragePopularity", "GiniIndex", "ShannonEntropy", "TailPercentage", "OPAUC", "LLPAUC"]
OURS = [name for name, cls in SAMPLERS.items() if cls.__module__.startswith("recbole_hns.")]
# those of layers, and of each kind of the others one; a graph has nothing to do with the rest
WITH_A_GRAPH = ["mixgcf", "dens", "ans", "all", "dns", "softmax_v", "srns"]


def cases():
    """Configs by name."""
    found = {f"BPR {name}": {"sampler": name} for name in OURS}
    for name in WITH_A_GRAPH:
        found[f"LightGCN {name}"] = {"sampler": name, "model": "LightGCN", "reg_weight": 0.01}
    for name, cls in LOSSES.items():
        if cls.__module__.startswith("recbole_hns."):
            found[f"loss {name}"] = {"sampler": "all", "loss": name}
    soft = {"sampler": "all", "loss": "softmax", "model": "LightGCN", "reg_weight": 0.01}
    parts = {"model": "LightGCN", "candidate_num": "all", "step_memory": 1, "reg_weight": 0.01}
    found |= {
        "shared": {**soft, "candidate_sharing": "batch"},
        "in a batch": {**soft, "candidate_distribution": "in_batch"},
        "sums of the catalogue": {**soft, "model": "BPR", "candidate_num": "all"},
        "whole users": {**soft, "loss": "bsl", "bsl_pooled": True},
        "one drawn": {"sampler": "dns_mn", "dns_mode": "draw"},
        "pools": {"sampler": "kernel", "kernel_refresh": "epoch"},
        "cosine": {"sampler": "dns", "similarity": "cosine", "model": "LightGCN"},
        "rows of Adam": {"sampler": "rns", "learner": "sparse_adam", "train_batch_size": 24},
        "rows of Adagrad": {"sampler": "rns", "learner": "rowwise_adagrad", "train_batch_size": 24},
        "clipped": {"sampler": "rns", "clip_grad_norm": {"max_norm": 1e-3}},
        "full": {"sampler": "rns", "metrics": RANKING},
        "uniform": {"sampler": "rns", "metrics": RANKING, "eval_args": {"mode": "uni20"}},
        "popular": {"sampler": "rns", "metrics": RANKING, "eval_args": {"mode": "pop20"}},
        "small batches": {"sampler": "rns", "metrics": RANKING, "eval_batch_size": 120},
        "parts": {**parts, "sampler": "dns"},
        "whole users in parts": {**parts, "sampler": "all", "loss": "bsl", "bsl_pooled": True},
        "unbroken": STATEFUL,
        "NGCF": {"sampler": "dns", "model": "NGCF", "node_dropout": 0.1, "message_dropout": 0.1},
    }
    return found


def results(folder, num=1):
    """The figures of each case that ``num`` workers are tried with."""
    logging.disable(logging.WARNING)
    found = {}
    build = recbole_hns.quick_start.build_model
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)

    def in_double(*arguments):
        model = build(*arguments)
        for name in ("norm_adj_matrix", "eye_matrix"):
            if hasattr(model, name):
                setattr(model, name, getattr(model, name).double())
        return model

    recbole_hns.quick_start.build_model = in_double
    try:
        for name, case in cases().items():
            if num > 2 and name.startswith(("BPR ", "LightGCN ", "loss ")):
                continue  # what is summed is the same sum
            found[name] = figures(folder, case)
        # what three have begun others end
        if num == 3:
            figures(folder / "begun", {**STATEFUL, "epochs": 1}, saved=True)
        else:
            (begun,) = (folder / "begun").glob("*.pth")
            here = folder / f"begun {num}.pth"
            if workers.first():
                shutil.copy(begun, here)
            workers.of_first(None)
            found["resumed"] = figures(folder, STATEFUL, saved=True, resume=here)
    finally:
        torch.set_default_dtype(default)
        recbole_hns.quick_start.build_model = build
        logging.disable(logging.NOTSET)
    return found


def figures(folder, case, **how):
    """Losses, hardness and test metrics of a case."""
    keys = {**BASE, "data_path": ".", "checkpoint_dir": str(folder), **case}
    model, sampler = keys.pop("model", "BPR"), keys.pop("sampler")
    config = Config(model, "small", sampler, None, keys, loss=keys.pop("loss", None))
    init_seed(config["seed"], True)
    loaders = data_preparation(config, create_dataset(config))
    result = recbole_hns.quick_start.train_and_test(config, loaders, **{"saved": False, **how})
    of_epochs = [(each["train_loss"], each["hardness"] or 0.0) for each in result.epochs]
    return np.array([*sum(of_epochs, ()), *result["test_result"].values()])


def work(rank, ports, folder):
    """What each of three processes does: with the others, then with one other or alone."""
    torch.set_num_threads(1)
    os.chdir(folder)
    for num, port in ports.items():
        if rank < num:
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            dist.init_process_group("gloo", rank=rank, world_size=num)
            found = results(Path(folder), num)
            for other in workers.of_all(found):
                assert all(
                    np.array_equal(found[name], other[name], equal_nan=True) for name in found
                )
            one_line()
            dist.destroy_process_group()
        else:
            num, found = 1, results(Path(folder))
        torch.save(found, Path(folder) / f"{num} {rank}.pt")


def one_line():
    """An error of one is raised by all, and told by one."""
    last = workers.rank() == workers.number() - 1
    for only_first, fails in ((False, last), (True, last), (True, workers.first())):
        with pytest.raises(UserError, match="cannot be read") as caught:
            fail_together(only_first, fails)
        assert caught.value.told == (not workers.first())


def fail_together(only_first, fails):
    with workers.together(only_first):
        if fails:
            raise UserError("cannot be read")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with a data set of 61 users, which no number of workers here divides."""
    folder = tmp_path_factory.mktemp("parallel")
    (folder / "small").mkdir()
    generator, lines = np.random.default_rng(0), ["user_id:token\titem_id:token"]
    chance = (1 + np.arange(50)) ** -0.5
    for user in range(61):
        items = generator.choice(50, 12, replace=False, p=chance / chance.sum())
        lines += [f"u{user}\ti{item}" for item in items]
    (folder / "small" / "small.inter").write_text("\n".join(lines) + "\n")
    return folder


def test_workers_have_the_figures_of_one_process(folder, monkeypatch, pytestconfig):
    # where the processes find this module
    monkeypatch.syspath_prepend(pytestconfig.rootpath)
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = {3: one.getsockname()[1], 2: other.getsockname()[1]}
    # processes take longer to start than to train
    mp.spawn(work, (ports, str(folder)), nprocs=3)
    alone, two, three = (
        torch.load(folder / f"{which}.pt", weights_only=False) for which in ("1 2", "2 0", "3 0")
    )
    assert list(two) == list(alone) == [*cases(), "resumed"]
    assert three.keys() <= alone.keys()
    assert "one drawn" in three
    for found in (two, three):
        for name, figures in found.items():
            np.testing.assert_allclose(figures, alone[name], rtol=1e-9, atol=1e-9, err_msg=name)
    for found in (alone, two):
        np.testing.assert_allclose(found["resumed"], alone["unbroken"], rtol=1e-9)
