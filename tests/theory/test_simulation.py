"""The HNS paper's simulation, through the command line and against literal metrics."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare

from recbole_hns.cli import main
from recbole_hns.errors import UserError
from recbole_hns.theory import simulation


def labels_of(above, n_neg):
    """The ranking as a list of True for a positive, False for a negative."""
    labels = [False] * n_neg
    for index, negatives in enumerate(above):
        labels.insert(negatives + index, True)
    return labels


def literal_metrics(labels, k):
    n_pos = sum(labels)
    hits = sum(labels[:k])
    dcg = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(labels))) if labels[rank])
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, n_pos)))
    return {"Precision": hits / k, "Recall": hits / n_pos, "NDCG": dcg / ideal}


def literal_norm_opauc(labels, beta):
    n_pos, n_neg = sum(labels), len(labels) - sum(labels)
    k, rank, misordered, positives_below = beta * n_neg, 0, 0.0, n_pos
    for label in labels:
        if label:
            positives_below -= 1
        else:
            misordered += min(1, max(0, k - rank)) * positives_below
            rank += 1
    return 1 - misordered / (n_pos * k)


@pytest.mark.parametrize(("n_pos", "n_neg"), [(1, 4), (2, 3), (4, 1)])
def test_every_ranking_is_as_likely(n_pos, n_neg):
    drawn = np.concatenate(
        list(simulation.random_rankings(n_pos, n_neg, 60_000, seed=1, chunk=7000))
    )
    assert drawn.shape == (60_000, n_pos)
    rankings = list(itertools.combinations_with_replacement(range(n_neg + 1), n_pos))
    found = {tuple(ranking) for ranking in drawn.tolist()}
    assert found == set(rankings)
    _, number = np.unique(drawn, axis=0, return_counts=True)
    assert len(number) == math.comb(n_pos + n_neg, n_pos)
    assert chisquare(number).pvalue > 0.001


@pytest.mark.parametrize(("n_pos", "n_neg", "topk"), [(4, 7, [3, 1, 6]), (1, 9, [2]), (9, 3, [11])])
def test_correlations_are_those_of_literal_metrics(monkeypatch, n_pos, n_neg, topk):
    betas = simulation.beta_grid(n_neg)
    # chunks of 50 rankings, the last not full
    monkeypatch.setattr(simulation, "CHUNK_SIZE", 50 * (3 * len(topk) + len(betas)))
    trials = 203
    table = simulation.simulate(n_pos, n_neg, topk, trials, seed=3)
    chunks = list(simulation.random_rankings(n_pos, n_neg, trials, seed=3, chunk=50))
    rankings = [labels_of(above, n_neg) for above in np.concatenate(chunks)]
    assert len(table) == 3 * len(topk) * len(betas)
    for row in table.itertuples():
        metric = [literal_metrics(labels, row.k)[row.metric] for labels in rankings]
        opauc = [literal_norm_opauc(labels, row.beta) for labels in rankings]
        assert row.correlation == pytest.approx(np.corrcoef(metric, opauc)[0, 1], abs=1e-9)


@pytest.mark.parametrize("n_neg", [1, 2, 1000, 12345])
def test_beta_grid_goes_from_one_negative_to_all(n_neg):
    betas = simulation.beta_grid(n_neg)
    assert betas[0] == pytest.approx(1 / n_neg)
    assert betas[-1] == 1
    assert (betas > 0).all()
    assert (betas <= 1).all()
    if n_neg > 2:
        np.testing.assert_allclose(np.diff(np.log(betas)), np.log(betas[1] / betas[0]))


def test_constant_norm_opauc_has_no_correlation():
    """Ten rankings whose one positive is never above the first negative."""
    table = simulation.simulate(1, 1000, [500], trials=10, seed=0)
    assert math.isnan(table["correlation"].iloc[0])
    assert simulation.peaks(table)["correlation"].notna().all()


def test_the_papers_observations_and_files(tmp_path, capsys):
    output = tmp_path / "made" / "here"
    assert main(["simulate", "--trials=20000", f"--output={output}"]) == 0
    table = pd.read_csv(output / "correlations.csv")
    assert list(table.columns) == ["metric", "k", "beta", "correlation"]
    assert table["beta"].max() == 1
    assert set(table["metric"]) == {"Precision", "Recall", "NDCG"}
    for _, curves in table.groupby("metric"):
        last_peak = 0
        for _, curve in curves.groupby("k"):
            peak = curve.loc[curve["correlation"].idxmax()]
            assert peak["correlation"] > 2 * curve.loc[curve["beta"] == 1, "correlation"].item()
            assert peak["beta"] >= last_peak
            last_peak = peak["beta"]
    by_metric = dict(list(table.groupby("metric")["correlation"]))
    np.testing.assert_allclose(by_metric["Precision"], by_metric["Recall"], atol=1e-12)

    assert (output / "correlations.png").read_bytes().startswith(b"\x89PNG")
    assert (output / "correlations.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in output.iterdir()) == [
        f"correlations.{kind}" for kind in ("csv", "pdf", "png")
    ]
    printed = capsys.readouterr()
    for metric in ("Precision", "Recall", "NDCG"):
        (line,) = [line for line in printed.out.splitlines() if line.startswith(f"{metric}@K, ")]
        assert [f"K={k} at beta=" in line for k in (5, 10, 20, 50)] == [True] * 4
    assert printed.err == ""  # a bar is for terminals


def test_same_seed_same_table():
    first, again, other = (simulation.simulate(5, 20, [3], 50, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert not first.equals(other)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--topk=0", "topk=0: must be an integer > 0 or a list"),
        ("--topk=[]", "topk=[]: must be"),
        ("--topk=5,x", "topk=5,x: must be"),
        ("--topk=12", "topk=12: must be >= 1 and below n_pos + n_neg = 12"),
        ("--n_pos=-1", "n_pos=-1: must be an integer > 0 and <="),
        ("--n_neg=1.5", "n_neg=1.5: must be an integer > 0 and <="),
        ("--trials=one", "trials=one: must be an integer > 0"),
        ("--trials=1", "trials=1: Precision@3 was the same in all of these rankings"),
        ("--seed=-1", "seed=-1: must be an integer >= 0"),
        ("--output=", "output=: must be a string"),
        ("--trails=9", "trails=9: no such option; did you mean --trials?"),
        ("trials", "trials: options have the form --key=value"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, monkeypatch, capsys, argument, message):
    monkeypatch.chdir(tmp_path)
    sizes = {"--n_pos": "5", "--n_neg": "7", "--topk": "3", "--trials": "20"}
    sizes.pop(argument.partition("=")[0], None)
    given = [f"{key}={value}" for key, value in sizes.items()]
    assert main(["simulate", *given, argument]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert message in lines[0]


def test_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["simulate", f"--output={tmp_path / 'file'}"]) == 2
    assert "a directory that can be written to" in capsys.readouterr().err


def test_help_lists_the_options(capsys):
    assert main(["simulate", "--help"]) == 0
    printed = capsys.readouterr().out
    for option in ("n_pos", "n_neg", "topk", "trials", "seed", "output"):
        assert f"--{option}=" in printed


def test_a_k_beyond_the_ranking_is_refused():
    with pytest.raises(UserError, match="topk=5"):
        simulation.simulate(2, 3, [1, 5], trials=10, seed=0)
