"""The benchmark: what it compares, that training is undisturbed, its files and its data."""

import copy
import json
import os
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole.data
import torch
from conftest import QUIET
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.dataloader import TrainDataLoader
from recbole.sampler import Sampler
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_hns.benchmark import startup
from recbole_hns.benchmark.entries import entries, parse_specs
from recbole_hns.benchmark.memory import PeakMemory
from recbole_hns.benchmark.report import timing_table
from recbole_hns.benchmark.synthetic import Sizes, synthetic_pairs, write_synthetic
from recbole_hns.benchmark.timing import STAGES, Timing, stage_seconds
from recbole_hns.benchmark.training import Training
from recbole_hns.benchmark.until import Target, train_until
from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.data.eval_sampler import EvalSampler
from recbole_hns.errors import UserError
from recbole_hns.quick_start import build_model
from recbole_hns.training.trainer import HardNegativeTrainer

TINY = "--synthetic=20,30,200"


def benchmark(*arguments):
    return main(["benchmark", "--embedding_size=8", "--train_batch_size=64", *arguments])


def table(path):
    return pd.read_csv(path, index_col="entry")


# --- what is compared -------------------------------------------------------------------------


def test_specs():
    text = "rns, dns_mn:dns_m=5,candidate_num=200 mine:Own:rank=3 a:k=[5, 2],x=all ahns"
    assert parse_specs("samplers", text) == [
        ("rns", {}),
        ("dns_mn", {"dns_m": 5, "candidate_num": 200}),
        ("mine:Own", {"rank": 3}),
        ("a", {"k": [5, 2], "x": "all"}),
        ("ahns", {}),
    ]


def test_entries_and_their_keys(toy):
    values = {**toy, "candidate_num": 16, "dns_m": 3}
    samplers = "rns dns dns_mn:dns_m=5,candidate_num=20 softmax:candidate_num=all"
    found = entries(values, samplers, "uniform,dynamic")
    assert [entry.label for entry in found] == [
        "RecBole uniform",
        "RecBole dynamic (N=16)",
        "RecBole dynamic (N=20)",
        "rns",
        "dns (N=16)",
        "dns_mn (N=20, dns_m=5)",
        "softmax (N=all)",
    ]
    assert [entry.candidate_num for entry in found] == [None, 16, 20, None, 16, 20, "all"]
    assert found[5].config.sampler.dns_m == 5
    args = found[2].config["train_neg_sample_args"]
    assert (args["distribution"], args["dynamic"], args["candidate_num"]) == ("uniform", True, 20)
    assert not found[0].config["train_neg_sample_args"]["dynamic"]
    only = entries(values, "rns", "dynamic:candidate_num=7")
    assert [entry.label for entry in only] == ["RecBole dynamic (N=7)", "rns"]
    assert [entry.label for entry in entries(values, "dns", "")] == ["dns (N=16)"]


@pytest.mark.parametrize("recbole_entry", [False, True])
def test_training_is_that_of_the_usual_way(toy, recbole_entry):
    """Epoch by epoch under the clock: the losses of ``fit``, and RecBole's own classes."""
    values = {**QUIET, **toy, "train_batch_size": 64, "epochs": 3, "eval_step": 0}
    found = entries(values, "dns:candidate_num=4", "dynamic:candidate_num=4")
    entry = found[0] if recbole_entry else found[1]
    config = entry.config
    dataset = create_dataset(config)
    training = Training(entry, dataset)
    losses = []
    for epoch in range(3):
        training.train_epoch()
        losses.append(training.trainer.train_loss_dict[epoch])
    training.close()
    assert len(training.train_seconds) == 3
    assert training.eval_seconds == []

    init_seed(config["seed"], True)
    prepare = recbole.data.data_preparation if recbole_entry else data_preparation
    train_data, valid_data, _ = prepare(config, create_dataset(config))
    init_seed(config["seed"], True)
    model = build_model(config, train_data._dataset)
    trainer = (Trainer if recbole_entry else HardNegativeTrainer)(config, model)
    trainer.fit(train_data, valid_data, saved=False)
    assert losses == list(trainer.train_loss_dict.values())
    if recbole_entry:
        assert type(training.trainer) is Trainer
        assert type(training.train_data) is TrainDataLoader
        assert type(training.train_data._sampler) is Sampler
    else:
        assert type(training.trainer) is HardNegativeTrainer
        assert type(training.train_data._sampler) is EvalSampler


def test_entries_share_the_split(toy):
    found = entries({**QUIET, **toy}, "dns:candidate_num=4", "uniform")
    dataset = create_dataset(found[0].config)
    before = copy.copy(dataset.inter_feat)
    users = []
    for entry in found:
        training = Training(entry, dataset)
        training.close()
        users.append(training.train_data._dataset.inter_feat["user_id"])
    assert torch.equal(*users)
    pd.testing.assert_frame_equal(before, dataset.inter_feat)


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_timing_the_stages_changes_no_result(toy, model):
    values = {**QUIET, **toy, "model": model, "train_batch_size": 64}
    (entry,) = entries(values, "softmax_v:candidate_num=5", "")
    dataset = create_dataset(entry.config)
    tables = []
    for watched in (False, True):
        training = Training(entry, dataset)
        sampler = training.trainer.sampler
        methods = set(vars(sampler))
        training.train_epoch()
        stages = stage_seconds(training) if watched else training.train_epoch()
        training.close()
        assert set(vars(sampler)) == methods
        tables.append(training.trainer.model.user_embedding.weight)
    assert torch.equal(*tables)
    assert list(stages) == list(STAGES)
    assert all(seconds > 0 for seconds in stages.values())
    assert sum(stages.values()) == pytest.approx(training.train_seconds[-1])


# --- memory ------------------------------------------------------------------------------------


def test_peak_memory_is_the_increase_at_its_highest():
    before, threads = np.ones(2**22), threading.active_count()
    with PeakMemory(torch.device("cpu")) as memory:
        gone = np.ones(2**24)
        time.sleep(0.2)  # for the watcher to have its turn on a busy machine
        del gone
    assert 0.9 * 2**27 < memory.increase < 2**27 + before.nbytes
    assert threading.active_count() <= threads


# --- the command -------------------------------------------------------------------------------


def test_seconds_per_epoch(capsys):
    here, threads = Path.cwd(), torch.get_num_threads()
    samplers = "--samplers=rns,dns:candidate_num=4,dns_mn:candidate_num=6,dns_m=2"
    assert benchmark(TINY, samplers, "--rounds=2", "--threads=1", "--output=out/here") == 0
    assert (Path.cwd(), torch.get_num_threads()) == (here, threads)
    assert os.listdir() == ["out"]
    names = ["benchmark.csv", "benchmark.md", "benchmark.pdf", "benchmark.png"]
    assert sorted(os.listdir("out/here")) == names
    assert Path("out/here/benchmark.png").read_bytes().startswith(b"\x89PNG")

    found = table("out/here/benchmark.csv")
    ours = ["rns", "dns (N=4)", "dns_mn (N=6, dns_m=2)"]
    theirs = ["RecBole uniform", "RecBole dynamic (N=4)", "RecBole dynamic (N=6)"]
    assert list(found.index) == theirs + ours
    assert (found["fastest"] <= found["seconds"]).all()
    assert (found["seconds"] <= found["slowest"]).all()
    assert (found["rounds"] == 2).all()
    seconds = found["seconds"]
    np.testing.assert_allclose(found["to_uniform"], seconds / seconds["RecBole uniform"])
    for entry, base in ((ours[1], theirs[1]), (ours[2], theirs[2])):
        assert found.loc[entry, "to_dynamic"] == pytest.approx(seconds[entry] / seconds[base])
    assert np.isnan(found.loc["rns", "to_dynamic"])
    assert found.loc[ours, list(STAGES)].notna().all(axis=None)
    assert found.loc[theirs, list(STAGES)].isna().all(axis=None)
    facts = {"users": 20, "items": 30, "train_interactions": 160, "threads": 1, "device": "cpu"}
    facts.update(model="BPR", embedding_size=8, train_batch_size=64)
    for key, value in facts.items():
        assert (found[key] == value).all()
    assert {"torch", "recbole", "recbole-hns", "peak_memory_mib"} <= set(found.columns)

    printed = capsys.readouterr().out
    page = Path("out/here/benchmark.md").read_text()
    assert page in printed
    for text in (*theirs, *ours, "160", "loss and backward", "per cent", version("torch")):
        assert text in page


def test_table_of_timings(toy):
    found = entries(toy, "rns,dns", "uniform")
    timings = [Timing(entry, seconds) for entry, seconds in zip(found, ([4, 1, 3], [2], [9, 6]))]
    rows = timing_table(timings)
    assert rows["seconds"].tolist() == [3, 2, 7.5]
    assert rows["to_uniform"].tolist() == [1, 2 / 3, 2.5]
    assert rows["to_dynamic"].isna().all()


def test_until(capsys):
    assert benchmark(TINY, "--until=NDCG@3:0", "--eval_step=2", "--samplers=rns") == 0
    assert os.listdir() == ["benchmark"]
    names = ["until.csv", "until.md", "until.pdf", "until.png", "until_curves.csv"]
    assert sorted(os.listdir("benchmark")) == names
    found = table("benchmark/until.csv")
    assert list(found.index) == ["RecBole uniform", "rns"]
    assert found["reached"].all()
    assert (found["epochs"] == 2).all()
    points = pd.read_csv("benchmark/until_curves.csv")
    assert points["epoch"].tolist() == [2, 2]
    assert points["train_seconds"].tolist() == found["train_seconds"].tolist()
    assert "Training until NDCG@3 is 0" in capsys.readouterr().out


def until(toy, text, max_seconds=1e-9, **keys):
    target = Target.parse(text)
    found = entries({**QUIET, **toy, **keys, **target.config_keys()}, "dns:candidate_num=4", "")
    (curve,) = train_until(found, create_dataset(found[0].config), target, max_seconds)
    return curve


def test_until_gives_up(toy):
    curve = until(toy, "NDCG@5:2")
    assert not curve.reached
    assert curve.epochs == [1]
    assert len(curve.values) == len(curve.train_seconds) == 1


def test_until_stops_at_the_first_evaluation_that_reached_the_value(toy, monkeypatch):
    values = iter([0.1, 0.3, 0.2, 0.5, 0.9])

    def evaluate(self, valid_data, show_progress=False):
        value = next(values)
        return value, {"recall@10": value}

    monkeypatch.setattr(HardNegativeTrainer, "_valid_epoch", evaluate)
    keys = {"epochs": 2, "stopping_step": 0, "eval_step": 3}
    curve = until(toy, "Recall@10:0.5", 600.0, **keys)
    assert curve.reached
    assert curve.values == [0.1, 0.3, 0.2, 0.5]
    assert curve.epochs == [3, 6, 9, 12]
    assert (np.diff(curve.train_seconds) > 0).all()


@pytest.mark.parametrize(("value", "reached"), [(2, True), (-1, False)])
def test_until_a_metric_is_low_enough(toy, value, reached):
    (entry,) = entries({**QUIET, **toy}, "dns:candidate_num=4", "")
    entry.config["valid_metric_bigger"] = False
    dataset = create_dataset(entry.config)
    (curve,) = train_until([entry], dataset, Target("Recall@10", value), 1e-9)
    assert curve.reached == reached


def test_startup():
    arguments = ["--samplers=dns_mn:opauc_beta=0.5", "--recbole=dynamic:candidate_num=8"]
    assert benchmark(TINY, "--startup=true", "--rounds=1", "--candidate_num=8", *arguments) == 0
    assert sorted(os.listdir("benchmark")) == ["startup.csv", "startup.md"]
    found = table("benchmark/startup.csv")
    assert list(found.index) == ["RecBole dynamic (N=8)", "dns_mn (N=8, opauc_beta=0.5)"]
    assert found["to_dynamic"].notna().all()


def test_a_start_that_fails_is_told(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "STOP_AT_FIRST_STEP", "raise SystemExit('no luck')\n")
    with pytest.raises(RuntimeError, match="rns did not get to its first step:\nno luck"):
        startup.time_starts(entries(toy, "rns", ""), json.loads(json.dumps(toy)), 1, tmp_path)


def test_paths_are_those_of_where_the_command_runs(toy):
    Path("keys.yaml").write_text("load_col: {inter: [user_id, item_id]}\ncandidate_num: 4\n")
    arguments = ["--dataset=toy", "--config_files=keys.yaml", "--samplers=dns", "--recbole=uniform"]
    assert benchmark(*arguments, "--data_path=dataset", "--rounds=1") == 0
    assert (table("benchmark/benchmark.csv")["users"] == 30).all()


def test_keys_without_effect_are_told(toy, capsys):
    arguments = ["--samplers=rns", "--recbole=", "--rounds=1", "--dns_m=3"]
    assert benchmark(TINY, *arguments) == 0
    assert "dns_m has no effect with sampler=rns" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--synthetic=10,20"], "synthetic=[10, 20]: must be a list"),
        (["--synthetic=10,20,19"], "synthetic=10,20,19: interactions must be >= 20, one for each"),
        (["--synthetic=10,20,101"], "and <= 100, half of all pairs"),
        (["--synthetic=10,20,50", "--dataset=ml-100k"], "dataset=ml-100k: cannot go with"),
        ([TINY, "--samplers=dsn"], "sampler=dsn: must be one of"),
        ([TINY, "--samplers=, "], "samplers=, : must name at least one"),
        ([TINY, "--samplers=candidate_num=3"], "candidate_num=3 must be NAME:KEY=VALUE"),
        ([TINY, "--samplers=dns:dns_m=3"], "dns_m=3: sampler dns has only candidate_num"),
        ([TINY, "--samplers=dns:candidate_num=0"], "candidate_num=0: must be an integer > 0"),
        ([TINY, "--samplers=dns dns"], "dns (N=32) is there twice"),
        ([TINY, "--learner=sparse_adam"], "learner=sparse_adam: RecBole's own training cannot"),
        ([TINY, "--samplers=dns_mn:dns_m=9,candidate_num=8"], "dns_m=9: must be <="),
        ([TINY, "--recbole=static"], "recbole=static: must be one of uniform, dynamic"),
        ([TINY, "--recbole=uniform:candidate_num=3"], "candidate_num=3: RecBole's uniform has no"),
        ([TINY, "--recbole=dynamic:candidate_num=all"], "candidate_num=all: RecBole's dynamic"),
        ([TINY, "--rounds=0"], "rounds=0: must be an integer > 0"),
        ([TINY, "--round=3"], "round=3: no such option; did you mean --rounds?"),
        ([TINY, "--sampler=dns"], "sampler=dns: no such option; did you mean --samplers?"),
        ([TINY, "--threads=0"], "threads=0: must be an integer > 0"),
        ([TINY, "--until=NDCG@20"], "until=NDCG@20: must be METRIC:VALUE"),
        ([TINY, "--until=NDCG@x:0.1"], "until=NDCG@x:0.1: must be METRIC:VALUE"),
        ([TINY, "--until=NDCG@5:nan"], "until=NDCG@5:nan: must be METRIC:VALUE"),
        ([TINY, "--until=NDGC@5:0.1"], "RecBole has no metric NDGC"),
        ([TINY, "--until=NDCG@5:0.1", "--startup=true"], "startup=True: cannot go with --until"),
        ([TINY, "--max_seconds=0"], "max_seconds=0: must be a number > 0"),
        ([TINY, "--ahns_bta=1"], "ahns_bta=1: no such key; did you mean ahns_beta?"),
        ([TINY, "--train_neg_sample_args={}"], "train_neg_sample_args={}: the sampler draws"),
        ([TINY, "--model=Pop"], "model=Pop:"),
        (["--dataset=none-such"], "dataset=none-such:"),
    ],
)
def test_mistakes_are_told_in_a_line(capsys, arguments, message):
    here = Path.cwd()
    assert benchmark(*arguments) == 2
    assert Path.cwd() == here
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert message in lines[0]


def test_help_lists_the_options(capsys):
    assert main(["benchmark", "--help"]) == 0
    printed = capsys.readouterr().out
    names = "samplers recbole synthetic rounds until max_seconds startup threads output"
    for option in names.split():
        assert f"--{option}" in printed


# --- synthetic data ----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(users=st.integers(1, 30), items=st.integers(1, 30), data=st.data())
def test_synthetic_pairs(users, items, data):
    fewest, most = max(users, items), users * items // 2
    if fewest > most:
        with pytest.raises(UserError, match="interactions must be"):
            Sizes(users, items, fewest)
        return
    interactions = data.draw(st.integers(fewest, most))
    user, item, is_test = synthetic_pairs(Sizes(users, items, interactions), seed=1)
    pairs = set(zip(user.tolist(), item.tolist()))
    assert len(user) == len(pairs) == interactions
    train_user, train_item = user[~is_test], item[~is_test]
    assert set(train_user.tolist()) == set(range(users))
    assert set(train_item.tolist()) == set(range(items))
    assert np.bincount(user).max() < items
    assert is_test.sum() == min(round(0.2 * interactions), interactions - fewest)


def test_synthetic_popularity_falls_as_a_power():
    user, item, is_test = synthetic_pairs(Sizes(2000, 3000, 60_000), seed=5)
    for ids, exponent in ((user, 0.6), (item, 0.9)):
        number = np.sort(np.bincount(ids))[::-1]
        # from rank 10 to rank 300, where neither distinctness nor the first pairs matter much
        slope = np.log(number[280:320].mean() / number[8:12].mean()) / np.log(300 / 10)
        assert slope == pytest.approx(-exponent, abs=0.15)
    assert is_test.mean() == pytest.approx(0.2)


def test_synthetic_data_as_recbole_reads_it(tmp_path):
    sizes, files = Sizes(25, 12, 140), []
    for run, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(run)
        folder.mkdir()
        keys = write_synthetic(sizes, seed, folder)
        files.append([path.read_bytes() for path in sorted(folder.rglob("*.inter"))])
    assert files[0] == files[1] != files[2]
    config = Config(config_dict={**QUIET, **keys})
    train, valid, test = data_preparation(config, create_dataset(config))
    assert (train._dataset.user_num, train._dataset.item_num) == (26, 13)
    assert len(train._dataset) == 112
    assert len(valid._dataset) == len(test._dataset) == 28
