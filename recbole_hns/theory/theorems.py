"""The HNS paper's theorems as functions (WWW 2023).

One number beta in (0, 1] runs through them: OPAUC(beta) is the area under the ROC curve over the
false-positive rates 0..beta. Hard negative sampling optimises it (Theorems 1 and 2), and it bounds
the top-K metrics (Theorem 3). NormOPAUC(beta) is OPAUC(beta) / beta, which lies in [0, 1].
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recbole_hns.errors import UserError


class Bounds(NamedTuple):
    """Between what a metric must lie, arrays of float64.

    Attributes:
        lower: the least it can be.
        upper: the most it can be.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


class Hardness(NamedTuple):
    """One level of sampling hardness, as each sampler takes it.

    Attributes:
        m: M of DNS(M,N), the key ``dns_m``.
        rho: of Softmax-v, the key ``softmax_rho``.
        beta: of OPAUC, the key ``opauc_beta``.
    """

    m: int
    rho: float
    beta: float


# --- Theorems 1 and 2: samplers and OPAUC ---------------------------------------------------------


def dns_mn_beta(m: int, candidate_num: int) -> float:
    """The beta whose OPAUC DNS(M,N) optimises, M / N (Theorem 1).

    Raises:
        UserError: unless 1 <= m <= candidate_num.
    """
    _require("candidate_num", candidate_num, candidate_num >= 1, "must be >= 1")
    _require("m", m, 1 <= m <= candidate_num, f"must be in 1..candidate_num = {candidate_num}")
    return m / candidate_num


def dns_mn_m(beta: float, candidate_num: int) -> int:
    """The M for which DNS(M,N) optimises OPAUC(beta), beta N rounded (Theorem 1).

    Where beta N < 1, this is 1: DNS(1,N), at 1 / N, is the hardest that N candidates allow.

    Raises:
        UserError: unless 0 < beta <= 1 and candidate_num >= 1.
    """
    _require_beta(beta)
    _require("candidate_num", candidate_num, candidate_num >= 1, "must be >= 1")
    return max(1, round(beta * candidate_num))


def softmax_v_beta(rho: float) -> float:
    """The beta whose OPAUC Softmax-v(rho, N) optimises a surrogate of, exp(-rho) (Theorem 2).

    Raises:
        UserError: unless rho >= 0.
    """
    _require("rho", rho, 0 <= rho < math.inf, "must be a number >= 0")
    return math.exp(-rho)


def softmax_v_rho(beta: float) -> float:
    """The rho for which Softmax-v optimises a surrogate of OPAUC(beta), -ln(beta) (Theorem 2).

    Raises:
        UserError: unless 0 < beta <= 1.
    """
    _require_beta(beta)
    return abs(math.log(beta))  # a minus sign would make 0 a -0.0


def suggest_hardness(
    k: int, n_items: int, candidate_num: int | Literal["all"], n_pos: int = 0
) -> Hardness:
    """The hardness to start tuning from when the top K count: beta = K / N_- (Theorem 3).

    With few candidates DNS(M,N) may not get as hard as that: where beta N < 1, M is 1, and
    DNS(1,N) optimises OPAUC(1/N); ceil(1 / beta) candidates would reach beta. For the same reason
    ``dns_mn`` refuses such an ``opauc_beta`` but takes the M given here.

    Args:
        k: K of the metric.
        n_items: items in the catalogue.
        candidate_num: N, candidates per positive; ``all`` is N = N_-, so that M is K.
        n_pos: positives of a user, which are no negatives: N_- = n_items - n_pos. With the
            default 0, N_- is taken to be n_items, of which most users know little.

    Returns:
        M = beta N rounded, but at least 1, rho = -ln(beta), and beta.

    Raises:
        UserError: unless 1 <= k < N_-, n_pos >= 0 and candidate_num >= 1.
    """
    _require("n_pos", n_pos, n_pos >= 0, "must be >= 0")
    n_neg = n_items - n_pos
    _require("k", k, 1 <= k < n_neg, f"must be >= 1 and below the negatives' number {n_neg}")
    beta = k / n_neg
    m = dns_mn_m(beta, n_neg if candidate_num == "all" else candidate_num)
    return Hardness(m=m, rho=softmax_v_rho(beta), beta=beta)


# --- Theorem 3: OPAUC and top-K metrics -----------------------------------------------------------


def hits_bounds(opauc: ArrayLike, n_pos: ArrayLike, n_neg: ArrayLike, k: ArrayLike) -> Bounds:
    """Bounds on the number of positives in the top K (Theorem 3, before its division).

    With c = N_+ N_- OPAUC(K/N_-), the number of correctly ordered pairs of a positive and one of
    the K highest-ranked negatives:

        ceil((N_+ + K - sqrt((N_+ + K)^2 - 4 c)) / 2) <= hits@K <= floor(sqrt(c))

    The upper bound is cut at K, which sqrt(c) can exceed. Both bounds then meet at the perfect
    ranking (K hits) and at the worst (none).

    Args:
        opauc: OPAUC(beta) of one ranking without ties at beta = K / N_-, in [0, beta].
        n_pos: N_+, > K.
        n_neg: N_-, > K.
        k: K.
            All four are numbers or arrays, broadcast against each other.

    Raises:
        UserError: for a value out of these ranges.
    """
    opauc, n_pos, n_neg, k = np.broadcast_arrays(
        *(np.asarray(values, dtype=np.float64) for values in (opauc, n_pos, n_neg, k))
    )
    _require("k", k, (k >= 1) & (k == np.floor(k)), "must be an integer >= 1")
    _require("n_pos", n_pos, n_pos > k, "must be above K")
    _require("n_neg", n_neg, n_neg > k, "must be above K")
    beta = k / n_neg
    _require("opauc", opauc, (opauc >= 0) & (opauc <= beta * (1 + 1e-9)), "must be in 0..K/N_-")
    pairs = np.minimum(n_pos * n_neg * opauc, n_pos * k)
    # a whole number that is off by a rounding error would be carried over by floor and ceil
    whole = np.round(pairs)
    pairs = np.where(np.isclose(pairs, whole, rtol=1e-13, atol=1e-9), whole, pairs)
    both = n_pos + k
    lower = np.ceil((both - np.sqrt(both**2 - 4 * pairs)) / 2)
    return Bounds(lower, np.minimum(np.floor(np.sqrt(pairs)), k))


def precision_bounds(opauc: ArrayLike, n_pos: ArrayLike, n_neg: ArrayLike, k: ArrayLike) -> Bounds:
    """Bounds on Precision@K = hits@K / K (Theorem 3, Eq. 18); see :func:`hits_bounds`."""
    lower, upper = hits_bounds(opauc, n_pos, n_neg, k)
    return Bounds(lower / np.asarray(k), upper / np.asarray(k))


def recall_bounds(opauc: ArrayLike, n_pos: ArrayLike, n_neg: ArrayLike, k: ArrayLike) -> Bounds:
    """Bounds on Recall@K = hits@K / N_+ (Theorem 3, Eq. 17); see :func:`hits_bounds`."""
    lower, upper = hits_bounds(opauc, n_pos, n_neg, k)
    return Bounds(lower / np.asarray(n_pos), upper / np.asarray(n_pos))


# --- OPAUC of a ranking ---------------------------------------------------------------------------


def norm_opauc(
    above: NDArray[np.integer],
    n_neg: int,
    beta: float,
    tied: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """NormOPAUC(beta) of rankings, each given by how many negatives its positives stand below.

    With k = beta N_-, NormOPAUC is 1 - misordered / (N_+ k), where a positive is misordered with
    those of the k highest negatives that stand above it, and by half with those tied with it.
    Where k is not whole, the boundary negative counts with the remaining fraction. A positive
    with a negatives above it and t tied is thus misordered with (min(a, k) + min(a + t, k)) / 2.

    Args:
        above: negatives ranked above each positive, ``[..., N_+]``.
        n_neg: N_-.
        beta: in (0, 1].
        tied: negatives tied with each positive, ``[..., N_+]``; default none.

    Returns:
        ``[...]``, float64, in [0, 1]; times beta, OPAUC(beta).

    Raises:
        UserError: if beta is out of range.
    """
    _require_beta(beta)
    k = beta * n_neg
    misordered = np.minimum(above, k).mean(axis=-1)
    if tied is not None:
        misordered = (misordered + np.minimum(above + tied, k).mean(axis=-1)) / 2
    return 1 - misordered / k


def _require_beta(beta: float) -> None:
    _require("beta", beta, 0 < beta <= 1, "must be > 0 and <= 1")


def _require(key: str, value: ArrayLike, holds: ArrayLike, allowed: str) -> None:
    """Refuse the first of the values for which ``holds`` is false."""
    wrong = np.asarray(value)[~np.asarray(holds)]
    if wrong.size:
        raise UserError.of(key, wrong.flat[0], allowed)
