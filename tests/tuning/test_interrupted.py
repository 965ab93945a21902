"""Sweeps and comparisons that are interrupted, or whose processes die."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import SHORT, arguments, environment, trials

from recbole_hns import run, tune
from recbole_hns.cli import main
from recbole_hns.errors import JobError, UserError
from recbole_hns.tuning import cluster
from recbole_hns.tuning.comparison import compare

pytestmark = pytest.mark.usefixtures("ray_session")


def test_a_process_that_dies_in_its_first_epoch_ends_its_trial_only(toy, capsys):
    keys = {**SHORT, **toy, "epochs": 1}
    results = tune(sampler="theirs:Fatal", params={"rank": [2, 1]}, config_dict=keys)
    table = trials()
    assert list(table["status"]) == ["failed", "finished"]
    assert "died" in table["error"][0]
    assert table["test_ndcg@10"].notna().tolist() == [False, True]
    assert results.num_errors == 1
    out = capsys.readouterr().out
    assert "2 trials, 1 failed, 1 finished" in out
    assert "the best again: " in out
    again = (
        "to try again what failed: recbole-hns tune --output=tune --sampler=theirs:Fatal --resume"
    )
    assert out.endswith(f"{again}\n")

    results = compare("rns theirs:Fatal", seeds=1, command_line={**keys, "seed": 7})
    assert results.num_errors == 1
    out, err = capsys.readouterr()
    assert "[2/2] sampler=theirs:Fatal, seed=7: failed" in err
    assert "theirs:Fatal, seed 7: " in out
    assert "1 of 2 runs have not finished." in Path("comparison/table.md").read_text()
    assert list(pd.read_csv("comparison/runs.csv")["status"]) == ["finished", "failed"]


def test_ray_failing_as_a_whole_leaves_what_is_finished(toy, capsys, monkeypatch):
    """The node's process dies after the first run."""

    def check(self):
        if "finished" in Path("comparison/runs.csv").read_text():
            raise JobError("Ray's node process, raylet, has died")

    keys = arguments({**SHORT, **toy, "epochs": 1, "seed": 7})
    command = ["compare", "--samplers=rns dns", "--seeds=2", *keys, "--max_concurrent=1"]
    with monkeypatch.context() as patch:
        patch.setattr(cluster.NodeWatch, "check", check)
        assert main(command) == 1
    out, err = capsys.readouterr()
    assert "3 of 4 runs have not finished." in out
    assert "[1/4] sampler=rns, seed=7: finished" in err
    assert "Traceback" not in err
    assert "raylet, has died; 4 trials, 1 finished, 3 waiting, in " in err
    resume = "recbole-hns compare --output=comparison --max_concurrent=1 --resume"
    assert err.endswith(f"; to go on: {resume}\n")
    page = Path("comparison/table.md").read_text()
    assert page in out

    first = Path("comparison/runs/rns-7.json").stat().st_mtime_ns
    assert main(resume.split()[1:]) == 0
    assert Path("comparison/runs/rns-7.json").stat().st_mtime_ns == first
    runs = pd.read_csv("comparison/runs.csv")
    assert set(runs["status"]) == {"finished"}
    assert "have not finished" not in Path("comparison/table.md").read_text()
    for row in runs.to_dict("records"):
        alone = run(
            sampler=row["sampler"], config_dict={**SHORT, **toy, "epochs": 1, "seed": row["seed"]}
        )
        assert row["test_ndcg@10"] == alone["test_result"]["ndcg@10"]


def test_sigkill_and_resume(toy):
    """The driver killed as hard as can be: what is finished stays, and is not trained again."""
    keys = {**SHORT, **toy, "epochs": 100, "stopping_step": 1000}
    Path("space.yaml").write_text("candidate_num: [2, 3, 4, 5]\n")
    command = ["tune", "--sampler=dns", "--params=space.yaml", *arguments(keys)]
    process = subprocess.Popen(
        [sys.executable, "-m", "recbole_hns", *command, "--max_concurrent=1"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if Path("tune/trials.csv").exists() and "finished" in Path("tune/trials.csv").read_text():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = {path: path.stat().st_mtime_ns for path in Path("tune/trials").glob("*.json")}
    finished = [path for path in written if "test_result" in json.loads(path.read_text())]
    assert 1 <= len(finished) < 4
    assert main([*command, "--resume"]) == 0
    table = trials()
    assert list(table["candidate_num"]) == [2, 3, 4, 5]
    assert set(table["status"]) == {"finished"}
    assert (table["epochs"] == 100).all()
    for path in finished:
        assert path.stat().st_mtime_ns == written[path]


def test_sigkill_of_a_search_and_resume(toy):
    """It goes on with what it knew: nothing that has ended is trained again."""
    keys = {**SHORT, **toy, "epochs": 60, "eval_step": 6, "stopping_step": 1000}
    command = ["tune", "--trials=5", "--max_concurrent=1", *arguments(keys)]
    process = subprocess.Popen(
        [sys.executable, "-m", "recbole_hns", *command],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # on a busy machine there is a line of what is waited for before
    told = iter(process.stderr.readline, "")
    assert any(line.startswith("[2] trial=1") for line in told)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = yaml.safe_load(Path("tune/search.yaml").read_text())["suggested"]
    ended = [number for number, each in enumerate(before) if each["status"] != "waiting"]
    assert 2 <= len(ended) < 5
    files = [Path(f"tune/trials/{number:03}.json") for number in ended]
    written = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}

    assert main(["tune", "--resume", "--max_concurrent=1"]) == 0
    after = yaml.safe_load(Path("tune/search.yaml").read_text())["suggested"]
    assert len(after) == 5
    assert [each["params"] for each in after[: len(before)]] == [each["params"] for each in before]
    assert [after[number] for number in ended] == [before[number] for number in ended]
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files} == written
    table = trials()
    assert list(table["trial"]) == list(range(5))
    assert set(table["status"]) <= {"finished", "stopped"}
    assert table["score"].notna().all()
    seconds = [after[number]["seconds"] for number in range(5)]
    assert max(before[number]["seconds"] for number in ended) < seconds[-1]


def test_sigterm_and_resume(toy):
    """One line, the tables of what is finished, and the rest as if nothing had happened."""
    keys = {**SHORT, **toy, "epochs": 60, "stopping_step": 1000}
    command = ["compare", "--samplers=rns dns", "--seeds=2", "--seed=7", *arguments(keys)]
    with subprocess.Popen(
        [sys.executable, "-m", "recbole_hns", *command, "--max_concurrent=1"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # on a busy machine there is a line of what is waited for before
        told = iter(process.stderr.readline, "")
        assert any("[1/4] sampler=rns, seed=7: finished" in line for line in told)
        with pytest.raises(UserError, match="holds a comparison already"):
            compare("rns")
        with pytest.raises(UserError, match="another process is at work there"):
            compare(resume=True)
        process.terminate()
        err = process.stderr.read()
    assert process.returncode == 143
    # what ended meanwhile is told before
    *_, err = err.splitlines(keepends=True)
    assert err.startswith("recbole-hns: terminated; 4 trials, ")
    assert err.endswith(
        "; to go on: recbole-hns compare --output=comparison --max_concurrent=1 --resume\n"
    )
    assert "runs have not finished" in Path("comparison/table.md").read_text()
    first = Path("comparison/runs/rns-7.json").stat().st_mtime_ns
    assert main([*command, "--resume"]) == 0
    assert Path("comparison/runs/rns-7.json").stat().st_mtime_ns == first
    interrupted = pd.read_csv("comparison/table.csv")
    assert main([*command, "--output=whole"]) == 0
    pd.testing.assert_frame_equal(interrupted, pd.read_csv("whole/table.csv"), check_exact=True)
