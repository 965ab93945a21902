"""The HNS paper's simulation (section 3.2): how OPAUC and top-K metrics go together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_hns.errors import UserError
from recbole_hns.theory.theorems import norm_opauc

#: Numbers in the largest array of a chunk; a few such arrays live at a time, each of 2 MiB.
CHUNK_SIZE = 2**18

BETAS_PER_DECADE = 16

METRICS = ("Precision", "Recall", "NDCG")


def simulate(
    n_pos: int,
    n_neg: int,
    topk: Sequence[int],
    trials: int,
    seed: int,
    show_progress: bool = False,
) -> pd.DataFrame:
    """Correlation of NormOPAUC(beta) with Precision@K, Recall@K and NDCG@K over random rankings.

    Every ranking is a uniformly random permutation of the same positives and negatives, which
    assumes nothing about how a model scores them. Recall@K is K / N_+ times Precision@K here, so
    that the two correlate alike. The correlation is Pearson's over the rankings.

    Args:
        n_pos: N_+, positives in a ranking.
        n_neg: N_-, negatives in a ranking.
        topk: the K's.
        trials: rankings to draw.
        seed: of the rankings; the same seed gives the same table.
        show_progress: whether to show a progress bar.

    Returns:
        Columns ``metric``, ``k``, ``beta`` and ``correlation``, a row for each metric, K and beta
        of :func:`beta_grid`. A correlation with a NormOPAUC that is the same for every ranking
        is NaN.

    Raises:
        UserError: if a K is out of 1..n_pos + n_neg - 1, or if the rankings are too few for their
            metrics to differ.
    """
    topk = sorted(set(topk))
    for k in topk:
        if not 1 <= k < n_pos + n_neg:
            allowed = f"must be >= 1 and below n_pos + n_neg = {n_pos + n_neg}"
            raise UserError.of("topk", k, allowed)
    betas = beta_grid(n_neg)
    metrics = [(metric, k) for metric in METRICS for k in topk]
    chunk = max(1, CHUNK_SIZE // max(n_pos + 1, len(metrics) + len(betas)))
    comoments = _Comoments()
    with tqdm(
        total=trials, desc="Simulate", unit="ranking", ncols=100, disable=not show_progress
    ) as bar:
        for above in random_rankings(n_pos, n_neg, trials, seed, chunk):
            opauc = [norm_opauc(above, n_neg, beta) for beta in betas]
            comoments.add(np.stack([*_top_metrics(above, topk), *opauc], axis=1))
            bar.update(len(above))
    for (metric, k), variance in zip(metrics, comoments.variance(), strict=False):
        if variance == 0:
            allowed = f"{metric}@{k} was the same in all of these rankings; more are needed"
            raise UserError.of("trials", trials, allowed)
    rows = [(*metric, beta) for metric in metrics for beta in betas]
    table = pd.DataFrame(rows, columns=["metric", "k", "beta"])
    table["correlation"] = comoments.correlation()[: len(metrics), len(metrics) :].ravel()
    return table


def peaks(correlations: pd.DataFrame) -> pd.DataFrame:
    """Where each curve of a :func:`simulate` table has its maximum.

    Returns:
        A row for each metric and K with the columns of the table and ``at_auc``, the correlation
        at beta = 1, where NormOPAUC is AUC.
    """
    groups = correlations.groupby(["metric", "k"], sort=False)
    best = correlations.loc[groups["correlation"].idxmax()].reset_index(drop=True)
    at_auc = correlations[correlations["beta"] == 1].rename(columns={"correlation": "at_auc"})
    return best.merge(at_auc.drop(columns="beta"), on=["metric", "k"])


def beta_grid(n_neg: int) -> NDArray[np.float64]:
    """False-positive rates from one negative, 1 / n_neg, to 1, equally spaced in log(beta)."""
    betas = np.geomspace(1 / n_neg, 1, 1 + math.ceil(BETAS_PER_DECADE * math.log10(n_neg)))
    betas[-1] = 1
    return betas


def random_rankings(
    n_pos: int, n_neg: int, trials: int, seed: int, chunk: int
) -> Iterator[NDArray[np.int64]]:
    """Draw ``trials`` uniformly random rankings, at most ``chunk`` at a time.

    Instead of permuting n_pos + n_neg items, which costs and stores as much, this draws where the
    negatives fall among the positives. If all items have i.i.d. uniform scores, the ranking is
    uniform; the positives' scores divide [0, 1] into n_pos + 1 gaps distributed as exponential
    variables over their sum, and how many negatives fall into each is multinomial.

    Yields:
        How many negatives are ranked above each positive, positives from the best to the worst,
        ``[chunk, n_pos]``.
    """
    random = np.random.default_rng(seed)
    for start in range(0, trials, chunk):
        gaps = random.standard_exponential((min(chunk, trials - start), n_pos + 1))
        counts = random.multinomial(n_neg, gaps / gaps.sum(axis=1, keepdims=True))
        yield counts[:, :-1].cumsum(axis=1)


def _top_metrics(above: NDArray[np.int64], topk: Sequence[int]) -> list[NDArray[np.float64]]:
    """Precision@K of each ranking for each K, then Recall@K, then NDCG@K; each ``[chunk]``."""
    n_pos = above.shape[1]
    discount = 1 / np.log2(np.arange(1, n_pos + 1) + 1)
    # no positive beyond the K-th can be in the top K
    above = above[:, : max(topk)]
    rank = above + np.arange(1, above.shape[1] + 1)
    gain = 1 / np.log2(rank + 1)
    precision, recall, ndcg = [], [], []
    for k in topk:
        inside = rank <= k
        hits = inside.sum(axis=1)
        precision.append(hits / k)
        recall.append(hits / n_pos)
        ndcg.append(np.where(inside, gain, 0).sum(axis=1) / discount[:k].sum())
    return [*precision, *recall, *ndcg]


class _Comoments:
    """Sums from which the covariances of columns follow, over rows that come in chunks.

    The first row is subtracted from all, so that a constant column has variance 0 exactly and
    no precision is lost to a mean that is large beside the spread.
    """

    def __init__(self) -> None:
        self._shift: NDArray[np.float64] | None = None
        self._count = 0
        self._sum: NDArray[np.float64] = np.zeros(())
        self._products: NDArray[np.float64] = np.zeros(())

    def add(self, rows: NDArray[np.float64]) -> None:
        """Add rows, ``[chunk, columns]``."""
        if self._shift is None:
            self._shift = rows[0]
        rows = rows - self._shift
        self._count += len(rows)
        self._sum = self._sum + rows.sum(axis=0)
        self._products = self._products + rows.T @ rows

    def covariance(self) -> NDArray[np.float64]:
        """``[columns, columns]``."""
        mean = self._sum / self._count
        return self._products / self._count - np.outer(mean, mean)

    def variance(self) -> NDArray[np.float64]:
        """``[columns]``."""
        return self.covariance().diagonal()

    def correlation(self) -> NDArray[np.float64]:
        """Pearson's, ``[columns, columns]``; NaN for a column that is constant."""
        deviation = np.sqrt(self.variance())
        with np.errstate(invalid="ignore"):
            return self.covariance() / np.outer(deviation, deviation)
