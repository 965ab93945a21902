"""Searches of the joint space on Ray, in one session that all tests here share."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from conftest import SHORT, arguments, trials
from matplotlib import image

from recbole_hns import run, tune
from recbole_hns.cli import main
from recbole_hns.errors import UserError
from recbole_hns.figures import importance, search_curve
from recbole_hns.tuning import search as search_module
from recbole_hns.tuning.budget import seconds_of
from recbole_hns.tuning.importance import importances
from recbole_hns.tuning.joint import Facts, JointSpace, recipes
from recbole_hns.tuning.report import write_report
from recbole_hns.tuning.search import Progress, SearchRecord, Suggested
from recbole_hns.tuning.suggest import Asha, Suggester, train_suggested
from recbole_hns.tuning.table import TrialTable

FACTS = Facts(30, 40, 200)
PARAMETERS = ["sampler", "x", "y", "z"]


@pytest.mark.usefixtures("ray_session")
def test_a_search_and_what_it_leaves(toy, capsys):
    keys = {**SHORT, **toy, "epochs": 4, "eval_step": 1}
    command = ["tune", *arguments(keys)]
    assert main([*command, "--trials=6", "--retrain"]) == 0
    out, err = capsys.readouterr()
    table = trials()
    assert list(table["trial"]) == list(range(6))
    assert set(table["status"]) <= {"finished", "stopped"}
    assert "[6] trial=" in err
    # the recipes come first
    facts = Facts(**yaml.safe_load(Path("tune/search.yaml").read_text())["facts"])
    space = JointSpace("LightGCN", keys, facts)
    starts = [space(optuna.trial.FixedTrial(params)) for params in recipes(space)]
    for row, start in zip(table.to_dict("records"), starts):
        assert {key: row[key] for key in start} == start

    best = table.loc[table["score"].idxmax()]
    config = yaml.safe_load(Path("tune/best.yaml").read_text())
    assert (config["model"], config["epochs"]) == ("LightGCN", best["best_epoch"])
    assert config["learning_rate"] == best["learning_rate"]
    assert "trial" not in config
    again = run(config_file_list=["tune/best.yaml"])
    assert again["best_valid_score"] == best["score"]

    page, pictured = (Path(f"tune/report.{kind}").read_text() for kind in ("md", "html"))
    for text in (
        f"{best['score']:.4f}",
        "## Trained again",
        "best_so_far.png",
        "split RecBole's RS",
    ):
        assert text in page
    assert re.findall(r'(?:src|href)="([^"]{21})', pictured) == ["data:image/png;base64"]
    assert image.imread("tune/best_so_far.png").std() > 0
    assert "report.md, report.html" in out
    (checkpoint,) = Path("tune/model").glob("*.pth")
    whole = run(
        config_file_list=["tune/best.yaml"], config_dict={"protocol": "paper", "eval_step": 0}
    )
    assert f"| ndcg@10 | {whole['test_result']['ndcg@10']:.4f} |" in page
    assert f"--checkpoint={checkpoint.absolute()}" in page

    # more trials: those that have ended are not trained again
    before = {path: path.stat().st_mtime_ns for path in Path("tune/trials").glob("*.json")}
    assert main(["tune", "--resume", "--trials=7"]) == 0
    assert len(before) == 6
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    more = trials()
    pd.testing.assert_frame_equal(more[:6][table.columns], table)
    assert len(more) == 7
    # on a busy machine it is told, too, that Ray is waited for
    assert re.findall(r"^\[\d+\] trial=\d+", capsys.readouterr().err, re.M) == ["[7] trial=6"]
    for given, text in (
        ({"config_dict": {"epochs": 5}}, "epochs=5: the search was started with 4"),
        ({"trials": 9, "dataset": "other"}, "dataset=other: the search was started with toy"),
        ({"params": {"dns_m": [1]}}, "params=.*: is of a sweep"),
    ):
        with pytest.raises(UserError, match=text):
            tune(**given, resume=True)
    with pytest.raises(UserError, match="output=tune: holds a search already; --resume goes on"):
        tune(budget="1m")
    with pytest.raises(UserError, match="output=tune: holds results"):
        tune(sampler="dns")


@pytest.mark.usefixtures("ray_session")
def test_a_sampler_of_the_user_is_searched_with_the_rest(toy):
    keys = {**SHORT, **toy, "epochs": 1, "rank": 1}
    results = tune("BPR", sampler="theirs:Ranked", trials=2, config_dict=keys, output="ranked")
    assert results.num_errors == 0
    config = yaml.safe_load(Path("ranked/best.yaml").read_text())
    assert (config["model"], config["sampler"], config["rank"]) == ("BPR", "theirs:Ranked", 1)
    assert config["weight_decay"] == trials("ranked").sort_values("score")["weight_decay"].iloc[-1]
    with pytest.raises(UserError, match="names theirs:Ranked, which is not one of this package"):
        tune(resume=True, output="ranked")


@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_fails_ends_nothing(toy, capsys):
    keys = {**SHORT, **toy, "epochs": 2, "learning_rate": 1e38}
    results = tune(trials=1, config_dict=keys)
    assert results.num_errors == 1
    table = trials()
    assert set(table["status"]) == {"failed"}
    assert table["error"].str.contains("Training loss is").all()
    # of the epochs before
    assert all(Path("tune", path).is_file() for path in table["result_file"].dropna())
    told, again = capsys.readouterr().out.splitlines()[-2:]
    assert told.startswith("no trial has a validation score, so there is no best.yaml: 1 failed, ")
    assert again.endswith("recbole-hns tune --output=tune --resume")
    assert f"all errors are in {Path('tune').absolute()}/trials.csv, column error" in told
    record = yaml.safe_load(Path("tune/search.yaml").read_text())
    assert [each["status"] for each in record["suggested"]] == ["failed"]
    assert not Path("tune/best.yaml").exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7", 7), (7.5, 7.5)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("--budget=soon", "budget=soon: must be a time > 0, such as 90s, 30m or 2h"),
        ("--budget=0m", "budget=0m: must be a time"),
        ("--budget=-5m", "budget=-5m: must be a time"),
        ("--budget=1d", "budget=1d: must be a time"),
        (f"--budget={'9' * 400}h", "h: must be a time"),
        ("--trials=0", "trials=0: must be an integer > 0"),
        ("--budget=1m --params=a.yaml", "params=a.yaml: is of a sweep; a search by budget or"),
        ("--trials=3 --num_samples=2", "num_samples=2: is of a sweep"),
        ("--trials=3 --scheduler=asha", "scheduler=asha: is of a sweep"),
        ("--budget=1m --sampler=all --similarity=inner", "sampler=all: is not searched with simil"),
        ("--budget=1m --dns_n=3", "dns_n"),
        ("--budgt=1m", "budgt=1m: no such option; did you mean --budget?"),
        # told before the data are looked for
        ("--budget=1m --protocol=paper --dataset=nowhere", "protocol=paper: must be valid"),
        ("--protocol=paper --dataset=nowhere", "protocol=paper: must be valid"),
    ],
)
def test_a_mistake_ends_in_one_line(given, text, tmp_path, capfd):
    assert main(["tune", *given.split()]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert text in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"suggested": [{"params": {"similarity": "evil:A"}, "status": "finished"}]},
        {"suggested": [{"params": {}}]},
        {"suggested": [{"params": {}, "status": "won"}]},
        {"suggested": 3},
        {"facts": {"users": 30}},
        {"budget": -1.0},
        {"keys": {"dataset": "toy"}},
        {"keys": {"dataset": "toy", "model": "BPR", "sampler": "evil:A"}},
        {"more": 1},
    ],
)
def test_a_damaged_record_ends_in_one_line(change, toy, capfd):
    keys = {**SHORT, **toy, "dataset": "toy", "model": "LightGCN"}
    facts = {"users": 30, "items": 40, "interactions": 243}
    record = {"keys": keys, "budget": None, "trials": 3, "facts": facts, "suggested": []}
    Path("tune").mkdir()
    Path("tune/search.yaml").write_text(yaml.safe_dump({**record, **change}))
    assert main(["tune", "--resume"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "Traceback" not in err


def test_a_budget_that_is_over_before_the_first_evaluation(tmp_path):
    config = {"valid_metric_bigger": True}
    table = TrialTable([], [], tmp_path / "trials.csv", grows=True)
    for expected in ("0 trials", "1 trials, 1 stopped"):
        text = write_report({}, [], config, table.typed(), 5.0, tmp_path, None).text
        counts, told = text.splitlines()
        assert counts == f"{expected}, in 5.0 s"
        assert told.endswith("before the first evaluation, which a longer --budget comes to")
        table.add({"trial": 0}, tmp_path / "trials" / "000.json")
        table.put({"trial": 0}, {}, None)
    assert not list(tmp_path.iterdir())


def progress(tmp_path, record):
    table = TrialTable([], [], tmp_path / "trials.csv", grows=True)
    return Progress(record, tmp_path / "search.yaml", table, None)


def test_what_the_budget_cut_is_tried_again_if_there_is_more(tmp_path, monkeypatch):
    space = JointSpace("LightGCN", {}, FACTS)
    first, second = recipes(space)[:2]
    record = SearchRecord(keys={}, budget=60.0, trials=None, facts={}, suggested=[])
    now = progress(tmp_path, record)
    monkeypatch.setattr(search_module.time, "monotonic", lambda: now._start + passed)
    passed = 0.0
    points = [
        {"trial": i, **space(optuna.trial.FixedTrial(p))} for i, p in enumerate((first, second))
    ]
    for point, params in zip(points, (first, second)):
        now._add(point, params)
        # one that is known is not recorded again
        now._add(point, params)
    assert [each.status for each in record.suggested] == ["waiting"] * 2
    passed = 20.0
    now.table.put(points[1], {"score": 0.5, "epochs": 3}, None)
    now.update()
    passed = 61.0
    now.table.put(points[0], {"score": 0.7, "epochs": 9}, None)
    now.update()
    assert [each.status for each in record.suggested] == ["cut", "stopped"]
    assert [each.seconds for each in record.suggested] == [61.0, 20.0]
    read = SearchRecord.model_validate(yaml.safe_load((tmp_path / "search.yaml").read_text()))
    assert read == record

    # both have ended for who has no time left; with more, one goes on
    assert progress(tmp_path, read)._left == 0
    read.budget = 100.0
    assert progress(tmp_path, read)._left == 39.0


def test_what_the_budget_cut_before_its_first_evaluation_is_left_so(tmp_path):
    """It has no result file; a search that is resumed without more time does not look for it."""
    space = JointSpace("LightGCN", {}, FACTS)
    cut = Suggested(params=recipes(space)[0], status="cut", seconds=60.0)
    record = SearchRecord(keys={}, budget=60.0, trials=None, facts={}, suggested=[cut])
    now = progress(tmp_path, record)
    now.take_over(space, None)
    assert now.table.statuses == ["stopped"]
    train_suggested({"trial": 0}, None, {}, tmp_path / "trials", {0})


def test_optuna_and_asha_learn_what_was_known_before():
    """As Ray calls them, with the reports of trials that ended before an interruption."""
    space = JointSpace("LightGCN", {}, FACTS)
    known = recipes(space)
    told = []
    suggester = Suggester(space, known, "max", 7, lambda *what: told.append(what))
    asha = Asha(60, 150_000, 2, {0, 2})
    asha.set_search_properties("score", "max")

    class Trial:
        def __init__(self, number):
            self.trial_id = str(number)
            self.config = suggester.suggest(self.trial_id)

    for number, score in enumerate((0.9, 0.1, 0.2, 0.3)):
        trial = Trial(number)
        assert trial.config == {"trial": number, **space(optuna.trial.FixedTrial(known[number]))}
        asha.on_trial_add(None, trial)
        report = {"score": score, "epochs": 6, "training_iteration": 1}
        suggester.on_trial_result(trial.trial_id, report)
        # the second is one of those that a search starts with, the third has come to its end
        expected = {3: "STOP"}.get(number, "CONTINUE")
        assert asha.on_trial_result(None, trial, report) == expected
        if number == 1:
            assert asha.on_trial_result(None, trial, {**report, "epochs": 18}) == "CONTINUE"
        suggester.on_trial_complete(trial.trial_id, report)
    studies = {name: each._ot_study for name, each in suggester._searchers.items()}
    values = {
        name: [trial.value for trial in study.trials if trial.value is not None]
        for name, study in studies.items()
    }
    expected = {"inner": [], "cosine": []}
    for params, score in zip(known, (0.9, 0.1, 0.2, 0.3), strict=False):
        expected[params["similarity"]].append(score)
    assert values == expected
    assert all(expected.values())
    assert [params for _, params in told] == known[:4]
    # one that fails has no score
    failed = Trial(4)
    suggester.on_trial_result("4", {"error": "no", "training_iteration": 1})
    suggester.on_trial_complete("4", {"error": "no"}, error=True)
    assert set(failed.config) > {"trial", "similarity", "learning_rate"}
    family = failed.config["similarity"]
    assert studies[family].trials[2].state == optuna.trial.TrialState.FAIL


def families(mode, scores, number, given=(), known=()):
    """Those of a search's trials, one at a time; a family's score is always the same."""
    space = JointSpace("LightGCN", dict(given), FACTS)
    told = []
    suggester = Suggester(space, known, mode, 7, lambda *what: told.append(what))
    for index in range(number):
        point = suggester.suggest(str(index))
        assert point["trial"] == index
        score = scores[point.get("similarity", "inner")]
        suggester.on_trial_result(str(index), {"score": score, "training_iteration": 1})
        suggester.on_trial_complete(str(index), {"score": score, "training_iteration": 1})
    assert [point for point, _ in told] == [
        {"trial": index, **space(optuna.trial.FixedTrial(params))}
        for index, (_, params) in enumerate(told)
    ]
    return [point.get("similarity") for point, _ in told]


@pytest.mark.parametrize(("mode", "better"), [("max", "cosine"), ("min", "inner")])
def test_families_take_turns_and_later_the_better_has_most(mode, better):
    found = families(mode, {"inner": 0.1, "cosine": 0.2}, 60)
    other = {"cosine": "inner", "inner": "cosine"}[better]
    for number in range(20):
        assert abs(found[:number].count("inner") - found[:number].count("cosine")) <= 1
    assert found[:20].count(other) == 10
    assert found[20:44] == [better] * 24
    assert found[44:] == [other, better, better, better] * 4


def test_families_have_turns_for_what_the_known_trials_leave():
    known = recipes(JointSpace("LightGCN", {}, FACTS))
    inner = [params for params in known if params["similarity"] == "inner"]
    found = families("max", {"inner": 0.2, "cosine": 0.1}, 30, known=inner)
    assert found[: len(inner)] == ["inner"] * len(inner)
    assert found[len(inner) : 2 * len(inner)] == ["cosine"] * len(inner)
    assert found.count("cosine") == 10


def test_families_take_turns_while_one_has_no_score():
    """As where many trials are at work, and those of one family come to a score first."""
    suggester = Suggester(JointSpace("LightGCN", {}, FACTS), [], "max", 7, lambda *_: None)
    found = [suggester.suggest(str(index))["similarity"] for index in range(30)]
    for index, family in enumerate(found):
        if family == "inner":
            suggester.on_trial_result(str(index), {"score": 0.1, "training_iteration": 1})
    found += [suggester.suggest(str(index))["similarity"] for index in range(30, 40)]
    assert found.count("inner") == found.count("cosine") == 20
    suggester.on_trial_result(str(found.index("cosine")), {"score": 0.2, "training_iteration": 1})
    assert suggester.suggest("40")["similarity"] == "cosine"


@pytest.mark.parametrize(
    ("given", "family"),
    [
        ({"similarity": "cosine"}, None),
        ({"sampler": "dns_mn"}, "inner"),
        ({"loss": "bpr"}, "inner"),
    ],
)
def test_one_family_has_every_turn(given, family):
    known = recipes(JointSpace("LightGCN", given, FACTS))
    scores = {"inner": 0.1, "cosine": 0.1}
    assert families("max", scores, 12, given, known) == [family] * 12


@pytest.mark.parametrize(
    ("epochs", "interactions", "first"),
    [(60, 137_356, 6), (60, 719_676, 2), (60, 1_000_000, 1), (300, 20_000, 30), (5, 20_000, 1)],
)
def test_hopeless_trials_are_ended_the_earlier_the_more_an_epoch_sees(epochs, interactions, first):
    asha = Asha(epochs, interactions, 0, ())
    asha.set_search_properties("score", "max")
    trials = [SimpleNamespace(trial_id=str(i), config={"trial": i}) for i in range(2)]
    for trial in trials:
        asha.on_trial_add(None, trial)
    good, bad = ({"score": score, "training_iteration": 1} for score in (0.9, 0.1))
    assert asha.on_trial_result(None, trials[0], {**good, "epochs": first}) == "CONTINUE"
    if first > 1:
        assert asha.on_trial_result(None, trials[1], {**bad, "epochs": first - 1}) == "CONTINUE"
    assert asha.on_trial_result(None, trials[1], {**bad, "epochs": first}) == "STOP"


@pytest.mark.parametrize(
    ("epochs", "interactions", "patience"),
    [(60, 137_356, 18), (60, 719_676, 6), (60, 1_110_780, 9), (300, 20_000, 90), (5, 20_000, 3)],
)
def test_the_recipes_are_spared_until_those_that_learn_slowly_have_learnt(
    epochs, interactions, patience
):
    asha = Asha(epochs, interactions, 2, ())
    asha.set_search_properties("score", "max")
    trials = [SimpleNamespace(trial_id=str(i), config={"trial": i}) for i in range(2)]
    for trial in trials:
        asha.on_trial_add(None, trial)
    for epoch in range(1, epochs + 1):
        report = {"training_iteration": 1, "epochs": epoch}
        assert asha.on_trial_result(None, trials[0], {**report, "score": 0.9}) == "CONTINUE"
    for epoch in range(1, patience + 1):
        report = {"training_iteration": 1, "epochs": epoch, "score": 0.1}
        expected = "CONTINUE" if epoch < patience else "STOP"
        assert asha.on_trial_result(None, trials[1], report) == expected


# --- figures --------------------------------------------------------------------------------------


@pytest.fixture
def table():
    """Trials of two kinds, whose score follows x, and y among those of the first kind."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        kind = "ab"[number % 2]
        x, y = 10 ** rng.uniform(-4, -2), rng.uniform(0, 1)
        score = np.log10(x) / 4 + (y if kind == "a" else -2)
        rows.append({"trial": number, "sampler": kind, "x": x, "y": y if kind == "a" else np.nan})
        rows[-1].update(score=score, z="pq"[number % 3 == 0], seconds=60.0 * number)
        rows[-1].update(status="stopped" if number % 4 else "finished", valid_ndcg=score)
    return pd.DataFrame(rows).sort_values("score", ascending=False)


def test_importances_of_all_and_of_the_bests_kind(table):
    found = importances(table, PARAMETERS, ["similarity", "sampler"])
    assert list(found) == ["all 60 trials", "30 trials of a"]
    every, same = found.values()
    assert set(every) == {"sampler", "x", "z"}
    assert every["sampler"] > 0.8 > 0.1 > every["z"]
    assert set(same) == {"x", "y", "z"}
    assert min(same["x"], same["y"]) > 3 * same["z"]
    assert sum(same.values()) == pytest.approx(1)
    assert importances(table, PARAMETERS, ["sampler"]) == {
        name: pytest.approx(values) for name, values in found.items()
    }
    assert importances(table[:7], PARAMETERS, ["sampler"]) == {}
    figure = importance.draw(found)
    assert [axes.get_title() for axes in figure.axes] == list(found)
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    assert widths == sorted(same.values())


@pytest.mark.parametrize("bigger", [True, False])
def test_the_curve_is_of_the_best_so_far(table, bigger):
    figure = search_curve.draw(table, "ndcg@10", bigger)
    best, *points = figure.axes[0].lines
    ordered = table.sort_values("trial")["score"].tolist()
    pick = max if bigger else min
    expected = [pick(ordered[: end + 1]) for end in range(60)]
    assert best.get_xydata().tolist() == [[i, pytest.approx(v)] for i, v in enumerate(expected)]
    assert [len(line.get_xydata()) for line in points] == [15, 45]
    low, high = figure.axes[0].get_ylim()
    assert low <= min(ordered) < max(ordered) <= high
