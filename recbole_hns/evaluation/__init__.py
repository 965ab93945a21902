"""OPAUC and LLPAUC among RecBole's metrics, and evaluation that gathers just what they need."""

from __future__ import annotations

import recbole.trainer.trainer
from recbole.evaluator import metric_information, metric_types, metrics_dict

import recbole_hns.compat  # noqa: F401
from recbole_hns.evaluation.collector import Collector
from recbole_hns.evaluation.metrics import LLPAUC, OPAUC, NormLLPAUC, NormOPAUC
from recbole_hns.evaluation.opauc import norm_llpauc, norm_opauc

__all__ = [
    "LLPAUC",
    "OPAUC",
    "Collector",
    "NormLLPAUC",
    "NormOPAUC",
    "norm_llpauc",
    "norm_opauc",
    "register",
]


def register() -> None:
    """Make the metrics known to RecBole, for its own trainers too.

    RecBole finds metrics in dictionaries that it fills when it is imported, and each of its
    trainers builds the ``Collector`` that ``recbole.trainer.trainer`` names.
    """
    for metric in (OPAUC, NormOPAUC, LLPAUC, NormLLPAUC):
        name = metric.__name__.lower()
        metrics_dict[name] = metric
        metric_information[name] = metric.metric_need
        metric_types[name] = metric.metric_type
    recbole.trainer.trainer.Collector = Collector


register()
