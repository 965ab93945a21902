"""Tests over users against literal computations, and the figure of their ranks."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from statsmodels.stats.multitest import multipletests

from recbole_hns.figures import critical_difference
from recbole_hns.tuning.statistics import holm
from recbole_hns.tuning.user_statistics import (
    RESAMPLES,
    ranked,
    signed_ranks,
    user_values,
    users_compared,
)

#: Of few values, so that there are ties and zeros.
COARSE = st.lists(st.integers(-4, 4).map(lambda n: n / 8), min_size=1, max_size=60)


def average_ranks(values):
    """Ranks from 1 on, equal values having the mean of theirs."""
    ordered = sorted(values)
    places = {}
    for place, value in enumerate(ordered, 1):
        places.setdefault(value, []).append(place)
    return [np.mean(places[value]) for value in values]


@given(COARSE)
def test_the_effect_is_the_rank_biserial_correlation(differences):
    found = [d for d in differences if d]
    ranks = average_ranks([abs(d) for d in found])
    signed = sum(math.copysign(rank, d) for rank, d in zip(ranks, found))
    expected = signed / sum(ranks) if found else 0.0
    assert signed_ranks(np.array(differences))[1] == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8, unique=True), st.integers(0, 255))
def test_wilcoxons_test_counts_all_signs_of_few_users(sizes, signs):
    differences = [size if signs >> place & 1 else -size for place, size in enumerate(sizes)]
    ranks = average_ranks(sizes)
    sums = [
        sum(rank for rank, sign in zip(ranks, chosen) if sign)
        for chosen in itertools.product((0, 1), repeat=len(ranks))
    ]
    found = sum(rank for rank, d in zip(ranks, differences) if d > 0)
    tails = [np.mean([s <= found for s in sums]), np.mean([s >= found for s in sums])]
    expected = min(1.0, 2 * min(tails))
    assert signed_ranks(np.array(differences, float))[0] == pytest.approx(expected)


@given(st.lists(st.integers(-9, 9).map(float), min_size=60, max_size=90))
def test_wilcoxons_test_of_many_users_is_normal(differences):
    found = [d for d in differences if d]
    n = len(found)
    if n <= 50:  # without ties, signs are counted
        return
    ranks = average_ranks([abs(d) for d in found])
    positive = sum(rank for rank, d in zip(ranks, found) if d > 0)
    ties = Counter(map(abs, found)).values()
    variance = n * (n + 1) * (2 * n + 1) / 24 - sum(t**3 - t for t in ties) / 48
    z = (positive - n * (n + 1) / 4) / math.sqrt(variance)
    expected = math.erfc(abs(z) / math.sqrt(2))
    assert signed_ranks(np.array(differences))[0] == pytest.approx(expected)


def test_no_difference_is_none():
    assert signed_ranks(np.zeros(5)) == (1.0, 0.0)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holms_correction(p_values):
    tested = sorted(p for p in p_values if p == p)
    expected, least = {}, 0.0
    for place, p in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - place) * p))
        expected.setdefault(p, least)
    for p, corrected in zip(p_values, holm(np.array(p_values, float))):
        assert math.isnan(corrected) if p != p else corrected == pytest.approx(expected[p])


def test_holms_correction_is_that_of_statsmodels():
    p_values = np.array([0.01, 0.04, 0.03, 0.005, 0.5, 0.01])
    theirs = multipletests(p_values, method="holm")[1]
    assert holm(p_values).tolist() == pytest.approx(theirs.tolist())


def some_values(users=300, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.random(users)
    rows = {"b": base, "a": base + 0.1 + 0.05 * rng.normal(size=users), "c": rng.random(users)}
    return pd.DataFrame(rows, index=[f"u{u}" for u in range(users)])


def test_pairs_and_their_intervals():
    values = some_values()
    table = users_compared({"ndcg@10": values, "averagepopularity@5": values})
    assert list(table["metric"]) == ["ndcg@10"] * 3 + ["averagepopularity@5"] * 3
    for metric, own in table.groupby("metric"):
        sign = -1 if metric.startswith("average") else 1
        order = sorted(values, key=lambda name: -sign * values[name].mean())
        pairs = list(itertools.combinations(order, 2))
        assert list(zip(own["first"], own["second"])) == pairs
        assert own["p_holm"].tolist() == pytest.approx(holm(own["p_value"].to_numpy()).tolist())
        for row in own.itertuples():
            difference = sign * (values[row.first] - values[row.second])
            assert row.users == 300
            assert row.difference == pytest.approx(difference.mean())
            # drawn by another generator, user by user
            rng = np.random.default_rng(7)
            draws = rng.integers(300, size=(RESAMPLES, 300))
            low, high = np.quantile(difference.to_numpy()[draws].mean(axis=1), [0.025, 0.975])
            width = high - low
            assert row.low == pytest.approx(low, abs=0.1 * width)
            assert row.high == pytest.approx(high, abs=0.1 * width)
            # of pairs: that of independent means would be four times as wide for a and b
            error = 2 * 1.96 * difference.std() / math.sqrt(300)
            assert row.high - row.low == pytest.approx(error, rel=0.1)


def test_ranks_and_friedmans_test():
    rng = np.random.default_rng(3)
    values = pd.DataFrame(rng.integers(0, 4, (50, 4)) / 4 + [0, 0, 0.25, 0], columns=list("abcd"))
    found = ranked("ndcg@10", values)
    ranks = np.array([average_ranks([-value for value in row]) for row in values.to_numpy()])
    assert found.ranks.tolist() == pytest.approx(ranks.mean(axis=0).tolist())
    n, k = ranks.shape
    ties = sum(t**3 - t for row in ranks.tolist() for t in Counter(row).values())
    statistic = 12 / (n * k * (k + 1)) * (ranks.sum(axis=0) ** 2).sum() - 3 * n * (k + 1)
    statistic /= 1 - ties / (n * (k**3 - k))
    assert found.p_value == pytest.approx(chi2.sf(statistic, k - 1))
    assert ranked("ndcg@10", values[["a", "b"]]).p_value is None
    assert ranked("ndcg@10", values.assign(a=0, b=0, c=0, d=0)).p_value == 1
    assert ranked("averagepopularity@5", values).ranks.sum() == pytest.approx(10)


def test_values_are_means_over_the_seeds_that_all_have():
    Path("runs").mkdir()
    files = {
        ("a", 1): {"u1": 0.1, "u2": 0.2},
        ("a", 2): {"u1": 0.3, "u3": 0.9},
        ("a", 3): {"u1": 1.0},
        ("b", 1): {"u1": 0.5, "u2": 0.6},
        ("b", 2): {"u1": 0.0, "u3": 0.8},
    }
    rows = []
    for (name, seed), own in files.items():
        table = pd.DataFrame({"user": list(own), "ndcg@10": list(own.values())})
        table.to_parquet(f"runs/{name}-{seed}.users.parquet")
        rows.append({"sampler": name, "seed": seed, "result_file": f"runs/{name}-{seed}.json"})
    # no file: left out
    rows.append({"sampler": "c", "seed": 1, "result_file": "runs/c-1.json"})
    values = user_values(pd.DataFrame(rows), Path())
    assert list(values) == ["ndcg@10"]
    expected = {"u1": [0.2, 0.25], "u2": [0.2, 0.6], "u3": [0.9, 0.8]}
    for user, own in expected.items():
        assert values["ndcg@10"].loc[user].tolist() == pytest.approx(own)
    assert list(values["ndcg@10"]) == ["a", "b"]
    assert user_values(pd.DataFrame(rows[-1:]), Path()) == {}
    assert users_compared({}).empty


@pytest.mark.parametrize(("same", "bars"), [([], 0), ([(0, 1)], 1), ([(0, 1), (1, 2), (0, 2)], 1)])
def test_the_diagram_joins_what_is_not_distinguished(same, bars):
    names = ["dns_mn", "a$b", "EASE"]
    ranks = pd.Series([1.25, 2.0, 2.75], index=names)
    p_values = pd.DataFrame(np.eye(3), index=names, columns=names)
    for one, other in same:
        p_values.iloc[one, other] = p_values.iloc[other, one] = 0.5
    figure = critical_difference.draw(ranks, p_values, "ndcg@10", 0.05, 943, 0.01)
    (panel,) = figure.axes
    drawn = [line for line in panel.lines if line.get_linewidth() == critical_difference.WIDTH]
    assert len(drawn) == bars
    texts = [text.get_text() for text in panel.texts]
    assert any(text.startswith("DNS(M,N) (1.25)") for text in texts)
    assert any("(2.75) EASE" in text for text in texts)
    assert panel.get_title() == "Mean rank in NDCG@10 over 943 users"
