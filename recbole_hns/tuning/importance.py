"""How much each parameter of a search mattered, by Optuna's fANOVA."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

#: A number whose largest value is this many times its smallest counts by its logarithm.
LOGARITHMIC = 20

#: As few trials say nothing.
FEWEST = 8


def importances(
    trials: pd.DataFrame, parameters: Sequence[str], kinds: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The importance of parameters over all trials, and over those of the kind of the best.

    Args:
        trials: with the parameters and ``score``, the best first. What a trial does not have is
            missing there.
        parameters: columns.
        kinds: those that say of which kind a trial is, as far as they are there.

    Returns:
        By which trials, of parameters that all of them have, the importances, which sum to 1.
    """
    best = trials.iloc[0]
    kind = {key: best[key] for key in kinds if key in trials and not pd.isna(best[key])}
    same = trials
    for key, value in kind.items():
        same = same[same[key] == value]
    found = {f"all {len(trials)} trials": _importances(trials, parameters)}
    if len(same) < len(trials):
        told = ", ".join(map(str, kind.values()))
        found[f"{len(same)} trials of {told}"] = _importances(same, parameters)
    return {name: values for name, values in found.items() if values}


def _importances(trials: pd.DataFrame, parameters: Sequence[str]) -> dict[str, float]:
    distributions = {
        key: _distribution(trials[key])
        for key in parameters
        if trials[key].notna().all() and trials[key].nunique() > 1
    }
    if len(trials) < FEWEST or not distributions or trials["score"].nunique() < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for row in trials.to_dict("records"):
        params = {key: _plain(row[key], each) for key, each in distributions.items()}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=float(row["score"])
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _distribution(values: pd.Series) -> BaseDistribution:
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return CategoricalDistribution(sorted(values.unique(), key=str))
    low, high = float(values.min()), float(values.max())
    return FloatDistribution(low, high, log=low > 0 and high >= LOGARITHMIC * low)


def _plain(value: Any, distribution: BaseDistribution) -> Any:
    return float(value) if isinstance(distribution, FloatDistribution) else value
