"""Checks of a config's keys beside the bounds that each has by itself."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from typing import Any

from recbole.evaluator import metric_information, metric_types
from recbole.utils import EvaluatorType

from recbole_hns.config.yaml_files import literal
from recbole_hns.errors import UserError
from recbole_hns.evaluation.metrics import checked_betas, checked_pairs


def check_optional(values: Mapping[str, Any]) -> None:
    """Refuse what RecBole would fail on when it comes to use it.

    Raises:
        UserError: for ``clip_grad_norm`` with other arguments than PyTorch's, or ``log_wandb``
            without wandb.
    """
    clip = values.get("clip_grad_norm")
    if clip and not {"max_norm"} <= set(clip) <= {"max_norm", "norm_type"}:
        raise UserError.of("clip_grad_norm", clip, "must hold max_norm, and may hold norm_type")
    if values.get("log_wandb") and importlib.util.find_spec("wandb") is None:
        raise UserError.of("log_wandb", True, "needs wandb: pip install wandb")


def checked_rates(values: Mapping[str, Any]) -> dict[str, list[float]]:
    """The rates of OPAUC and LLPAUC: ``opauc_betas``, ``llpauc_alphas``, ``llpauc_betas``.

    Raises:
        UserError: for a rate that is none, or lists that do not pair.
    """
    pairs = checked_pairs(values.get("llpauc_alphas"), values.get("llpauc_betas"))
    alphas, betas = map(list, zip(*pairs, strict=True))
    return {
        "opauc_betas": checked_betas(values.get("opauc_betas")),
        "llpauc_alphas": alphas,
        "llpauc_betas": betas,
    }


def checked_metrics(values: Mapping[str, Any]) -> list[str]:
    """The names in ``metrics``, after a look at them and at ``eval_args``.

    Raises:
        UserError: for a metric that does not exist or does not suit ``eval_args``, or for
            ``eval_args`` that RecBole would fail on later, or take for something else.
    """
    eval_args = values.get("eval_args")
    if not isinstance(eval_args, dict):
        raise UserError.of("eval_args", eval_args, "must be a dictionary")
    _check_eval_args(eval_args)
    metrics = values["metrics"]
    metrics = [metrics] if isinstance(metrics, str) else metrics
    for metric in metrics:
        if metric.lower() not in metric_information:
            raise UserError.of("metrics", metrics, f"RecBole has no metric {metric}")
    by_value = [name for name in metrics if metric_types[name.lower()] == EvaluatorType.VALUE]
    if by_value and (len(by_value) < len(metrics) or "full" in _modes(eval_args)):
        allowed = f"{by_value[0]} rates values: neither beside rankings nor in mode full"
        raise UserError.of("metrics", metrics, allowed)
    return metrics


def checked_valid_metric(values: Mapping[str, Any]) -> str:
    """``valid_metric`` as the results spell it, which have to hold it.

    Args:
        values: with checked metrics and rates.

    Raises:
        UserError: if it is not among the results, before any epoch is spent.
    """
    given = values["valid_metric"]
    metric, at, cutoff = given.partition("@")
    metrics = [name.lower() for name in values["metrics"]]
    if metric.lower() not in metrics:
        allowed = f"its metric must be one of metrics = {', '.join(values['metrics'])}"
        raise UserError.of("valid_metric", given, allowed)
    needs = metric_information[metric.lower()]
    if "rec.opauc" in needs:
        what, key, listed = "rate", "opauc_betas", values["opauc_betas"]
    elif "rec.llpauc" in needs:
        what, key = "pair of rates", "(llpauc_alphas, llpauc_betas)"
        listed = list(zip(values["llpauc_alphas"], values["llpauc_betas"], strict=True))
    elif {"rec.topk", "rec.items"}.intersection(needs):
        what, key, listed = "K", "topk", values["topk"]
    elif at:
        raise UserError.of("valid_metric", given, f"{metric} takes no @")
    else:
        return given
    cutoff = literal(cutoff)
    if cutoff not in listed:
        allowed = f"its {what} must be one of {key} = {listed}"
        raise UserError.of("valid_metric", given, allowed)
    # as the results spell it
    spelt = listed[listed.index(cutoff)]
    spelt = ",".join(map(str, spelt)) if isinstance(spelt, tuple) else spelt
    return f"{metric}@{spelt}"


def ready_split(dataset: str, values: Mapping[str, Any]) -> list[str] | None:
    """``benchmark_filename``: what is given, else the files of a ready split where they are all.

    RecBole takes ``benchmark_filename`` only from the user; ``NAME.train.inter`` and
    ``NAME.test.inter`` without a ``NAME.inter`` say as much.

    Raises:
        UserError: if the protocol ``valid`` needs more parts.
    """
    files = values["benchmark_filename"]
    start = os.path.join(values["data_path"], dataset, dataset)
    # RecBole reads its own ml-100k, wherever data_path is
    if files is None and dataset != "ml-100k" and not os.path.isfile(f"{start}.inter"):
        found = [
            part for part in ("train", "valid", "test") if os.path.isfile(f"{start}.{part}.inter")
        ]
        if {"train", "test"}.issubset(found):
            files = found
    if values["protocol"] == "valid" and files is not None and len(files) != 3:
        allowed = (
            "protocol=valid needs a training, a validation and a test part; convert with a "
            "validation part, or select on the test part with protocol=paper"
        )
        raise UserError.of("benchmark_filename", files, allowed)
    return files


def _check_eval_args(eval_args: dict[str, Any]) -> None:
    """Refuse a split or a mode that RecBole would fail on later, or with another meaning."""
    split = eval_args.get("split")
    if isinstance(split, dict) and "RS" in split:
        parts = split["RS"]
        numbers = isinstance(parts, list) and all(type(part) in (int, float) for part in parts)
        if not (numbers and len(parts) == 3 and min(parts) >= 0 and sum(parts) > 0):
            allowed = "RS must list three numbers >= 0, the parts for training, validation and test"
            raise UserError.of("eval_args", eval_args, allowed)
    for mode in _modes(eval_args):
        if not re.fullmatch(r"full|labeled|(uni|pop)0*[1-9]\d{0,8}", str(mode)):
            allowed = "mode must be full, labeled, uniN or popN with N >= 1"
            raise UserError.of("eval_args", eval_args, allowed)


def _modes(eval_args: dict[str, Any]) -> list[Any]:
    mode = eval_args.get("mode", "full")
    return list(mode.values()) if isinstance(mode, dict) else [mode]
