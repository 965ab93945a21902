"""Records, locks and results that are taken over: nothing of another job is mixed in."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import QUIET

from recbole_hns import tune
from recbole_hns.cli import main
from recbole_hns.errors import UserError
from recbole_hns.results import RunRecord
from recbole_hns.sampler.registry import SAMPLERS
from recbole_hns.tuning import comparison, sweep
from recbole_hns.tuning.cluster import Resources
from recbole_hns.tuning.comparison import compare
from recbole_hns.tuning.record import locked, resuming, take_over
from recbole_hns.tuning.table import TrialTable
from recbole_hns.tuning.trial import Job

SWEEP = {
    "keys": {"model": "BPR", "dataset": "ml-100k", "sampler": "dns"},
    "space": {"candidate_num": [2, 3]},
    "points": [{"candidate_num": 2}, {"candidate_num": 3}],
}
COMPARISON = {
    "samplers": "rns dns:candidate_num=5",
    "seeds": 2,
    "settings": {"best.yaml": {"sampler": "dns", "loss": "softmax"}},
    "files": {"epochs": 3},
    "given": {"learning_rate": 0.1},
}


def put(name, content):
    """A record in the directory that a command looks into by default."""
    folder = Path({"sweep": "tune"}.get(name, name))
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    (folder / f"{name}.yaml").write_text(text)


DAMAGED_SWEEPS = {
    "empty": ("", "keys: Field required"),
    "no mapping": ("- 1", "must hold keys and values"),
    "no YAML": ("keys: [", "is not valid YAML"),
    "bytes": ("\x00", "is not valid YAML"),
    "no points": ({**SWEEP, "points": []}, "points: List should have at least 1 item"),
    "points missing": ({k: v for k, v in SWEEP.items() if k != "points"}, "points: Field required"),
    "points are a number": ({**SWEEP, "points": 5}, "points: Input should be a valid list"),
    "a point is none": ({**SWEEP, "points": [None]}, "points.0: Input should be a valid dict"),
    "another parameter": ({**SWEEP, "points": [{"dns_m": 2}]}, "points.0: is not of the space"),
    "a point twice": ({**SWEEP, "points": [{"candidate_num": 2}] * 2}, "one is there twice"),
    "no sampler": ({**SWEEP, "keys": {"model": "BPR", "dataset": "a"}}, "keys: sampler is missing"),
    "sampler": ({**SWEEP, "keys": {**SWEEP["keys"], "sampler": 5}}, "keys: sampler is missing"),
    "no such sampler": ({**SWEEP, "keys": {**SWEEP["keys"], "sampler": "dnx"}}, "names dnx"),
    "model": ({**SWEEP, "keys": {**SWEEP["keys"], "model": None}}, "keys: model is missing"),
    "keys": ({**SWEEP, "keys": "BPR"}, "keys: Input should be a valid dictionary"),
    "key": ({**SWEEP, "keys": {1: 2}}, "keys.1.[key]: Input should be a valid string"),
    "space": ({**SWEEP, "space": {}}, "must name at least one parameter"),
    "more": ({**SWEEP, "more": 1}, "more: Extra inputs are not permitted"),
}


@pytest.mark.parametrize("name", DAMAGED_SWEEPS)
def test_a_damaged_sweep_is_refused_in_one_line(name, capfd):
    content, text = DAMAGED_SWEEPS[name]
    put("sweep", content)
    assert main(["tune", "--resume"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert text in err


DAMAGED_COMPARISONS = {
    "empty": ("", "samplers: Field required"),
    "no YAML": ("seeds: {", "is not valid YAML"),
    "seeds": ({**COMPARISON, "seeds": 0}, "seeds: Input should be greater than 0"),
    "samplers": ({**COMPARISON, "samplers": ["rns"]}, "samplers: Input should be a valid string"),
    "no samplers": ({**COMPARISON, "samplers": ""}, "must name at least one sampler"),
    "settings": ({**COMPARISON, "settings": [1]}, "settings: Input should be a valid dictionary"),
    "files": ({**COMPARISON, "files": None}, "files: Input should be a valid dictionary"),
    "more": ({**COMPARISON, "epochs": 1}, "epochs: Extra inputs are not permitted"),
}


@pytest.mark.parametrize("name", DAMAGED_COMPARISONS)
def test_a_damaged_comparison_is_refused_in_one_line(name, capfd):
    content, text = DAMAGED_COMPARISONS[name]
    put("comparison", content)
    assert main(["compare", "--resume"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert text in err


@pytest.fixture
def evil(monkeypatch):
    """A module that leaves a file when it is imported."""
    Path("evil.py").write_text(
        "import pathlib\n"
        "pathlib.Path('pwned').touch()\n"
        "from recbole_hns import HardNegativeSampler, Loss\n"
        "class A(HardNegativeSampler):\n    pass\n"
        "class L(Loss):\n    pass\n"
    )
    monkeypatch.syspath_prepend(".")


def with_class(place):
    return {
        "sampler": ("sweep", {**SWEEP, "keys": {**SWEEP["keys"], "sampler": "evil:A"}}),
        "loss": ("sweep", {**SWEEP, "keys": {**SWEEP["keys"], "loss": "evil:L"}}),
        "searched loss": (
            "sweep",
            {**SWEEP, "space": {"loss": ["evil:L"]}, "points": [{"loss": "evil:L"}]},
        ),
        "point's loss": (
            "sweep",
            {**SWEEP, "space": {"loss": ["bpr"]}, "points": [{"loss": "evil:L"}]},
        ),
        "samplers": ("comparison", {**COMPARISON, "samplers": "rns evil:A:x=1", "settings": {}}),
        "spec's loss": ("comparison", {**COMPARISON, "samplers": "dns:loss=evil:L"}),
        "settings' loss": (
            "comparison",
            {**COMPARISON, "settings": {"a": {"sampler": "dns", "loss": "evil:L"}}},
        ),
        "files' loss": ("comparison", {**COMPARISON, "files": {"loss": "evil:L"}}),
        "given loss": ("comparison", {**COMPARISON, "given": {"loss": "evil:L"}}),
    }[place]


@pytest.mark.parametrize(
    "place",
    [
        *("sampler", "loss", "searched loss", "point's loss", "samplers", "spec's loss"),
        *("settings' loss", "files' loss", "given loss"),
    ],
)
def test_no_class_that_only_a_record_names_is_imported(place, evil, capfd):
    kind, content = with_class(place)
    put(kind, content)
    assert main([{"sweep": "tune", "comparison": "compare"}[kind], "--resume"]) == 2
    err = capfd.readouterr().err
    assert "which is not one of this package's; name it on the command line" in err
    assert not Path("pwned").exists()


def test_a_class_that_the_user_names_too_is_imported(evil):
    put("sweep", with_class("sampler")[1])
    with pytest.raises(UserError, match="dataset=nosuch: the sweep was started with ml-100k"):
        tune(sampler="evil:A", dataset="nosuch", resume=True)
    assert not Path("pwned").exists()
    sweep._recorded(Path("tune/sweep.yaml").absolute(), {"sampler": "evil:A"}, {}, None)
    put("comparison", with_class("samplers")[1])
    path = Path("comparison/comparison.yaml")
    asked = comparison._recorded(path, "rns evil:A:x=1", None, None, {}, {})
    assert asked.seeds == 2


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"samplers": "rns"}, "samplers=rns: the comparison was started with rns dns:candid"),
        ({"samplers": "dns:candidate_num=5 rns"}, "the comparison was started with rns dns"),
        ({"seeds": 3}, "seeds=3: the comparison was started with 2"),
        ({"command_line": {"epochs": "5"}}, "epochs=5: the comparison was started with 3"),
        ({"command_line": {"topk": "5"}}, "topk=5: the comparison was started with None"),
        ({"dataset": "other"}, "dataset=other: the comparison was started with None"),
        ({"settings": ["a.yaml"]}, "settings=a.yaml: the comparison was started with other"),
    ],
)
def test_a_comparison_is_resumed_with_the_same_only(given, text):
    put("comparison", COMPARISON)
    Path("a.yaml").write_text("sampler: dns\n")
    with pytest.raises(UserError, match=text):
        compare(**given, resume=True)


def test_what_is_given_again_may_be_left_out():
    put("comparison", COMPARISON)
    path = Path("comparison/comparison.yaml")
    for given in (
        (None, None, None, {}, {}),
        (
            "rns,dns:candidate_num=5",
            2,
            None,
            {"b": COMPARISON["settings"]["best.yaml"]},
            {"epochs": 3},
        ),
    ):
        assert comparison._recorded(path, *given).model_dump() == {**COMPARISON, "baselines": ""}
    with pytest.raises(UserError, match="holds no comparison that could be resumed"):
        compare(output="elsewhere", resume=True)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("tune --sampler=dns --output=old", "trials.csv"),
        ("tune --sampler=dns --output=old", "trials/000.json"),
        ("tune --sampler=dns --output=old", "trials/017.json"),
        ("compare --output=old", "runs.csv"),
        ("compare --output=old", "table.md"),
        ("compare --output=old --samplers=rns", "runs/dns-2020.json"),
    ],
)
def test_results_without_a_record_are_never_mixed_in(command, file, capfd):
    path = Path("old") / file
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert main(command.split()) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert f"output=old: holds results, {file}, without" in err
    assert [found for found in Path("old").rglob("*") if found.is_file()] == [path]


def test_one_process_at_a_time(tmp_path):
    with locked("here", tmp_path):
        told = "output=here: another process is at work there"
        with pytest.raises(UserError, match=told), locked("here", tmp_path):
            pass
    with locked("here", tmp_path):
        pass


def test_a_lock_left_by_a_killed_process_is_not_in_the_way(tmp_path):
    (tmp_path / ".lock").write_text("4711")
    with locked("here", tmp_path):
        pass


def test_a_finished_result_is_taken_over_if_its_config_is_the_same(toy):
    keys = {**QUIET, **toy, "model": "BPR", "sampler": "dns", "epochs": 1}

    def job(**more):
        file = Path("trials/000.json").absolute()
        points = [{"candidate_num": 2}]
        return Job.of({**keys, **more}, {"dns": SAMPLERS["dns"]}, points, [file], Resources())

    file = job().files[0]
    file.parent.mkdir()
    record = RunRecord(file, job().config({"candidate_num": 2}).final_config_dict)
    record.epochs.append({"epoch": 1, "train_loss": 0.5, "train_seconds": 1.0})
    record.write()

    def taken(**more):
        table = TrialTable(job().points, job().files, file.parent.parent / "trials.csv")
        take_over(job(**more), table)
        return list(table.frame()["status"])

    # it has no test result yet
    assert taken() == ["waiting"]
    record.results = {"best_valid_score": 0.25, "best_epoch": 1, "test_result": {"ndcg@10": 0.5}}
    record.write()
    assert taken() == ["finished"]
    # where it works is nothing that it does
    assert taken(worker=1, use_gpu=False, state="INFO") == ["finished"]
    for key, value in (
        ("epochs", 2),
        ("learning_rate", 0.5),
        ("embedding_size", 8),
        ("seed", 1),
        ("metrics", ["MRR"]),
        ("stopping_step", 3),
        ("model", "LightGCN"),
    ):
        with pytest.raises(UserError, match=rf"output=.*000.json: is of a run with {key}="):
            taken(**{key: value})
    # other data of the same name
    Path("other/toy").mkdir(parents=True)
    with pytest.raises(UserError, match="is of a run with data_path="):
        taken(data_path="other")
    content = json.loads(file.read_text())
    content["config"]["data_path"] = "/moved/since/toy"
    file.write_text(json.dumps(content))
    assert taken() == ["finished"]
    file.write_text("{")
    with pytest.raises(UserError, match="is no result file of a run"):
        taken()


def test_the_command_that_goes_on():
    assert resuming("tune", "tune", Resources()) == "recbole-hns tune --output=tune --resume"
    resources = Resources(cpus_per_trial=2, address="h:1")
    told = resuming("compare", "my runs", resources, loss=None, samplers="a:B")
    assert told == (
        "recbole-hns compare '--output=my runs' --cpus_per_trial=2 --address=h:1 "
        "--samplers=a:B --resume"
    )
