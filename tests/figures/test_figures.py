"""``recbole-hns plot``, through the command line and through the figures' content."""

import errno
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from recbole.evaluator import metric_information

from recbole_hns.cli import main
from recbole_hns.figures import names, negative_hardness, style
from recbole_hns.figures.labels import labels, over_seeds
from recbole_hns.loss import LOSSES
from recbole_hns.results import RunRecord, read_run
from recbole_hns.sampler import SAMPLERS


def result_file(path, sampler="dns", hardness=(0.6, 0.5, 0.4), ndcg=(0.1, 0.2, 0.15), **config):
    """A result file as a run writes it; None in ``ndcg`` is an epoch without evaluation."""
    config = {
        "eval_step": 1,
        "model": "BPR",
        "dataset": "ml-100k",
        "sampler": sampler,
        "loss": "bpr",
        "seed": 2020,
        "valid_metric": "NDCG@20",
        "protocol": "valid",
        **config,
    }
    record = RunRecord(path, config)
    for epoch, (hard, value) in enumerate(zip(hardness, ndcg, strict=True), start=1):
        entry = {"epoch": epoch, "train_loss": 1.5, "train_seconds": 0.1, "hardness": hard}
        if value is not None:
            entry.update({"eval_seconds": 0.2, "recall@20": value / 2, "ndcg@20": value})
        record.epochs.append(entry)
    record.write()
    return path


def shown(panel):
    """Lines of a panel by label, ``[points, 2]``; those without a label are marks at its edge."""
    return {
        line.get_label(): np.asarray(line.get_xydata())
        for line in panel.lines
        if not line.get_label().startswith("_")
    }


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


@pytest.fixture
def results(tmp_path):
    samplers = ("rns", "dns", "ahns")
    return [result_file(tmp_path / f"{sampler}.json", sampler) for sampler in samplers]


def test_figure_5(tmp_path, results, capsys):
    output = tmp_path / "figures"
    assert main(["plot", *map(str, results), "--metric=Recall@20", f"--output={output}"]) == 0
    assert (output / "negative_hardness.png").read_bytes().startswith(b"\x89PNG")
    assert (output / "negative_hardness.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(path.suffix for path in output.iterdir()) == [".pdf", ".png"]
    printed = capsys.readouterr()
    assert printed.out.split() == [
        str(output / f"negative_hardness.{kind}") for kind in ("png", "pdf")
    ]
    assert printed.err == ""


def test_options_may_stand_anywhere_and_default_output_is_figures(tmp_path, monkeypatch, results):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "--metric", "ndcg@20", "dns.json", "rns.json"]) == 0
    assert (tmp_path / "figures" / "negative_hardness.png").is_file()


def test_the_same_runs_give_the_same_files(tmp_path, results):
    for name in "ab":
        assert main(["plot", *map(str, results), f"--output={tmp_path / name}"]) == 0
    for kind in ("png", "pdf"):
        first, again = (tmp_path / name / f"negative_hardness.{kind}" for name in "ab")
        assert first.read_bytes() == again.read_bytes()


def test_panels_show_hardness_and_the_metric(results):
    figure = negative_hardness.draw([read_run(path) for path in results], "NDCG@20")
    left, right = figure.axes
    assert list(shown(left)) == list(shown(right)) == ["RNS", "DNS", "AHNS"]
    np.testing.assert_array_equal(shown(left)["DNS"], [[1, 0.6], [2, 0.5], [3, 0.4]])
    np.testing.assert_array_equal(shown(right)["AHNS"], [[1, 0.1], [2, 0.2], [3, 0.15]])
    assert "ratio of means" in left.get_ylabel()
    assert right.get_ylabel() == "NDCG@20 (validation)"
    assert legend_of(figure) == ["RNS", "DNS", "AHNS", "best epoch"]
    lines = right.lines[:3]
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines]
    assert [len(set(look)) for look in zip(*looks, strict=True)] == [3, 3, 3]


def test_epochs_without_a_value_are_left_out(tmp_path):
    path = result_file(tmp_path / "a.json", hardness=(None, 0.5, 0.4), ndcg=(None, 0.2, None))
    left, right = negative_hardness.draw([read_run(path)], "NDCG@20").axes
    np.testing.assert_array_equal(shown(left)["DNS"], [[2, 0.5], [3, 0.4]])
    np.testing.assert_array_equal(shown(right)["DNS"], [[2, 0.2]])


def test_a_run_without_any_hardness_can_be_drawn(tmp_path):
    path = result_file(tmp_path / "a.json", hardness=(None,), ndcg=(0.1,))
    left, right = negative_hardness.draw([read_run(path)], "NDCG@20").axes
    assert shown(left)["DNS"].shape == (0, 2)
    assert shown(right)["DNS"].shape == (1, 2)


def test_the_best_epoch_of_a_line_is_marked(tmp_path):
    for metric, best in (("NDCG@20", [2, 0.2]), ("MAE", [1, 0.1])):
        record = json.loads(result_file(tmp_path / "a.json").read_text())
        for epoch in record["epochs"]:
            epoch["mae"] = epoch["ndcg@20"]
        (tmp_path / "a.json").write_text(json.dumps(record))
        figure = negative_hardness.draw([read_run(tmp_path / "a.json")], metric)
        (mark,) = [line for line in figure.axes[1].lines if line.get_label().startswith("_")]
        np.testing.assert_array_equal(mark.get_xydata(), [best])
        assert "best epoch" in legend_of(figure)


def test_wild_early_epochs_do_not_flatten_the_rest(tmp_path):
    hardness = (445.6, -80.0, 0.9, 0.5, 0.4, 0.35, 0.3)
    ndcg = (0.001, 0.02, 0.19, 0.2, 0.21, 0.22, 0.21)
    path = result_file(tmp_path / "a.json", hardness=hardness, ndcg=ndcg)
    figure = negative_hardness.draw([read_run(path)], "NDCG@20")
    left, right = figure.axes
    low, high = left.get_ylim()
    assert 0.2 < low < 0.3
    assert 0.9 < high < 1
    marks = {line.get_marker(): line for line in left.lines if line.get_marker() in "^v"}
    np.testing.assert_array_equal(marks["^"].get_xydata(), [[1, high]])
    np.testing.assert_array_equal(marks["v"].get_xydata(), [[2, low]])
    low, high = right.get_ylim()
    assert 0.1 < low < 0.19
    (mark,) = [line for line in right.lines if line.get_marker() == "v"]
    np.testing.assert_array_equal(mark.get_xydata(), [[1, low], [2, low]])
    assert "beyond the axis" in legend_of(figure)


def test_late_epochs_are_always_inside(tmp_path):
    path = result_file(tmp_path / "a.json", hardness=(3.0, 5.0, 70.0, 6.0), ndcg=(0.1,) * 4)
    figure = negative_hardness.draw([read_run(path)], "NDCG@20")
    low, high = figure.axes[0].get_ylim()
    assert low < 3
    assert high > 70
    assert "beyond the axis" not in legend_of(figure)


#: Matplotlib's limits have fewer digits for numbers that are hardly more than 0.
SCORES = st.floats(-1e100, 1e100).map(lambda value: value if abs(value) > 1e-290 else 0.0)


@given(
    st.lists(st.lists(SCORES, min_size=1, max_size=12), min_size=1, max_size=4),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_an_axis_neither_magnifies_nor_loses_anything(values, early):
    lines = [np.array([np.arange(len(line)), line]).T for line in values]
    panel = Figure().subplots()
    notes = [note.get_label() for note in style.fit(panel, lines, early)]
    low, high = panel.get_ylim()
    inside = np.concatenate([line[(low < line[:, 1]) & (line[:, 1] < high), 1] for line in lines])
    assert high - low >= 0.25 * np.abs(inside).max() * (1 - 1e-9)
    for line in lines:
        rest = line[len(line) // 2 if early else 0 :, 1]
        assert ((low < rest) & (rest < high)).all()
    marked = [point[0] for mark in panel.lines for point in mark.get_xydata()]
    assert len(marked) == sum(map(len, lines)) - len(inside)
    assert ("beyond the axis" in notes) == bool(marked)


def test_an_axis_says_where_it_was_widened():
    panel = Figure().subplots()
    (note,) = style.fit(panel, [np.array([[1, 0.2], [2, 0.202]])])
    assert note.get_label() == style.SPAN_NOTE
    low, high = panel.get_ylim()
    assert 0.002 < 0.04 * (high - low) < 0.0023
    assert style.fit(panel, [np.array([[1, 0.2], [2, 0.3]])]) == []


# --- seeds ----------------------------------------------------------------------------------------


def test_runs_that_differ_in_the_seed_are_one_line(tmp_path):
    curves = ((0.1, 0.2, 0.15), (0.2, 0.4, 0.19), (0.3, 0.3, 0.11))
    runs = [
        read_run(result_file(tmp_path / f"{seed}.json", seed=seed, ndcg=ndcg))
        for seed, ndcg in enumerate(curves)
    ]
    # one stopped earlier
    runs.append(
        read_run(result_file(tmp_path / "3.json", seed=3, ndcg=(0.2, 0.1), hardness=(1.0, 1.0)))
    )
    other = read_run(result_file(tmp_path / "other.json", "rns"))
    figure = negative_hardness.draw([runs[0], other, *runs[1:]], "NDCG@20")
    left, right = figure.axes
    values = np.array([*(curve[:2] for curve in curves), (0.2, 0.1)])
    np.testing.assert_allclose(shown(right)["DNS"], [[1, 0.2], [2, 0.25]])
    (band,) = right.collections
    edges = band.get_paths()[0].vertices
    for epoch in (1, 2):
        column = values[:, epoch - 1]
        for edge in (-1, 1):
            expected = column.mean() + edge * column.std(ddof=1)
            assert any(np.allclose(vertex, [epoch, expected]) for vertex in edges)
    assert legend_of(figure) == [
        "DNS",
        "RNS",
        "best epoch",
        "mean ± standard deviation, 4 seeds",
    ]
    assert len(left.collections) == 1


def test_the_same_run_twice_is_two_lines(tmp_path):
    runs = [read_run(result_file(tmp_path / "a.json", seed=seed)) for seed in (1, 2, 1)]
    assert over_seeds(runs) == [[runs[0], runs[1]], [runs[2]]]


# --- names ----------------------------------------------------------------------------------------


def test_namesakes_are_told_apart_by_their_settings(tmp_path):
    runs = [
        result_file(tmp_path / "a.json", "ahns", ahns_beta=0.1, checkpoint_dir="x"),
        result_file(tmp_path / "b.json", "ahns", ahns_beta=0.4, checkpoint_dir="y"),
        result_file(tmp_path / "c.json", "dns", ahns_beta=0.1),
    ]
    assert labels([read_run(run) for run in runs]) == ["AHNS, β = 0.1", "AHNS, β = 0.4", "DNS"]


def test_runs_that_selected_on_the_test_part_say_so(tmp_path):
    paper = read_run(result_file(tmp_path / "a.json", "ahns", protocol="paper"))
    valid = read_run(result_file(tmp_path / "b.json", "dns"))
    assert labels([paper, valid]) == ["AHNS, protocol paper", "DNS, protocol valid"]
    assert labels([paper]) == ["AHNS"]
    for runs, shown in (
        ([paper], "NDCG@20 (test, protocol paper)"),
        ([paper, valid], "NDCG@20 (validation; test, protocol paper)"),
    ):
        assert negative_hardness.draw(runs, "NDCG@20").axes[1].get_ylabel() == shown


def test_as_few_settings_as_suffice_are_shown(tmp_path):
    runs = [
        read_run(result_file(tmp_path / "a.json", "ahns", seed=seed, ahns_beta=beta, ahns_p=-beta))
        for seed, beta in ((1, 0.1), (1, 0.4))
    ]
    assert labels(runs) == [f"AHNS, p = {p}" for p in (-0.1, -0.4)]


def test_namesakes_with_the_same_settings_are_numbered(tmp_path):
    run = read_run(result_file(tmp_path / "a.json"))
    other = read_run(result_file(tmp_path / "b.json", "rns"))
    assert labels([run, other, run]) == ["DNS #1", "RNS", "DNS #2"]


def test_a_label_is_shown_as_it_is(tmp_path):
    run = read_run(result_file(tmp_path / "a.json", "my.$module$:Sampler"))
    figure = negative_hardness.draw([run], "NDCG@20")
    assert figure.legends[0].get_texts()[0].get_text() == r"my.\$module\$:Sampler"


@pytest.mark.parametrize(
    ("given_name", "read", "name"),
    [
        ("ndcg@10", names.metric, "NDCG@10"),
        ("Recall@20", names.metric, "Recall@20"),
        ("normopauc@0.01", names.metric, "NormOPAUC(0.01)"),
        ("llpauc@0.7,0.1", names.metric, "LLPAUC(0.7, 0.1)"),
        ("giniindex@10", names.metric, "Gini index@10"),
        ("gauc", names.metric, "GAUC"),
        ("my_metric@3", names.metric, "my_metric@3"),
        ("dns_mn", names.sampler, "DNS(M,N)"),
        ("mine:Own", names.sampler, "mine:Own"),
        ("ahns_beta", names.axis, "β (ahns_beta)"),
        ("dns_m", names.axis, "M (dns_m)"),
        ("learning_rate", names.axis, "learning rate"),
        ("llpauc_loss_alpha", names.parameter, "α"),
        ("sl_weight_tau", names.parameter, "weight τ"),
        ("my_own", names.axis, "my_own"),
        ("RecBole dynamic (N=32)", names.entry, "RecBole dynamic, N = 32"),
        ("dns_mn (N=200, dns_m=5)", names.entry, "DNS(M,N), N = 200, M = 5"),
        ("ahns (N=8, loss=sl_at_k)", names.entry, "AHNS, N = 8, SL@K loss"),
        ("irgan (irgan_cycle=[5, 2])", names.entry, "IRGAN, cycle = [5, 2]"),
        ("rns", names.entry, "RNS"),
    ],
)
def test_names(given_name, read, name):
    assert read(given_name) == name


def test_all_metrics_samplers_and_losses_have_names():
    assert set(metric_information) <= set(names.METRICS)
    assert set(SAMPLERS) <= set(names.SAMPLERS)
    assert set(LOSSES) <= set(names.LOSSES)


# --- metric ---------------------------------------------------------------------------------------


def test_default_metric_is_the_first_runs(tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        negative_hardness,
        "draw",
        lambda runs, metric, draw=negative_hardness.draw: (
            asked.append(metric) or draw(runs, metric)
        ),
    )
    first = result_file(tmp_path / "a.json", valid_metric="Recall@20")
    second = result_file(tmp_path / "b.json", "rns", valid_metric="NDCG@20")
    assert main(["plot", str(first), str(second), f"--output={tmp_path}"]) == 0
    assert asked == ["Recall@20"]


def test_a_run_without_the_metric_is_mentioned(tmp_path, results, capsys):
    path = str(result_file(tmp_path / "unevaluated.json", ndcg=(None, None, None)))
    assert main(["plot", str(results[0]), path, f"--output={tmp_path}"]) == 0
    assert capsys.readouterr().err == f"{path} has no NDCG@20: only its hardness is shown\n"


def test_a_metric_that_no_run_has(tmp_path, results, capsys):
    output = tmp_path / "figures"
    assert main(["plot", *map(str, results), "--metric=MAP@3", f"--output={output}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("metric=MAP@3: no result file has it; known: recall@20, ndcg@20")
    assert not output.exists()
    unevaluated = result_file(tmp_path / "a.json", ndcg=(None, None, None))
    assert main(["plot", str(unevaluated)]) == 2
    assert (
        "metric=NDCG@20: no result file has it; no epoch was evaluated" in capsys.readouterr().err
    )


# --- mistakes -------------------------------------------------------------------------------------


def changed(**changes):
    return lambda content: json.dumps({**content, **changes})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: "",
        lambda content: "no JSON",
        lambda content: json.dumps(content)[:-40],
        lambda content: "[]",
        lambda content: "null",
        lambda content: "[" * 100_000,
        lambda content: '{"\xff": 1}',
        changed(epochs=[]),
        changed(epochs={}),
        changed(epochs=[1]),
        changed(epochs=[{"hardness": 0.5}]),
        changed(epochs=[{"epoch": 0, "hardness": "0.5"}]),
        changed(epochs=[{"epoch": 0, "hardness": float("nan")}]),
        changed(epochs=[{"epoch": 0, "ndcg@20": "0.5"}]),
        changed(epochs=[{"epoch": 0, "ndcg@20": [0.5]}]),
        changed(epochs=[{"epoch": "0", "ndcg@20": 0.5}]),
        changed(epochs=[{"epoch": 1, "hardness": 10**400}]),
        changed(epochs=[{"epoch": 1, "ndcg@20": -(10**400)}]),
        changed(epochs=[{"epoch": 10**400, "ndcg@20": 0.1}]),
        changed(epochs=[{"epoch": -1, "ndcg@20": 0.1}]),
        changed(epochs=[{"epoch": 1e308, "ndcg@20": 0.1}]),
        changed(epochs=[{"epoch": 1, "train_loss": 10**400}]),
        changed(epochs=[{"epoch": True, "ndcg@20": 0.1}]),
        changed(best_epoch=1.5),
        lambda content: json.dumps(content).replace("2020", "9" * 5000),
        changed(sampler=None),
        changed(config=3),
    ],
)
def test_files_that_are_no_results(tmp_path, capsys, results, spoil):
    path = tmp_path / "spoilt.json"
    path.write_text(spoil(json.loads(results[0].read_text())), encoding="latin-1")
    output = tmp_path / "figures"
    assert main(["plot", str(results[1]), str(path), f"--output={output}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"result file={path}: is no result file of a run" in line
    assert not output.exists()


@pytest.mark.parametrize(
    ("epoch", "message"),
    [
        ({"hardness": -1e308, "ndcg@20": 0.1}, "hardness=-1e+308 of epoch 2"),
        ({"hardness": 0.5, "ndcg@20": 1e308}, "ndcg@20=1e+308 of epoch 2"),
        ({"hardness": 0.5, "ndcg@20": 10**101}, "ndcg@20=1e+101 of epoch 2"),
    ],
)
def test_values_that_cannot_be_drawn(epoch, message, tmp_path, capsys, results):
    path = tmp_path / "extreme.json"
    first = {"epoch": 1, "hardness": 1e99, "ndcg@20": 1e-320}
    content = json.loads(results[0].read_text())
    path.write_text(json.dumps({**content, "epochs": [first, {"epoch": 2, **epoch}]}))
    assert main(["plot", str(path), f"--output={tmp_path / 'figures'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"result file={path}: {message} is beyond what can be drawn")
    path.write_text(json.dumps({**content, "epochs": [first, {"epoch": 2, "ndcg@20": -1e99}]}))
    assert main(["plot", str(path), f"--output={tmp_path / 'figures'}"]) == 0


def test_a_figure_on_a_full_disk(tmp_path, results, capsys, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert main(["plot", str(results[0]), f"--output={tmp_path}"]) == 0
    before = (tmp_path / "negative_hardness.png").read_bytes()
    capsys.readouterr()
    monkeypatch.setattr("os.fsync", full)
    assert main(["plot", str(results[1]), f"--output={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("negative_hardness.png: cannot be written (No space left on device)")
    assert (tmp_path / "negative_hardness.png").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RESULT.json: at least one result file is needed"),
        (["missing.json"], "result file=missing.json: cannot be read: No such file"),
        (["."], "result file=.: cannot be read: Is a directory"),
        (["rns.json", "--metrics=NDCG@20"], "no such option; did you mean --metric?"),
        (["rns.json", "--metric"], "--metric: needs a value"),
        (["rns.json", "--output=rns.json"], "a directory that can be written to"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, monkeypatch, capsys, results, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_help_lists_the_options_and_figures(capsys):
    assert main(["plot", "--help"]) == 0
    printed = capsys.readouterr().out
    for word in ("--metric=", "--output=", "negative_hardness"):
        assert word in printed


def test_pyplot_is_not_needed(tmp_path, results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would raise
    assert main(["plot", str(results[0]), f"--output={tmp_path}"]) == 0
