"""Rows of a comparison compared over users: paired tests, intervals and effect sizes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap, friedmanchisquare, rankdata, wilcoxon

from recbole_hns.evaluation.user_metrics import SUFFIX
from recbole_hns.tuning.statistics import holm, is_smaller

#: How often users are drawn for the bootstrap's intervals, and from which seed.
RESAMPLES = 2000
SEED = 0

#: What an interval covers.
CONFIDENCE = 0.95

#: Values that the bootstrap has in memory at once: 128 MiB.
MOST_VALUES = 2**24

#: Decimals of a user's value: the rest is rounding, and would make a difference of none.
DECIMALS = 12


class Ranked(NamedTuple):
    """Rows by their ranks within each user.

    Attributes:
        ranks: mean rank of each row, 1 being the best; of equal values the mean of their ranks.
        p_value: of Friedman's test that all are alike; None for two rows, which it is not for.
    """

    ranks: pd.Series
    p_value: float | None


def user_values(runs: pd.DataFrame, folder: Path) -> dict[str, pd.DataFrame]:
    """Each user's test metrics, as means over the seeds that all rows have.

    Args:
        runs: finished runs, with columns ``sampler``, ``seed`` and ``result_file``, relative to
            ``folder``. Those without a file of the users' metrics are left out.
        folder: of the comparison.

    Returns:
        By metric, such as ``ndcg@10``: one row a user, those that all have, and one column for each
        ``sampler``, in the order of ``runs``.
    """
    paths = [(folder / file).with_suffix(SUFFIX) for file in runs["result_file"]]
    # without runs, a list would choose columns
    runs = runs.assign(path=paths)[np.array([path.exists() for path in paths], bool)]
    seeds = [set(own) for _, own in runs.groupby("sampler")["seed"]]
    shared = set.intersection(*seeds) if seeds else set()
    runs = runs[runs["seed"].isin(shared)]
    read = {path: pd.read_parquet(path).set_index("user") for path in runs["path"].unique()}
    means = {
        name: pd.concat([read[path] for path in own["path"]]).groupby(level=0).mean()
        for name, own in runs.groupby("sampler", sort=False)
    }
    if not means:
        return {}
    joined = pd.concat(means, axis=1, join="inner").round(DECIMALS)
    metrics = next(iter(means.values())).columns
    found = {metric: joined.xs(metric, axis=1, level=1) for metric in metrics}
    return {
        metric: values.dropna() for metric, values in found.items() if values.shape[1] == len(means)
    }


def users_compared(values: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every two rows of a comparison, by each metric.

    ``first`` has the better mean. ``difference`` is by how much its mean is better, ``low`` and
    ``high`` are the bootstrap's percentile interval of that, for users drawn with replacement.
    ``p_value`` is of Wilcoxon's two-sided signed-rank test, in which users without a difference do
    not count; ``p_holm`` is corrected by Holm's method for all pairs of the metric. ``effect`` is
    the matched-pairs rank-biserial correlation: the ranks of the users for whom ``first`` is better
    less those of the others, over all, from -1 to 1.

    Args:
        values: as :func:`user_values` returns them.
    """
    tables = [_compared(metric, table) for metric, table in values.items()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _compared(metric: str, values: pd.DataFrame) -> pd.DataFrame:
    sign = -1.0 if is_smaller(metric) else 1.0
    means = values.mean()
    ordered = (sign * means).sort_values(ascending=False, kind="stable").index
    drawn = _drawn_means(values)
    rows = []
    for first, second in itertools.combinations(ordered, 2):
        differences = sign * (values[first] - values[second]).to_numpy().round(DECIMALS)
        tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
        low, high = np.quantile(sign * (drawn[first] - drawn[second]), tails)
        p_value, effect = signed_ranks(differences)
        rows.append(
            {
                "metric": metric,
                "first": first,
                "second": second,
                "users": len(values),
                "difference": differences.mean(),
                "low": low,
                "high": high,
                "p_value": p_value,
                "effect": effect,
            }
        )
    table = pd.DataFrame(rows)
    if len(table):
        table.insert(8, "p_holm", holm(table["p_value"].to_numpy()))
    return table


def _drawn_means(values: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """The means of users drawn with replacement, the same ones for all columns.

    Returns:
        By column, ``[RESAMPLES]``.
    """
    if len(values) < 2:
        return {name: np.full(RESAMPLES, column.mean()) for name, column in values.items()}
    data = values.to_numpy(np.float64).T
    # draws the same indices for every row of its data, so that differences are of pairs
    drawn = bootstrap(
        (data,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, MOST_VALUES // data.size),
        axis=1,
        method="percentile",
        random_state=np.random.default_rng(SEED),
    ).bootstrap_distribution
    return dict(zip(values, drawn, strict=True))


def signed_ranks(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Wilcoxon's two-sided p-value and the rank-biserial correlation; 1 and 0 without differences.

    Args:
        differences: of pairs, ``[n]``.
    """
    found = differences[differences != 0]
    if not len(found):
        return 1.0, 0.0
    sizes = np.abs(found)
    # with ties SciPy would go through all signs of a few users, which takes seconds a pair
    exact = len(found) <= 50 and len(np.unique(sizes)) == len(sizes)
    p_value = float(wilcoxon(found, method="exact" if exact else "approx").pvalue)
    positive = rankdata(sizes)[found > 0].sum()
    ranks = len(found) * (len(found) + 1) / 2
    return p_value, float(2 * positive / ranks - 1)


def ranked(metric: str, values: pd.DataFrame) -> Ranked:
    """Ranks within users, by one metric.

    Args:
        metric: its key.
        values: one row a user, one column a row of the comparison.
    """
    ranks = values.rank(axis=1, ascending=is_smaller(metric))
    p_value = None
    if values.shape[1] > 2:
        alike = (ranks.nunique(axis=1) == 1).all()
        p_value = 1.0 if alike else float(friedmanchisquare(*values.to_numpy().T).pvalue)
    return Ranked(ranks.mean(), p_value)
