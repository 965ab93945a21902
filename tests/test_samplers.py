"""Selection and weights of each sampler against its formula, written out literally in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from unclamped import Unclamped

from recbole_hns.errors import UserError
from recbole_hns.sampler import SAMPLERS
from recbole_hns.sampler.ahns import AHNS, SMALLEST_BASE, ahns_target
from recbole_hns.sampler.dns import DNS
from recbole_hns.sampler.dns_mn import DNSMN
from recbole_hns.sampler.pns import PNS
from recbole_hns.sampler.rns import RNS
from recbole_hns.sampler.softmax import Softmax
from recbole_hns.sampler.softmax_v import SoftmaxV, softmax_v_weight

# few distinct values, so that ties are common
TIED = st.sampled_from([-3.0, -1.5, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0])
ANY = st.floats(-20, 20, allow_subnormal=False)


def batches(min_n=1, max_n=9):
    """Positive scores [B, 1] and candidate scores [B, N], float64, often with ties."""

    @st.composite
    def build(draw):
        shape = draw(st.integers(1, 4)), draw(st.integers(min_n, max_n))
        elements = draw(st.sampled_from([TIED, ANY]))
        scores = draw(hnp.arrays(np.float64, shape, elements=elements))
        pos = draw(hnp.arrays(np.float64, (shape[0], 1), elements=elements))
        return torch.from_numpy(pos), torch.from_numpy(scores)

    return build()


def chosen(sampler, pos, scores):
    """Chosen columns and weights as lists of lists, whatever the sampler leaves out."""
    index, weight = sampler.select(pos, scores)
    if index is None:
        index = torch.arange(scores.shape[1]).expand(scores.shape)
    if weight is None:
        weight = torch.full(index.shape, 1 / index.shape[1], dtype=scores.dtype)
    return index.tolist(), weight.tolist()


def first_best(values):
    """Position of the smallest value, the first of equals."""
    best = 0
    for j, value in enumerate(values):
        if value < values[best]:
            best = j
    return best


def loss(pos, neg):
    """-log sigmoid(pos - neg), literally but without overflow."""
    x = pos - neg
    return math.log1p(math.exp(-x)) if x > 0 else -x + math.log1p(math.exp(x))


@pytest.mark.parametrize("sampler", [RNS(), PNS()])
def test_rns_and_pns_take_what_was_drawn(sampler):
    pos, scores = torch.randn(5, 1), torch.randn(5, 1)
    assert chosen(sampler, pos, scores) == ([[0]] * 5, [[1.0]] * 5)


@given(batches())
def test_dns(batch):
    pos, scores = batch
    index, weight = chosen(DNS(), pos, scores)
    for row, (picked,) in zip(scores.tolist(), index, strict=True):
        assert picked == first_best([-r for r in row])
    assert weight == [[1.0]] * len(scores)


@given(batches(), st.integers(1, 9))
def test_dns_mn_mean(batch, m):
    pos, scores = batch
    n = scores.shape[1]
    m = min(m, n)
    index, weight = chosen(DNSMN(candidate_num=n, dns_m=m), pos, scores)
    for row, picked, w in zip(scores.tolist(), index, weight, strict=True):
        assert len(set(picked)) == m
        # which of equal scores are taken is left open, their values are not
        assert sorted((row[j] for j in picked), reverse=True) == sorted(row, reverse=True)[:m]
        assert w == pytest.approx([1 / m] * m)


def test_dns_mn_draw_takes_each_of_the_m_alike():
    sampler = DNSMN(candidate_num=6, dns_m=3, dns_mode="draw")
    scores = torch.tensor([[0.0, 5.0, 1.0, 4.0, 3.0, 2.0]]).expand(6000, 6)
    index, weight = sampler.select(torch.zeros(6000, 1), scores)
    assert weight is None
    assert index.shape == (6000, 1)
    counts = torch.bincount(index.view(-1), minlength=6)
    assert counts[[0, 2, 5]].sum() == 0
    expected = 2000
    chi2 = ((counts[[1, 3, 4]] - expected) ** 2 / expected).sum()
    assert chi2 < 13.8  # 0.1% point of 2 degrees of freedom


@given(batches(), st.sampled_from([0.01, 0.1, 1.0, 7.0]))
def test_softmax(batch, tau):
    pos, scores = batch
    index, weight = chosen(Softmax(softmax_tau=tau), pos, scores)
    for row, picked, w in zip(scores.tolist(), index, weight, strict=True):
        assert picked == list(range(len(row)))
        powers = [math.exp((r - max(row)) / tau) for r in row]
        assert w == pytest.approx([p / sum(powers) for p in powers], rel=1e-9, abs=1e-12)


@given(batches(), st.sampled_from([0.0, 0.01, 0.1, 1.0, 10.0, 100.0]))
def test_softmax_v(batch, rho):
    pos, scores = batch
    index, weight = chosen(SoftmaxV(softmax_rho=rho), pos, scores)
    for (positive,), row, picked, w in zip(pos.tolist(), scores.tolist(), index, weight):
        assert picked == list(range(len(row)))
        losses = [loss(positive, r) for r in row]
        mean = sum(losses) / len(losses)
        variance = sum((x - mean) ** 2 for x in losses) / len(losses)
        if len(set(row)) == 1 or rho == 0:
            expected = [1 / len(row)] * len(row)
        elif variance < (1e-12 * max(losses)) ** 2:  # the literal formula is lost to rounding
            assert sum(w) == pytest.approx(1)
            continue
        else:
            tau = math.sqrt(variance / (2 * rho))
            powers = [math.exp((x - max(losses)) / tau) for x in losses]
            expected = [p / sum(powers) for p in powers]
        assert w == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rho", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(
    "scores",
    [
        [[0.3] * 7],  # all losses equal
        [[0.3]],  # one candidate
        [[-1e4, 0.0, 1e4]],  # large gaps
        [[1e4] * 3 + [-1e4]],
        [[0.1, 0.1 + 1e-7, 0.1]],  # a variance of rounding errors
    ],
)
def test_softmax_v_is_finite_and_sums_to_one(scores, rho, dtype):
    scores = torch.tensor(scores, dtype=dtype)
    for pos in (-1e4, 0.0, 0.3, 1e4):
        weight = softmax_v_weight(torch.tensor([[pos]], dtype=dtype), scores, rho)
        assert torch.isfinite(weight).all()
        assert weight.sum().item() == pytest.approx(1, rel=1e-6)
        if len(set(scores[0].tolist())) == 1:
            assert weight[0].tolist() == pytest.approx([1 / scores.shape[1]] * scores.shape[1])


@given(
    batches(),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from([0.1, 0.4, 1.0]),
    st.sampled_from([-0.5, -1.0, -2.0, -3.7]),
)
@settings(max_examples=300)
def test_ahns(batch, alpha, beta, p):
    pos, scores = batch
    index, _ = chosen(AHNS(ahns_alpha=alpha, ahns_beta=beta, ahns_p=p), pos, scores)
    for (positive,), row, (picked,) in zip(pos.tolist(), scores.tolist(), index):
        base = max(positive + alpha, SMALLEST_BASE)
        target = beta * base ** (p + 1)
        distances = [abs(r - target) for r in row]
        if abs(target) > 1e6:  # differences of scores are lost beside it; the nearest is known
            assert row[picked] == max(row)
            continue
        assert distances[picked] == pytest.approx(min(distances), rel=1e-9, abs=1e-9)
        if positive in (-3.0, -1.5, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0) and p == -1.0:
            assert picked == first_best(distances)


def test_softmax_v_of_equal_scores_is_uniform_whatever_the_vector_width():
    """Found by hypothesis: vectorised and scalar softplus differ in the last bit."""
    for num in range(1, 40):
        for pos in (0.0, -15.0, 3.7):
            scores = torch.full((3, num), -12.7662, dtype=torch.float64)
            weight = softmax_v_weight(scores.new_full((3, 1), pos), scores, 3.0)
            torch.testing.assert_close(weight, torch.full_like(weight, 1 / num))


def test_ahns_takes_the_first_of_two_as_near():
    sampler = AHNS(ahns_p=-1.0, ahns_beta=0.5)
    scores = torch.tensor([[3.0, 1.0, 0.0, 1.0], [0.5, 0.5, 0.5, 9.0]], dtype=torch.float64)
    index, _ = sampler.select(torch.zeros(2, 1, dtype=torch.float64), scores)
    assert index.tolist() == [[1], [0]]


def test_ahns_as_the_authors_program_has_it():
    generator = torch.Generator().manual_seed(0)
    pos = torch.randn(50, 1, dtype=torch.float64, generator=generator)
    scores = torch.randn(50, 9, dtype=torch.float64, generator=generator)
    index, _ = Unclamped(ahns_alpha=0.3, ahns_beta=0.4, ahns_p=-2).select(pos, scores)
    for (positive,), row, (picked,) in zip(pos.tolist(), scores.tolist(), index.tolist()):
        assert picked == first_best([abs(r - 0.4 / (positive + 0.3)) for r in row])


@pytest.mark.parametrize("p", [-0.5, -1.0, -2.0, -3.7])
@pytest.mark.parametrize("alpha", [0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ahns_target_is_finite_and_falls_in_relative_hardness(p, alpha, dtype):
    pos = torch.tensor([-5.0, 0.0, 1e-9, 50.0], dtype=dtype)
    target = ahns_target(pos, alpha, 0.4, p)
    assert torch.isfinite(target).all()
    relative = target / (pos + alpha).clamp(min=SMALLEST_BASE)
    assert (relative[1:] <= relative[:-1]).all()  # criterion C2
    scores = torch.tensor([[-1.0, 0.2, 3.0]], dtype=dtype).expand(4, 3)
    sampler = AHNS(ahns_alpha=alpha, ahns_p=p)
    index = sampler.select(pos.unsqueeze(1), scores).index
    if p < -1:
        assert index[0].item() == 2  # a badly scored positive gets the hardest


def test_ahns_at_p_minus_1_has_the_target_beta_everywhere():
    pos = torch.tensor([-5.0, 0.0, 1e-9, 50.0])
    assert ahns_target(pos, 0.3, 0.7, -1.0).tolist() == pytest.approx([0.7] * 4)


# with candidate_num: all, every item has a column and what is no negative scores minus infinity


def test_all_negatives_skip_what_is_none():
    inf = math.inf
    pos = torch.tensor([[0.5], [0.5]], dtype=torch.float64)
    scores = torch.tensor(
        [[-inf, 1.0, -inf, 0.2, 3.0, 0.1], [-inf, 1.0, 2.0, -inf, -inf, -inf]], dtype=torch.float64
    )
    assert DNS(candidate_num="all").select(pos, scores).index.tolist() == [[4], [2]]
    near = AHNS(candidate_num="all", ahns_p=-1.0, ahns_beta=0.15)
    assert near.select(pos, scores).index.tolist()[1] == [1]
    for sampler in (
        Softmax(candidate_num="all"),
        SoftmaxV(candidate_num="all"),
        DNSMN(candidate_num="all", dns_m=3),
    ):
        index, weight = sampler.select(pos, scores)
        if index is not None:
            weight = torch.zeros_like(scores).scatter_(1, index, weight)
        assert (weight[scores == -inf] == 0).all()
        assert weight.sum(dim=1).tolist() == pytest.approx([1, 1])
    some = torch.tensor([[1.0, 0.2, 3.0, 0.1]], dtype=torch.float64)
    expected = softmax_v_weight(pos[:1], some, 3.0)
    weight = SoftmaxV(candidate_num="all", softmax_rho=3.0).select(pos, scores).weight
    torch.testing.assert_close(weight[:1, [1, 3, 4, 5]], expected)


@pytest.mark.parametrize("mode", ["mean", "draw"])
def test_dns_mn_over_all_negatives_has_m_of_each_user(mode):
    scores = torch.full((2, 9), -math.inf)
    scores[0, 1:9] = torch.arange(8.0)
    scores[1, 1:5] = torch.arange(4.0)
    sampler = DNSMN(candidate_num="all", opauc_beta=0.5, dns_mode=mode)
    for _ in range(20):
        index, weight = sampler.select(torch.zeros(2, 1), scores)
        if mode == "draw":
            assert index[0].item() in (5, 6, 7, 8)
            assert index[1].item() in (3, 4)
        else:
            assert set(index[0].tolist()) == {5, 6, 7, 8}
            assert weight[0].tolist() == [0.25] * 4
            assert {i for i, w in zip(index[1].tolist(), weight[1].tolist()) if w} == {3, 4}
            assert weight[1].sum() == 1


# one number for the hardness of two methods


def test_opauc_beta_sets_the_hardness():
    assert DNSMN(candidate_num=200, opauc_beta=0.05).dns_m == 10
    assert SoftmaxV(opauc_beta=0.05).softmax_rho == pytest.approx(-math.log(0.05))
    assert SoftmaxV(opauc_beta=1.0).softmax_rho == 0


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: DNSMN(opauc_beta=0.5, dns_m=3), "dns_m=3"),
        (lambda: SoftmaxV(opauc_beta=0.5, softmax_rho=3.0), "softmax_rho=3.0"),
        (lambda: DNSMN(candidate_num=100, opauc_beta=0.001), "opauc_beta=0.001"),
        (lambda: DNSMN(candidate_num=5, dns_m=6), "dns_m=6"),
        (lambda: DNS(dns_m=6), "dns_m=6"),
        (lambda: DNS(candidate_num=True), "candidate_num=True"),
        (lambda: AHNS(ahns_beta=math.nan), "ahns_beta=nan"),
        (lambda: AHNS(ahns_beta=math.inf), "ahns_beta=inf"),
    ],
)
def test_what_a_sampler_refuses(build, text):
    with pytest.raises(UserError, match=text):
        build()


def test_every_sampler_is_registered_under_its_file_name():
    assert list(SAMPLERS) == [cls.__module__.rpartition(".")[2] for cls in SAMPLERS.values()]
