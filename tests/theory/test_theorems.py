"""The theorems, each against a literal implementation or a brute-force search."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from recbole_hns.errors import UserError
from recbole_hns.sampler import SAMPLERS
from recbole_hns.theory import (
    dns_mn_beta,
    dns_mn_m,
    hits_bounds,
    norm_opauc,
    precision_bounds,
    recall_bounds,
    softmax_v_beta,
    softmax_v_rho,
    suggest_hardness,
)

quick = settings(max_examples=60, deadline=None)
unit_interval = st.floats(0, 1, exclude_min=True)


def literal_norm_opauc(positives, negatives, beta):
    """The definition, pair by pair."""
    k = beta * len(negatives)
    misordered = 0.0
    for rank, negative in enumerate(sorted(negatives, reverse=True)):
        share = min(1.0, max(0.0, k - rank))
        for positive in positives:
            if positive < negative:
                misordered += share
            elif positive == negative:
                misordered += share / 2
    return 1 - misordered / (len(positives) * k)


def counts(positives, negatives):
    """Negatives above, and tied with, each positive."""
    positives, negatives = np.asarray(positives)[:, None], np.asarray(negatives)
    return (negatives > positives).sum(axis=1), (negatives == positives).sum(axis=1)


# --- NormOPAUC ------------------------------------------------------------------------------------


@quick
@given(
    positives=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    negatives=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    beta=unit_interval.filter(lambda beta: beta > 1e-6),
)
def test_norm_opauc_is_the_definition_with_ties_and_fractions(positives, negatives, beta):
    above, tied = counts(positives, negatives)
    ours = norm_opauc(above, len(negatives), beta, tied)
    assert ours == pytest.approx(literal_norm_opauc(positives, negatives, beta), abs=1e-9)


@pytest.mark.parametrize("m", [1, 2, 5, 12])
def test_norm_opauc_of_whole_numbers_of_negatives(m):
    rng = np.random.default_rng(m)
    positives, negatives = rng.integers(0, 5, 7), rng.integers(0, 5, 12)
    above, tied = counts(positives, negatives)
    ours = norm_opauc(above, 12, m / 12, tied)
    assert ours == pytest.approx(literal_norm_opauc(positives, negatives, m / 12), abs=1e-9)


@quick
@given(seed=st.integers(0, 10**6), beta=st.floats(0.01, 1))
def test_norm_opauc_is_scikit_learns_partial_auc(seed, beta):
    rng = np.random.default_rng(seed)
    n_pos, n_neg = rng.integers(1, 30), rng.integers(2, 60)
    scores = rng.permutation(n_pos + n_neg).astype(float)  # no ties
    labels = np.arange(n_pos + n_neg) < n_pos
    above, _ = counts(scores[:n_pos], scores[n_pos:])
    reference = roc_auc_score(labels, scores, max_fpr=beta)
    if beta < 1:  # undo McClish's standardisation
        least = beta**2 / 2
        reference = ((2 * reference - 1) * (beta - least) + least) / beta
    assert norm_opauc(above, n_neg, beta) == pytest.approx(reference, abs=1e-6)


def test_norm_opauc_takes_many_rankings():
    above = np.random.default_rng(0).integers(0, 10, (2, 3, 4))
    many = norm_opauc(above, 9, 0.37)
    assert many.shape == (2, 3)
    assert many[1, 2] == norm_opauc(above[1, 2], 9, 0.37)


def test_constant_scores_and_extremes():
    tied, untied = np.full(4, 6), np.zeros(4, dtype=int)
    assert norm_opauc(untied, 6, 1.0, tied) == 0.5
    assert norm_opauc(untied, 6, 0.3) == 1
    assert norm_opauc(tied, 6, 0.3) == 0


@pytest.mark.parametrize("beta", [0, -0.1, 1.5, math.nan])
def test_beta_out_of_range(beta):
    with pytest.raises(UserError, match=r"beta=.*must be > 0 and <= 1"):
        norm_opauc(np.zeros(1), 3, beta)
    with pytest.raises(UserError):
        softmax_v_rho(beta)
    with pytest.raises(UserError):
        dns_mn_m(beta, 10)


# --- Theorem 3 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_pos", "n_neg", "k"), [(2, 2, 1), (8, 12, 5), (6, 60, 5), (20, 50, 10), (30, 31, 29)]
)
def test_theorem_3_holds_for_all_of_many_rankings(n_pos, n_neg, k):
    trials = 100_000
    rng = np.random.default_rng(n_pos)
    scores = rng.standard_normal((trials, n_pos + n_neg), dtype=np.float32)
    # between rankings that are nearly the worst and nearly perfect
    scores[:, :n_pos] += rng.uniform(-3, 3, (trials, 1))
    positive = np.argsort(-scores, axis=1) < n_pos
    hits = positive[:, :k].sum(axis=1)
    # a negative is correctly ordered with the positives above it, if it is one of the top K
    positives_above, negatives_so_far = positive.cumsum(axis=1), (~positive).cumsum(axis=1)
    correct = np.where(~positive & (negatives_so_far <= k), positives_above, 0).sum(axis=1)
    opauc = correct / (n_pos * n_neg)

    lower, upper = hits_bounds(opauc, n_pos, n_neg, k)
    assert (lower <= hits).all()
    assert (hits <= upper).all()
    assert (lower < upper).any() == (k > 1)
    lower, upper = precision_bounds(opauc, n_pos, n_neg, k)
    assert ((lower <= hits / k) & (hits / k <= upper)).all()
    lower, upper = recall_bounds(opauc, n_pos, n_neg, k)
    assert ((lower <= hits / n_pos) & (hits / n_pos <= upper)).all()


@quick
@given(k=st.integers(1, 60), more_pos=st.integers(1, 60), more_neg=st.integers(1, 300))
def test_bounds_are_exact_for_every_number_of_pairs(k, more_pos, more_neg):
    n_pos, n_neg = k + more_pos, k + more_neg
    pairs = np.arange(n_pos * k + 1)
    h = np.arange(k + 1)[:, None]
    # in integers: h <= sqrt(c) is h^2 <= c; h >= the root of x (N+ + K - x) = c likewise
    most = (h * h <= pairs).sum(axis=0) - 1
    least = (h * (n_pos + k - h) < pairs).sum(axis=0)
    lower, upper = hits_bounds(pairs / (n_pos * n_neg), n_pos, n_neg, k)
    np.testing.assert_array_equal(upper, most)
    np.testing.assert_array_equal(lower, least)


@pytest.mark.parametrize(
    ("n_pos", "n_neg", "k"), [(2, 2, 1), (6, 60, 5), (100, 30, 20), (7, 10**6, 6)]
)
def test_bounds_meet_at_the_perfect_and_the_worst_ranking(n_pos, n_neg, k):
    beta = k / n_neg
    perfect = beta * norm_opauc(np.zeros(n_pos), n_neg, beta)
    assert hits_bounds(perfect, n_pos, n_neg, k) == (k, k)
    assert precision_bounds(perfect, n_pos, n_neg, k) == (1, 1)
    assert recall_bounds(perfect, n_pos, n_neg, k) == (k / n_pos, k / n_pos)
    worst = beta * norm_opauc(np.full(n_pos, n_neg), n_neg, beta)
    assert hits_bounds(worst, n_pos, n_neg, k) == (0, 0)


def test_bounds_take_users_of_different_sizes():
    lower, upper = recall_bounds([0.0, 0.05], n_pos=[30, 40], n_neg=[100, 400], k=20)
    assert lower.shape == upper.shape == (2,)
    assert (lower[0], upper[0]) == (0, 0)
    assert (lower[1], upper[1]) == (20 / 40, 20 / 40)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.1, 5, 50, 5), r"n_pos=5\.0: must be above K"),
        ((0.1, 6, 5, 5), r"n_neg=5\.0: must be above K"),
        ((0.1, 6, 50, 0), r"k=0\.0: must be an integer >= 1"),
        ((0.1, 6, 50, 1.5), r"k=1\.5: must be an integer >= 1"),
        (([0.05, 0.11], 6, 50, 5), r"opauc=0\.11: must be in 0\.\.K/N_-"),
        ((-0.01, 6, 50, 5), "opauc=-0.01"),
        ((math.nan, 6, 50, 5), "opauc=nan"),
    ],
)
def test_theorem_3_needs_its_premises(values, message):
    with pytest.raises(UserError, match=message):
        hits_bounds(*values)


# --- Theorems 1 and 2 -----------------------------------------------------------------------------


@quick
@given(num=st.integers(1, 1000), data=st.data())
def test_m_and_beta_are_inverse(num, data):
    m = data.draw(st.integers(1, num))
    assert dns_mn_m(dns_mn_beta(m, num), num) == m


@quick
@given(beta=unit_interval)
def test_rho_and_beta_are_inverse(beta):
    rho = softmax_v_rho(beta)
    assert rho >= 0
    assert softmax_v_beta(rho) == pytest.approx(beta, rel=1e-12)


@quick
@given(beta=st.floats(0.005, 1))
def test_samplers_use_the_same_equivalences(beta):
    assert SAMPLERS["dns_mn"](opauc_beta=beta, candidate_num=200).dns_m == dns_mn_m(beta, 200)
    assert SAMPLERS["softmax_v"](opauc_beta=beta).softmax_rho == softmax_v_rho(beta)


@pytest.mark.parametrize("m", [1, 3, 10])
def test_dns_with_all_negatives_estimates_opauc(m):
    """Theorem 1: the chance that one of the M hardest negatives beats a positive."""
    rng = np.random.default_rng(0)
    positives, negatives = rng.standard_normal(6), rng.standard_normal(40)
    hardest = np.sort(negatives)[-m:]
    beaten = (hardest > positives[:, None]).mean()
    above, _ = counts(positives, negatives)
    assert norm_opauc(above, 40, dns_mn_beta(m, 40)) == pytest.approx(1 - beaten, abs=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: dns_mn_beta(0, 5),
        lambda: dns_mn_beta(6, 5),
        lambda: dns_mn_beta(1, 0),
        lambda: dns_mn_m(0.5, 0),
        lambda: softmax_v_beta(-1),
        lambda: softmax_v_beta(math.inf),
    ],
)
def test_equivalences_refuse_what_is_out_of_range(call):
    with pytest.raises(UserError):
        call()


# --- suggestion -----------------------------------------------------------------------------------


def test_suggest_hardness():
    suggestion = suggest_hardness(k=20, n_items=1000, candidate_num=200)
    assert suggestion.m == 4
    assert suggestion.rho == pytest.approx(-math.log(0.02))
    assert suggestion.beta == 0.02
    assert suggest_hardness(20, 1000, 200, n_pos=500).beta == 0.04
    assert suggest_hardness(20, 1000, "all", n_pos=100).m == 20


def test_suggest_hardness_with_too_few_candidates_is_the_hardest_there_is():
    suggestion = suggest_hardness(k=5, n_items=10_000, candidate_num=200)
    assert suggestion.m == 1
    assert suggestion.beta == 0.0005


@quick
@given(n_items=st.integers(3, 10**6), num=st.integers(1, 1000), data=st.data())
def test_a_smaller_k_asks_for_harder_negatives(n_items, num, data):
    k = data.draw(st.integers(2, n_items - 1))
    softer, harder = (suggest_hardness(at, n_items, num) for at in (k, k - 1))
    assert 1 <= harder.m <= softer.m <= num
    assert harder.rho > softer.rho > 0
    assert harder.beta < softer.beta < 1


@pytest.mark.parametrize(
    "values",
    [(0, 100, 10), (100, 100, 10), (5, 100, 0), (5, 100, 10, -1), (5, 100, 10, 95)],
)
def test_suggest_hardness_refuses_what_is_out_of_range(values):
    with pytest.raises(UserError):
        suggest_hardness(*values)
