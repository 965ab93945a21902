"""Sweeps on Ray, in one session that all tests here share."""

import itertools
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import SHORT, arguments, environment, trials
from matplotlib import image

from recbole_hns import run, tune
from recbole_hns.cli import main
from recbole_hns.errors import UserError
from recbole_hns.figures import hardness_curves, hardness_map
from recbole_hns.results import SECONDS, read_run
from recbole_hns.tuning import cluster
from recbole_hns.tuning.ray_names import ray

pytestmark = pytest.mark.usefixtures("ray_session")

PARAMETERS = ["dns_m", "candidate_num"]


def test_a_sweep(toy, capsys):
    space = {
        "dns_m": [1, 4, 9],
        "candidate_num": [5, 20],
    }
    Path("space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    keys = {**SHORT, **toy}
    assert main(["tune", "--sampler=dns_mn", "--params=space.yaml", *arguments(keys)]) == 0
    out = capsys.readouterr().out
    table = trials()
    points = [(1, 5), (1, 20), (4, 5), (4, 20), (9, 20)]
    assert list(table[PARAMETERS].itertuples(index=False, name=None)) == points
    assert set(table["status"]) == {"finished"}
    assert (table["epochs"] == 3).all()
    assert (table[list(SECONDS)] > 0).all(axis=None)

    best = table.loc[table["valid_ndcg@10"].idxmax()]
    config = yaml.safe_load(Path("tune/best.yaml").read_text())
    assert {key: config[key] for key in PARAMETERS} == best[PARAMETERS].to_dict()
    assert (config["model"], config["dataset"], config["sampler"]) == ("BPR", "toy", "dns_mn")
    assert f"recbole-hns run --config_files={Path('tune/best.yaml').absolute()}" in out
    assert "5 trials, 5 finished" in out
    # the best again, as a run of its own: the same split, training and figures
    again = run(config_file_list=["tune/best.yaml"])
    for phase in ("valid", "test"):
        result = again["best_valid_result" if phase == "valid" else "test_result"]
        assert {key: best[f"{phase}_{key}"] for key in result} == dict(result)

    for index, row in table.iterrows():
        result = read_run(Path("tune") / row["result_file"])
        assert result.config["dns_m"] == row["dns_m"]
        assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3]
        assert row["best_epoch"] == result.best_epoch
        assert row["trial"] == index
    assert not list(Path("tune").rglob("*.pth"))
    for name in (*PARAMETERS, "dns_m-candidate_num"):
        assert image.imread(f"tune/{name}.png").std() > 0
        assert Path(f"tune/{name}.pdf").stat().st_size
    # nothing of the user's session has changed
    assert ray.is_initialized()

    with pytest.raises(UserError, match="output=tune: holds a sweep already; --resume"):
        tune(sampler="dns_mn", params=space, config_dict=keys)


def test_the_result_grid_and_a_sampler_of_the_user(toy):
    results = tune(
        "LightGCN",
        sampler="theirs:Ranked",
        params={"rank": {"randint": [1, 9]}, "reg_weight": {"loguniform": [1e-5, 1e-2]}},
        num_samples=2,
        max_concurrent=1,
        config_dict={**SHORT, **toy, "epochs": 2},
        output="ranked",
    )
    table = trials("ranked")
    assert len(results) == len(table) == 2
    assert results.num_errors == 0
    for result in results:
        row = table[np.isclose(table["reg_weight"], result.config["reg_weight"])].iloc[0]
        assert result.metrics["valid_ndcg@10"] == row["valid_ndcg@10"] == result.metrics["score"]
    assert results.get_best_result().metrics["score"] == table["score"].max()
    again = run(config_file_list=["ranked/best.yaml"])
    best = table.loc[table["score"].idxmax()]
    assert again["test_result"]["ndcg@10"] == best["test_ndcg@10"]


def test_a_losss_own_parameters_are_searched_by_default(toy):
    keys = {**SHORT, **toy, "epochs": 1, "loss": "softmax", "softmax_positive": True}
    assert main(["tune", "--sampler=rns", *arguments(keys)]) == 0
    table = trials()
    assert list(table["loss_tau"]) == [0.05, 0.1, 0.2, 0.5, 1.0]
    assert set(table["status"]) == {"finished"}
    best = yaml.safe_load(Path("tune/best.yaml").read_text())
    assert (best["loss"], best["softmax_positive"]) == ("softmax", True)
    assert best["loss_tau"] == table["loss_tau"][table["score"].idxmax()]


def test_losses_are_searched_as_samplers_settings_are(toy):
    keys = {**SHORT, **toy, "epochs": 1}
    space = {"loss": ["bpr", "theirs:Steep"], "similarity": ["inner", "cosine"]}
    results = tune(sampler="dns", params=space, config_dict=keys, output="losses")
    assert results.num_errors == 0
    table = trials("losses")
    assert list(zip(table["loss"], table["similarity"])) == list(
        itertools.product(space["loss"], space["similarity"])
    )
    for _, row in table.iterrows():
        again = run(sampler="dns", config_dict={**keys, **row[list(space)].to_dict()})
        assert again["test_result"]["ndcg@10"] == row["test_ndcg@10"]


def test_a_failed_trial_says_why_and_ends_nothing(toy, capsys):
    params = {"learning_rate": [0.01, 1e38]}
    results = tune(sampler="rns", params=params, config_dict={**SHORT, **toy})
    finished, failed = trials().to_dict("records")
    assert failed["status"] == "failed"
    assert "Training loss is" in failed["error"]
    assert np.isnan(failed["score"])
    assert finished["status"] == "finished"
    assert finished["test_ndcg@10"] > 0
    assert results.num_errors == 1
    assert yaml.safe_load(Path("tune/best.yaml").read_text())["learning_rate"] == 0.01
    assert "Training loss is" in capsys.readouterr().err

    # resumed, it is tried again, and the other is not
    before = Path("tune/trials/000.json").stat().st_mtime_ns
    assert main(["tune", "--resume"]) == 0
    assert Path("tune/trials/000.json").stat().st_mtime_ns == before
    assert list(trials()["status"]) == ["finished", "failed"]
    assert trials()["score"][0] == finished["score"]


def test_no_trial_finished(toy, capsys):
    keys = {**SHORT, **toy, "learning_rate": 1e38}
    assert main(["tune", "--sampler=dns", "--params=space.yaml", *arguments(keys)]) == 2
    Path("space.yaml").write_text("candidate_num: [4]\n")
    assert main(["tune", "--sampler=dns", "--params=space.yaml", *arguments(keys)]) == 1
    assert "1 trials, 1 failed" in capsys.readouterr().out
    assert not Path("tune/best.yaml").exists()


def test_a_scheduler_ends_hopeless_trials(write_dataset):
    """With one trial at a time, the later ones are measured by the first, which is the best."""
    rng = np.random.default_rng(1)
    # two kinds of users, each with items of their own
    halves = [(u, 20 * (u % 2) + i) for u in range(30) for i in rng.choice(20, 9, replace=False)]
    data = write_dataset(halves)
    tune(
        sampler="rns",
        params={"learning_rate": [0.05, 1e-6, 2e-6, 3e-6, 4e-6, 5e-6]},
        scheduler="asha",
        max_concurrent=1,
        config_dict={**SHORT, **data, "epochs": 20},
    )
    table = trials()
    assert table["status"][0] == "finished"
    stopped = table[table["status"] == "stopped"]
    assert len(stopped) >= 3
    assert (stopped["epochs"] < 20).all()
    assert stopped["test_ndcg@10"].isna().all()


def test_resume_goes_on_with_the_same_sweep_only(toy):
    with pytest.raises(UserError, match="holds no sweep that could be resumed"):
        tune(resume=True)
    keys = {**SHORT, **toy, "epochs": 1}
    tune(sampler="dns", params={"candidate_num": [2]}, config_dict=keys)
    with pytest.raises(UserError, match="epochs=5: the sweep was started with 1"):
        tune(config_dict={**keys, "epochs": 5}, resume=True)
    with pytest.raises(UserError, match="sampler=rns: the sweep was started with dns"):
        tune(sampler="rns", resume=True)
    with pytest.raises(UserError, match="started with another search space"):
        tune(params={"candidate_num": [3]}, resume=True)
    # one of the former version
    path = Path("tune/sweep.yaml")
    record = yaml.safe_load(path.read_text())
    record["space"]["constraints"] = ["candidate_num < 3"]
    path.write_text(yaml.safe_dump(record))
    with pytest.raises(UserError, match=r"constraints=.*: leave it out"):
        tune(resume=True)


MISTAKES = {
    "unknown key": ("tune --sampler=dns --params=unknown.yaml", ["dns_m=[1]: no parameter"]),
    "empty list": ("tune --sampler=dns --params=empty.yaml", ["candidate_num=[]: must list"]),
    "impossible": ("tune --sampler=dns_mn --params=none.yaml", ["no possible point", "dns_m=300"]),
    "no address": ("tune --sampler=dns --address=127.0.0.1:1", ["address=127.0.0.1:1: cannot be"]),
    "odd address": ("tune --sampler=dns --address=here", ["address=here: must be HOST:PORT"]),
    "metric": ("tune --sampler=dns --valid_metric=NDCG@7", ["valid_metric=NDCG@7: its K must"]),
    "metric 2": ("tune --sampler=dns --valid_metric=MAP@10", ["valid_metric=MAP@10: its metric"]),
    "no validation": ("tune --sampler=dns --eval_step=0", ["eval_step=0: must be > 0"]),
    "protocol": ("tune --sampler=dns --protocol=paper", ["protocol=paper: must be valid"]),
    "threads": ("tune --sampler=dns --cpus_per_trial=3", ["cpus_per_trial=3: must be <= 1"]),
    "gpus": ("tune --sampler=dns --gpus_per_trial=9", ["gpus_per_trial=9.0: must be <= "]),
    "no space": ("tune --sampler=rns", ["sampler=rns: comes with no search space"]),
    "misspelt": ("tune --sampler=dns --schedular=asha", ["did you mean --scheduler?"]),
    "scheduler": ("tune --sampler=dns --scheduler=pbt", ["scheduler=pbt: must be asha or median"]),
    "resume": ("tune --resume", ["holds no sweep that could be resumed"]),
    "dataset": ("tune --sampler=dns --dataset=nosuch", ["dataset=nosuch"]),
    "sampler": ("compare --samplers=rns,nope", ["sampler=nope: must be one of"]),
    "twice": ("compare --samplers=rns,rns", ["samplers=rns,rns: rns is there twice"]),
    "twice with other words": (
        "compare --samplers=dns:candidate_num=9,dns --candidate_num=9",
        ["dns is there twice, with the same settings"],
    ),
    "resume a comparison": ("compare --resume", ["holds no comparison that could be resumed"]),
    "extreme space": ("tune --sampler=dns --params=wide.yaml", ["learning_rate={'uniform': [-1"]),
    "extreme space 2": ("tune --sampler=dns --params=large.yaml", ["candidate_num={'randint': [1"]),
    "large space": (
        "tune --sampler=dns --params=drawn.yaml --num_samples=1000000000",
        ["search space has 1000000000 points; must be <= 100000"],
    ),
    "none": ("compare --samplers=,", ["samplers=,: must name at least one sampler"]),
    "other's key": ("compare --samplers=rns,dns:dns_m=3", ["dns_m=3: no key of sampler dns"]),
    "other loss's key": (
        "compare --samplers=rns,dns:loss_tau=3",
        ["loss_tau=3: no key of sampler dns, loss bpr"],
    ),
    "another loss's key": (
        "compare --samplers=dns:loss=softmax,psl_surrogate=relu",
        ["psl_surrogate=relu: no key of sampler dns, loss softmax"],
    ),
    "misspelt in a spec": (
        "compare --samplers=all:loss=psl,loss_tua=3",
        ["loss_tua=3: no key of sampler all, loss psl", "did you mean loss_tau?"],
    ),
    "a loss sets it": ("compare --samplers=ssm:loss_tau=3", ["loss_tau=3: sampler=ssm sets it"]),
    "a loss reads it not": (
        "compare --samplers=rns,ssm:loss=psl,ssm_tau=3",
        ["ssm_tau=3: has no effect with loss=psl"],
    ),
    "the loss that it has anyway": (
        "compare --samplers=dns,dns:loss=bpr",
        ["dns:loss=bpr is there twice, with the same settings"],
    ),
    "unknown loss": ("compare --samplers=rns,dns:loss=pls", ["loss=pls: must be one of", "psl?"]),
    "no space for the loss": ("tune --sampler=rns --loss=bpr", ["sampler=rns: comes with no"]),
    "all is given": ("tune --sampler=rns --loss=talos --loss_tau=1", ["name at least one param"]),
    "seeds": ("compare --samplers=rns --seeds=0", ["seeds=0: must be an integer > 0"]),
    "settings": (
        "compare --samplers=rns,dns --settings=best.yaml",
        ["settings=best.yaml: its sampler, ahns, must be one of rns, dns"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line(name, tmp_path, capfd):
    Path("unknown.yaml").write_text("dns_m: [1]\n")
    Path("empty.yaml").write_text("candidate_num: []\n")
    Path("none.yaml").write_text("dns_m: [300]\n")
    Path("best.yaml").write_text("sampler: ahns\ndataset: a\n")
    Path("wide.yaml").write_text("learning_rate: {uniform: [-1.7e308, 1.7e308]}\n")
    Path("large.yaml").write_text(f"candidate_num: {{randint: [1, {10**23}]}}\n")
    Path("drawn.yaml").write_text("learning_rate: {uniform: [0.1, 0.2]}\n")
    before = set(tmp_path.rglob("*"))
    given, expected = MISTAKES[name]
    assert main(given.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for text in expected:
        assert text in err
    assert set(tmp_path.rglob("*")) == before


def test_an_address_where_something_else_answers(capfd, monkeypatch):
    monkeypatch.setattr(cluster, "HEALTH_SECONDS", 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert main(["tune", "--sampler=dns", f"--address={address}"]) == 2
    err = capfd.readouterr().err
    expected = f"address={address}: no Ray cluster answered there within 0 s"
    assert err == f"recbole-hns: error: {expected}\n"


def test_importing_the_package_imports_no_ray():
    code = (
        "import recbole_hns, recbole_hns.cli.run, sys; assert 'ray' not in sys.modules; "
        "from recbole_hns import tune; assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_help(capsys):
    for command in ("tune", "compare"):
        assert main([command, "--help"]) == 0
        out = capsys.readouterr().out
        assert "CPUs, and threads, of a trial; an integer > 0" in " ".join(out.split())
        assert max(map(len, out.splitlines())) <= 130


# --- figures ------------------------------------------------------------------------------------


@pytest.fixture
def table():
    """Trials over x and y; validation peaks at x = 2, y = 1, test elsewhere."""
    rows = [
        {
            "x": x,
            "y": y,
            "valid_ndcg@5": 0.5 - abs(x - 2) / 10 - y / 100,
            "test_ndcg@5": x / 10 + y,
            "valid_ndcg@10": 0.4 - abs(x - 40) / 100 - y / 100,
            "test_ndcg@10": x / 5,
        }
        for x in (1, 2, 40)
        for y in (1, 3)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_curves_show_what_is_best_in_validation_and_mark_its_best(table):
    figure = hardness_curves.draw(table, "x")
    valid, test = figure.axes
    lines = [np.asarray(line.get_xydata()) for line in valid.lines]
    assert lines[0] == pytest.approx(np.array([[1, 0.39], [2, 0.49], [40, -3.31]]))
    assert lines[1] == pytest.approx(np.array([[2, 0.49]]))
    assert lines[3][0, 0] == 40
    # in the test row, the same trials, whatever their test values
    lines = [np.asarray(line.get_xydata()) for line in test.lines]
    assert lines[0] == pytest.approx(np.array([[1, 1.1], [2, 1.2], [40, 5.0]]))
    assert lines[1] == pytest.approx(np.array([[2, 1.2]]))
    assert valid.get_xscale() == "log"
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["K = 5", "K = 10", "best in validation"]
    low, high = valid.get_ylim()
    assert low < -3.31 < 0.49 < high


def test_no_line_goes_through_random_draws(table):
    figure = hardness_curves.draw(table, "x", drawn=True)
    assert {line.get_linestyle() for line in figure.axes[0].lines[::2]} == {"None"}


def test_the_map_has_a_cell_for_two_values_and_frames_the_best(table):
    figure = hardness_map.draw(table[~((table.x == 1) & (table.y == 3))], "x", "y", "ndcg@5")
    valid, test = figure.axes[:2]
    shown = np.asarray(valid.images[0].get_array().filled(np.nan))
    assert shown[0] == pytest.approx([0.39, 0.49, -3.31])
    assert np.isnan(shown[1, 0])
    assert len(valid.texts) == 5
    for panel in (valid, test):
        assert panel.patches[0].get_xy() == (0.5, -0.5)
    assert figure.legends[0].get_texts()[0].get_text() == "best in validation"


def test_colours_of_a_map_do_not_magnify(table):
    table = table.assign(**{f"{part}_ndcg@5": 0.2 + table.x / 1e5 for part in ("valid", "test")})
    figure = hardness_map.draw(table, "x", "y", "ndcg@5")
    low, high = figure.axes[0].images[0].get_clim()
    assert high - low == pytest.approx(0.05, rel=0.01)
    assert figure.legends[0].get_title().get_text().startswith("colours span")
