"""Commands as a user meets them: what answers without PyTorch, what goes where, what is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import arguments, environment

import recbole_hns
from recbole_hns import config, tuning
from recbole_hns.cli import COMMANDS, NAMES, main
from recbole_hns.cli import run as run_command
from recbole_hns.config import Config
from recbole_hns.config.axes import loss_keys, sampler_keys
from recbole_hns.config.known import TRAINED, check_early
from recbole_hns.errors import UserError
from recbole_hns.loss.registry import LOSSES
from recbole_hns.registry import listed
from recbole_hns.sampler.registry import SAMPLERS

SMALL = ["--epochs=1", "--embedding_size=4", "--show_progress=False"]

#: Runs the console script; then the heavy packages that it has imported, each a line.
IMPORTED = """
import sys
from recbole_hns.cli import main
status = main(sys.argv[1:])
print("heavy:", *sorted({"torch", "recbole", "ray", "numba"} & sys.modules.keys()))
sys.exit(status)
"""


def console(*given):
    return subprocess.run(
        [sys.executable, "-c", IMPORTED, *given],
        capture_output=True,
        text=True,
        env=environment(),
    )


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        ("", 0, "Usage: recbole-hns"),
        ("--help", 0, "Usage: recbole-hns"),
        ("-h", 0, "Usage: recbole-hns"),
        ("--version", 0, "recbole-hns "),
        ("--verison", 2, "--verison: no such option; did you mean --version?"),
        ("--sampler=dns", 2, "--sampler: no such option; a command comes first"),
        ("rnu", 2, "rnu: no such command; known: "),
        *((f"{name} --help", 0, f"Usage: recbole-hns {name} ") for name in NAMES),
        ("run --help=LightGCN", 0, "n_layers: 2"),
        ("run --help=LightGCN --help=LightGCN", 0, "n_layers: 2"),
        ("run --help=dns --help=rns", 2, "help=rns: given twice, before as dns"),
        ("run --help --help=rns", 2, "help=rns: given twice"),
        ("run --learning_rat=0.1", 2, "learning_rat=0.1: no such key; did you mean learning_rate?"),
        ("run --ahns_bta 2", 2, "ahns_bta=2: no such key; did you mean ahns_beta?"),
        ("run --device=cpu", 2, "device=cpu: set use_gpu=False for the CPU"),
        ("run --xyz=1 --model=LightGCN", 2, "nothing reads it: not RecBole, nor its LightGCN"),
        ("run --loss=softmax --loss_tua=1", 2, "loss_tua=1: no such key; did you mean loss_tau?"),
        ("run --config_files=none.yaml", 2, "config_files=none.yaml: cannot be read"),
        ("run epochs=3", 2, "epochs=3: options have the form --key=value"),
        ("tune --param=a.yaml", 2, "param=a.yaml: no such option; did you mean --params?"),
        ("tune --epoch=3", 2, "epoch=3: no such key; did you mean epochs?"),
        ("compare --seads=3", 2, "seads=3: no such option; did you mean --seeds?"),
        ("compare --samplers=dns,rns:loss=bsl --topkk=3", 2, "topkk=3: no such key; did you mean"),
        ("benchmark --round=3", 2, "round=3: no such option; did you mean --rounds?"),
        ("plot --metrics=NDCG@5", 2, "metrics=NDCG@5: no such option; did you mean --metric?"),
        ("convert --formt=csv", 2, "formt=csv: no such option; did you mean --format?"),
        ("convert --format=csv --input=x.csv --output=data/new", 0, "files in data/new"),
        ("simulate --trails=9", 2, "trails=9: no such option; did you mean --trials?"),
        ("simulate --trials=300 --topk=3", 0, "Precision@K, correlation peaks"),
    ],
    ids=str,
)
def test_what_needs_no_model_imports_neither_pytorch_nor_recbole(given, status, text):
    lines = [f"u{u},i{i}" for u in range(9) for i in range(u, u + 9)]
    Path("x.csv").write_text("\n".join(lines))
    done = console(*given.split())
    assert done.returncode == status, done.stderr
    assert text in (done.stderr if status else done.stdout)
    assert done.stdout.endswith("heavy:\n")
    if status:
        assert done.stderr.startswith("recbole-hns: error: ")
        assert done.stderr.count("\n") == 1


def test_importing_the_package_or_its_command_line_imports_nothing_heavy():
    code = (
        "import sys, recbole_hns, recbole_hns.cli, recbole_hns.config, recbole_hns.tuning\n"
        "assert not {'torch', 'recbole', 'ray', 'numpy', 'pydantic'} & sys.modules.keys()\n"
        "from recbole_hns import UserError, run\n"
        "assert 'recbole' in sys.modules and 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_every_name_of_the_package_is_there():
    assert set(recbole_hns.__all__) == set(recbole_hns._MODULES) <= set(dir(recbole_hns))
    for package in (recbole_hns, config, tuning):
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="has no attribute 'absent'"):
            package.absent  # noqa: B018


# --- help -----------------------------------------------------------------------------------------


def test_the_help_of_a_run_has_what_matters_and_a_line_for_each_sampler_and_loss(capsys):
    assert main(["run", "--help"]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"\n  --{key}=") for group in run_command.FIRST.values() for key in group]
    assert places == sorted(places)
    assert max(places) < out.index("\nSamplers") < out.index("\nLosses")
    for classes in (SAMPLERS, LOSSES):
        for name, cls in classes.items():
            assert f"\n  {name:<11} {cls.__doc__.splitlines()[0]}\n" in out
    assert "further" not in out
    assert len(out.splitlines()) < 110


@pytest.mark.parametrize("name", [*SAMPLERS, *LOSSES])
def test_help_of_a_name_has_its_keys(name, capsys):
    assert main(["run", f"--help={name}"]) == main(["run", "--help", name]) == 0
    out = capsys.readouterr().out
    for classes in (SAMPLERS, LOSSES):
        for key, parameter in getattr(classes.get(name), "hyperparameters", {}).items():
            default = "unset" if parameter.default is None else parameter.default
            default = ",".join(map(str, default)) if isinstance(default, list) else default
            assert f"\n  --{key}={default}" in out


def test_help_of_an_unknown_name(capsys):
    assert main(["run", "--help=dns_nm"]) == 2
    assert "help=dns_nm: is no sampler, loss or model; did you mean dns_mn?" in (
        capsys.readouterr().err
    )
    assert main(["simulate", "--help=dns"]) == 2
    assert "this command has no help of a name" in capsys.readouterr().err


def test_the_first_keys_have_the_defaults_that_runs_have():
    values = Config("LightGCN").internal_config_dict
    for group in run_command.FIRST.values():
        for key, option in run_command._keys(group, run_command.defaults()).items():
            assert option.default == values[key], key


@pytest.mark.parametrize(
    ("kind", "classes", "keys"), [("sampler", SAMPLERS, sampler_keys), ("loss", LOSSES, loss_keys)]
)
def test_what_files_say_unimported_is_what_the_classes_are(kind, classes, keys):
    found = listed(kind)
    assert found.summaries == {
        name: cls.__doc__.strip().splitlines()[0] for name, cls in classes.items()
    }
    assert found.keys == set(keys())


@pytest.mark.parametrize("model", TRAINED)
def test_what_is_refused_early_is_refused_by_the_config_too(model):
    good = Config(model)
    check_early([], {**dict.fromkeys(good.internal_config_dict), "model": model})
    for key in ("learning_rat", "xyz", "ahns_bta", "use_gpus"):
        told = []
        for check in (
            lambda given: check_early([], given),
            lambda given: Config(command_line=given),
        ):
            with pytest.raises(UserError, match="no such key") as error:
                check({"model": model, key: "3"})
            told.append(str(error.value))
        assert told[0] == told[1]


@pytest.mark.parametrize(
    "given", [{"sampler": "mine:Own"}, {"loss": "mine:Own"}, {"model": "Own"}, {"sampler": [1]}]
)
def test_keys_of_the_users_own_classes_are_left_to_the_config(given):
    check_early([], {**given, "own_key": "3"})


# --- streams --------------------------------------------------------------------------------------


def test_the_result_is_on_stdout_and_the_log_on_stderr(toy, capfd):
    assert main(["run", *SMALL, *arguments(toy)]) == 0
    out, err = capfd.readouterr()
    (path,) = Path("saved").glob("*.json")
    result = json.loads(path.read_text())
    lines = out.splitlines()
    assert lines[0].split() == ["metric", "valid", "test"]
    assert [line.split()[0] for line in lines[2:-1]] == list(result["test_result"])
    assert lines[-1].startswith("split: ")
    assert lines[0] not in err
    assert "result file: saved/" in err
    (log,) = Path("saved/log/BPR").glob("*.log")
    assert out in log.read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["dataset", "saved"]


@pytest.mark.parametrize("flag", ["--quiet", "--quiet=True"])
def test_quiet_leaves_stderr_to_errors(flag, toy, capfd):
    assert main(["run", flag, *SMALL[:2], "--show_progress=True", *arguments(toy)]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("metric ")
    assert err == ""
    (log,) = Path("saved/log/BPR").glob("*.log")
    assert "epoch 1 training" in log.read_text()
    assert main(["run", flag, "--dataset=absent"]) == 2
    assert capfd.readouterr().err.startswith("recbole-hns: error: dataset=absent: ")


def test_the_terminal_has_only_what_differs_from_defaults(toy, capfd):
    keys = {**toy, "sampler": "ahns", "loss": "softmax", "loss_tau": 0.2}
    keys |= {"seed": 2020, "candidate_num": 8}  # as they are anyway
    assert main(["run", *SMALL, *arguments(keys)]) == 0
    err = capfd.readouterr().err
    head = err[err.index("config:") : err.index("The number of users")]
    shown = [line.strip() for line in head.splitlines()[1:] if line.startswith("  ")]
    assert shown[:4] == ["model = BPR", "dataset = toy", "sampler = ahns", "loss = softmax"]
    assert {line.split(" = ")[0] for line in shown[4:]} == {
        "loss_tau",
        "epochs",
        "embedding_size",
        "show_progress",
    }


def test_files_are_under_checkpoint_dir(toy):
    for folder in ("first/saved", "second"):
        assert main(["run", *SMALL, f"--checkpoint_dir={folder}", *arguments(toy)]) == 0
        names = {path.name for path in Path(folder).iterdir() if path.is_dir()}
        assert names == {"log", "log_tensorboard"}
        assert len(list(Path(folder).glob("log_tensorboard/*/events*"))) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["dataset", "first", "second"]


def test_loading_a_checkpoint_leaves_no_log(toy):
    assert main(["run", *SMALL, *arguments(toy)]) == 0
    (path,) = Path("saved").glob("*.pth")
    before = sorted(Path().rglob("*"))
    recbole_hns.load_data_and_model(path)
    assert sorted(Path().rglob("*")) == before


def test_a_log_that_cannot_be_written(toy, capfd):
    Path("saved").mkdir()
    Path("saved/log").write_text("")
    assert main(["run", *SMALL, *arguments(toy)]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "checkpoint_dir=saved/log/BPR: must be a directory that can be written to" in err


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("run --sampler=dns --sampler=rns", "sampler=rns: given twice, before as dns"),
        ("run --epochs 3 --epochs=4", "epochs=4: given twice, before as 3"),
        ("run --sampler", "--sampler: needs a value, --sampler=VALUE"),
        ("run --sampler --epochs=3", "--sampler: needs a value, --sampler=VALUE"),
        ("run --epochs --sampler=dns", "--epochs: needs a value, --epochs=VALUE"),
        ("run -x", "-x: options have the form --key=value"),
        ("run -- x", "x: options have the form --key=value"),
        ("run --quiet=perhaps", "quiet=perhaps: must be True or False"),
        ("compare --resume=perhaps", "resume=perhaps: must be True or False"),
        ("simulate --topk=0", "topk=0: must be an integer > 0 or a list"),
        ("simulate --seed=1 --seed=2", "seed=2: given twice, before as 1"),
        ("plot", "RESULT.json: at least one result file is needed"),
        ("run --=3", "--=3: options have the form --key=value"),
    ],
)
def test_mistakes_are_told_in_a_line(given, message, capsys):
    assert main(given.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"recbole-hns: error: {message}")
    assert err.count("\n") == 1
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "given",
    [
        "--epochs=2 --ahns_p=-1 --topk=5,10",
        "--epochs 2 --ahns_p -1 --topk 5,10",
        "--epochs 2 --epochs=2 --ahns_p=-1 --topk [5,10]",
    ],
)
def test_keys_have_two_forms(given, monkeypatch):
    seen = {}
    monkeypatch.setattr(recbole_hns.quick_start, "run", lambda **keys: seen.update(keys))
    assert main(["run", "--model", "LightGCN", "--sampler=ahns", *given.split()]) == 0
    assert (seen["model"], seen["sampler"], seen["loss"]) == ("LightGCN", "ahns", None)
    config = Config(seen["model"], command_line=seen["command_line"])
    assert (config["epochs"], config["ahns_p"], config["topk"]) == (2, -1.0, [5, 10])


def test_a_flag_leaves_what_follows_it_alone(capsys):
    assert main(["plot", "--quiet", "none.json"]) == main(["plot", "none.json", "--quiet"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0]
        == lines[1]
        == ("recbole-hns: error: result file=none.json: cannot be read: No such file or directory")
    )


@pytest.mark.parametrize("given", [["--help"], ["run", "--help"], ["simulate", "--trials=50"]])
def test_a_reader_that_has_enough_is_no_failure_of_the_program(given):
    closed, stdout = os.pipe()
    os.close(closed)
    with open(stdout, "w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "recbole_hns", *given],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_options_of_commands_may_have_dashes(capsys):
    assert main(["simulate", "--n-pos=0"]) == main(["simulate", "--n_pos", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == lines[1]
    assert "n_pos=0: must be an integer > 0" in lines[0]


def test_commands_are_there():
    assert len(NAMES) == len(set(NAMES)) == sum(map(len, COMMANDS.values()))
    folder = Path(recbole_hns.__file__).parent / "cli"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "options"}
    assert modules == set(NAMES)
