"""Checks of a config's keys beside the bounds that each has by itself."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.evaluator import metric_information, metric_types
from recbole.utils import EvaluatorType

from recbole_hns.config.keys import KEYS
from recbole_hns.config.known import recbole_folder, unknown
from recbole_hns.config.yaml_files import literal, read_yaml
from recbole_hns.convert.conversion import told_format
from recbole_hns.errors import UserError, did_you_mean
from recbole_hns.evaluation.metrics import checked_betas, checked_pairs
from recbole_hns.ops.row_optimizers import ROW_OPTIMIZERS
from recbole_hns.parameters import Parameter
from recbole_hns.protocol import SPLIT_SUFFIX

#: Levels that RecBole's logger has; it takes any other for INFO.
STATES = ("debug", "info", "warning", "error", "critical")

#: Files of a data set that RecBole reads, by their suffix.
SOURCES = ("inter", "user", "item", "kg", "link", "net")

#: Keys of RecBole's that filter interactions, which it does only before a split of its own.
FILTERS = (
    "rm_dup_inter",
    "val_interval",
    "filter_inter_by_user_or_item",
    "user_inter_num_interval",
    "item_inter_num_interval",
)

#: What ``eval_args`` may hold.
EVAL_ARGS = ("split", "order", "group_by", "mode")

#: What RecBole has for those of the split that are not given.
RECBOLES_SPLIT = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user"}

#: Keys of the evaluation and of what it decides.
EVALUATION = (
    "metrics",
    "topk",
    "valid_metric",
    "eval_step",
    "eval_users",
    "stopping_step",
    "eval_batch_size",
    "eval_args",
)

#: What ``split: {LS: ...}`` may leave out of each user's interactions.
LEAVE_OUT = ("valid_and_test", "valid_only", "test_only")

#: The longest name of a data set: it begins the names of log and checkpoint, which may have 255.
LONGEST_NAME = 150

#: The most negatives that an evaluation may draw for each positive.
MOST_NEGATIVES = 10**5

#: Keys of sequential models, and their defaults there.
OF_SEQUENCES = {"candidate_exclude": "target", "train_positions": "last"}


def check_dataset_name(dataset: Any, data_path: Any) -> None:
    """Refuse a data set that is given as a file or a folder, with the two keys that name it.

    Raises:
        UserError: if it is no name.
    """
    named = os.fspath(dataset) if isinstance(dataset, os.PathLike) else dataset
    # an atomic file is read as it is, by the two keys
    convertible = isinstance(named, str) and not named.endswith(".inter") and told_format(named)
    if convertible and os.path.isfile(named):
        converted = Path(named).name.split(".")[0]
        allowed = (
            f"must be the name of a data set; recbole-hns convert --input={shlex.quote(named)} "
            f"--output=dataset/{shlex.quote(converted)} makes one of the file"
        )
        raise UserError.of("dataset", named, allowed)
    if not isinstance(dataset, str) or not dataset:
        allowed = "must be the name of a data set"
        if named is not None and not isinstance(named, (str, int, float, list)):
            named, allowed = type(named).__name__, f"{allowed}; data frames are for run and convert"
        raise UserError.of("dataset", named, allowed)
    path = Path(dataset.rstrip("/")).expanduser()
    name = re.sub(r"(\.(train|valid|test))?\.inter$", "", path.name)
    good = name not in ("", "..") and name.isprintable() and len(os.fsencode(name)) <= LONGEST_NAME
    if good and name == dataset:
        return
    allowed = "must be the name of a data set, which is read from data_path/NAME/NAME.inter"
    if good:
        folder = path if path.name == name else path.parent
        folder = folder if folder.name == name else folder / name
        if not (path.is_absolute() or folder.is_dir()):
            folder = Path(data_path if isinstance(data_path, str) else "dataset") / folder
        allowed += f"; give --data_path={os.path.normpath(folder.parent)} --dataset={name}"
        if path.is_file() and path != folder / path.name:
            allowed += f" and have the file as {folder / path.name}"
    raise UserError.of("dataset", dataset, allowed)


def check_dataset_folder(config: Mapping[str, Any]) -> None:
    """See, before anything is written, that there is such a data set.

    Raises:
        UserError: if it has no folder, and is none that RecBole downloads.
    """
    name, folder = config["dataset"], Path(config["data_path"])
    if folder.is_dir() or config["dataset_save_path"] or config["dataloaders_save_path"]:
        return
    if name in read_yaml(recbole_folder() / "properties" / "dataset" / "url.yaml"):
        return
    there = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
    allowed = f"must be a folder of data_path={folder.parent}{did_you_mean(name, there)}"
    raise UserError.of("dataset", name, allowed)


def check_optional(values: Mapping[str, Any]) -> None:
    """Refuse what RecBole would fail on when it comes to use it, or only warn of.

    Raises:
        UserError: for ``clip_grad_norm`` with other arguments than PyTorch's, or ``log_wandb``
            without wandb, a level of logging that there is not, an interval that is none, or files
            that a data set does not have.
    """
    clip = values.get("clip_grad_norm")
    if clip is not None:
        if not {"max_norm"} <= set(clip) <= {"max_norm", "norm_type"}:
            raise UserError.of("clip_grad_norm", clip, "must hold max_norm, and may hold norm_type")
        if min(clip.values()) <= 0:
            raise UserError.of("clip_grad_norm", clip, "max_norm and norm_type must be > 0")
    learner, decay = values.get("learner"), values.get("weight_decay")
    if learner in ROW_OPTIMIZERS and decay:
        allowed = (
            f"must be 0 with learner={learner}, which leaves rows that a batch does not have as "
            "they are; set reg_weight, of models that have it, or learner=adam"
        )
        raise UserError.of("weight_decay", decay, allowed)
    if values.get("log_wandb") and importlib.util.find_spec("wandb") is None:
        raise UserError.of("log_wandb", True, "needs wandb: pip install 'recbole-hns[wandb]'")
    state = values.get("state")
    if state is not None and state.lower() not in STATES:
        raise UserError.of("state", state, f"must be {', '.join(STATES[:-1])} or {STATES[-1]}")
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        if values.get(key) is not None and not _is_interval(values[key]):
            allowed = "must be an interval, such as [10,inf) or (0,100], or several joined by ;"
            raise UserError.of(key, values[key], allowed)
    for field, interval in (values.get("val_interval") or {}).items():
        tokens = isinstance(interval, list) and any(isinstance(one, str) for one in interval)
        if not (tokens or _is_interval(interval)):
            allowed = (
                f"{field} must have an interval, such as [3,inf) or (0,1], several joined by ;, "
                "or, if it is a token, a list of words"
            )
            raise UserError.of("val_interval", values["val_interval"], allowed)
    more = values.get("additional_feat_suffix") or []
    sources = [*SOURCES, *([more] if isinstance(more, str) else more)]
    for key in ("load_col", "unload_col", "unused_col"):
        for source in values.get(key) or {}:
            if source not in sources:
                raise UserError.of(key, values[key], unknown(source, sources))


def checked_as_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that the table does not have, with values of their defaults' types.

    Models check none, and would take a string apart or fail in the middle of a run.

    Raises:
        UserError: if one is neither a list, number or string as its default, nor unset.
    """
    found: dict[str, Any] = {}
    for key, default in defaults.items():
        value = values[key]
        if key in KEYS or value is None:
            continue
        if isinstance(default, list):
            value = list(value) if isinstance(value, tuple) else value
            if not isinstance(value, list):
                written = ",".join(map(str, default))
                raise UserError.of(key, value, f"must be a list, such as [{written}]")
            found[key] = value
        elif type(default) in (int, float):
            # a default of 0 is of an int, but 0.5 may be meant
            number = int | float if type(default) is int else float
            found[key] = Parameter(key, number, default).check(value)
        elif isinstance(default, (bool, str)) and not key.endswith("_num_interval"):
            Parameter(key, type(default), default).check(value)
    return found


def check_no_sequences(model: str, given: Mapping[str, Any]) -> None:
    """Refuse the keys of sequential models.

    Args:
        model: the name of one that is not.
        given: keys, without defaults.

    Raises:
        UserError: if one is given.
    """
    for key in OF_SEQUENCES:
        if given.get(key) is not None:
            allowed = f"must be left out with model={model}, which is not sequential"
            raise UserError.of(key, given[key], allowed)


def set_for_sequences(
    model: type, values: dict[str, Any], defaults: Mapping[str, Any], causal: tuple[type, ...]
) -> None:
    """Set what a sequential model of RecBole's needs, in place.

    Its loss is asked for in the form with negatives, in which nothing is of all items, where it has
    that form; RecBole draws none itself. Parts of ``eval_args`` that are not given are those that
    RecBole has for sequential models.

    Args:
        model: its class.
        values: all keys.
        defaults: those of RecBole and the model.
        causal: the classes of models that can learn from all positions.

    Raises:
        UserError: for an order that is not that of time, or positions that see what follows them.
    """
    name = model.__name__
    for key, default in OF_SEQUENCES.items():
        if values.get(key) is None:
            values[key] = default
    if values["train_positions"] == "all" and not issubclass(model, causal):
        known = ", ".join(each.__name__ for each in causal)
        allowed = f"needs a model of which no position sees what follows it, {known}; not {name}"
        raise UserError.of("train_positions", "all", allowed)
    values["train_neg_sample_args"] = None
    if name != "CORE":
        values["loss_type"] = "BPR"
    if isinstance(values["eval_args"], dict):
        values["eval_args"] = {**defaults["eval_args"], **values["eval_args"]}
        if values["eval_args"]["order"] != "TO":
            allowed = f"order must be TO, by time, with model={name}, which is sequential"
            raise UserError.of("eval_args", values["eval_args"], allowed)


def check_all(values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse what has no meaning with ``protocol: all``, and that it is not said how long to train.

    Args:
        values: all keys.
        given: without defaults.

    Raises:
        UserError: if ``epochs`` is not given, or loaders are to be saved or read.
    """
    if values["protocol"] != "all":
        return
    if given.get("epochs") is None:
        allowed = (
            "needs epochs, as nothing selects one: the best_epoch of a run with protocol=valid, "
            "such as epochs=42"
        )
        raise UserError.of("protocol", "all", allowed)
    for key in ("save_dataloaders", "dataloaders_save_path"):
        if given.get(key):
            allowed = "is of validation and test parts too, of which protocol=all has none"
            raise UserError.of(key, given[key], allowed)


def without_effect_on_data(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Keys given that have no effect with the data that the others name, and why.

    Args:
        values: all keys.
        given: without defaults.
    """
    found: dict[str, str] = {}
    files, label = values["benchmark_filename"], values["LABEL_FIELD"]
    filtered = values["val_interval"] or {} if files is None else {}
    if "labeled" not in _modes(values["eval_args"]):
        kept = f"has no effect on what {values['model']} learns: every interaction is a positive"
        if files is None:
            kept += "; val_interval leaves out those that are to be none"
        threshold = given.get("threshold") or {}
        if not threshold.keys() <= filtered.keys():
            found["threshold"] = kept
        if label not in filtered and label in _columns(values):
            found["LABEL_FIELD"] = f"is {label}, a column of the data, which {kept}"
    if files is not None:
        ready = f"has no effect with benchmark_filename={files}, a ready split"
        found.update(dict.fromkeys((key for key in FILTERS if given.get(key) is not None), ready))
        split = [part for part in EVAL_ARGS[:-1] if part in (given.get("eval_args") or {})]
        found.update({f"eval_args.{part}": ready for part in split})
    if values["protocol"] == "all":
        idle = ", ".join(key for key in EVALUATION if given.get(key) is not None)
        if idle:
            # in one line, as files of settings have them all
            has = "have" if "," in idle else "has"
            found[idle] = f"{has} no effect with protocol=all, which evaluates nothing"
    return found


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
            hint = did_you_mean(metric, metric_information)
            raise UserError.of("metrics", metrics, f"RecBole has no metric {metric}{hint}")
    by_value = [name for name in metrics if metric_types[name.lower()] == EvaluatorType.VALUE]
    modes = _modes(eval_args)
    if by_value and (len(by_value) < len(metrics) or "full" in modes):
        allowed = f"{by_value[0]} rates values: neither beside rankings nor in mode full"
        raise UserError.of("metrics", metrics, allowed)
    if "labeled" in modes and not by_value:
        value = [name for name, kind in metric_types.items() if kind == EvaluatorType.VALUE]
        allowed = f"mode labeled ranks no items; its metrics must be of {', '.join(value)}"
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


def split_told(dataset: str, values: Mapping[str, Any]) -> str:
    """How the parts of a data set are told, in one line.

    Raises:
        UserError: if the file beside a ready split that says so says something else.
    """
    if values["benchmark_filename"] is None:
        order = {"RO": "random order", "TO": "order of time"}
        arguments = {**RECBOLES_SPLIT, **(values["eval_args"] or {})}
        [(kind, parts)] = arguments["split"].items()
        shares = ", ".join(map(str, parts)) if isinstance(parts, list) else parts
        group = str(arguments["group_by"]).lower()
        whose = "all interactions" if group == "none" else "each user's interactions"
        return f"RecBole's {kind}, {order[arguments['order']]}, {shares} of {whose}"
    path = os.path.join(values["data_path"], dataset, f"{dataset}{SPLIT_SUFFIX}")
    if not os.path.isfile(path):
        return "ready"
    told = read_yaml(path, key="dataset").get("split")
    if not isinstance(told, str) or not told.isprintable():
        raise UserError.of("dataset", path, "must hold split, one line of text")
    return told


def _check_eval_args(eval_args: dict[str, Any]) -> None:
    """Refuse a split or a mode that RecBole would fail on later, or with another meaning."""

    def refuse(allowed: str) -> None:
        raise UserError.of("eval_args", eval_args, allowed)

    for key in eval_args:
        if key not in EVAL_ARGS:
            refuse(unknown(key, EVAL_ARGS))
    split = eval_args.get("split", {"RS": [8, 1, 1]})
    how = f"split must be {{'RS': [0.8, 0.1, 0.1]}}, {{'TS': ...}} or {{'LS': {LEAVE_OUT[0]!r}}}"
    if not isinstance(split, dict) or len(split) != 1:
        refuse(how)
    [(kind, parts)] = split.items()
    if kind == "LS":
        if parts not in LEAVE_OUT:
            refuse(f"LS must be {', '.join(LEAVE_OUT[:-1])} or {LEAVE_OUT[-1]}")
    elif kind in ("RS", "TS"):
        numbers = isinstance(parts, list) and all(type(part) in (int, float) for part in parts)
        if not (numbers and len(parts) == 3 and min(parts) >= 0 and 0 < sum(parts) < math.inf):
            allowed = "must list three numbers >= 0, the parts for training, validation and test"
            refuse(f"{kind} {allowed}")
    else:
        refuse(how)
    if eval_args.get("order", "RO") not in ("RO", "TO"):
        refuse("order must be RO or TO, random or by time")
    group = eval_args.get("group_by", "user")
    if group is not None and group != "user" and str(group).lower() != "none":
        refuse("group_by must be user or none")
    mode = eval_args.get("mode", "full")
    if isinstance(mode, dict):
        for phase in mode:
            if phase not in ("valid", "test"):
                refuse(f"mode: {unknown(phase, ('valid', 'test'))}")
    for each in _modes(eval_args):
        if not re.fullmatch(r"full|labeled|(uni|pop)0*[1-9]\d*", str(each)):
            refuse("mode must be full, labeled, uniN or popN with N >= 1")
        digits = str(each)[3:].lstrip("0")
        if digits.isdecimal() and (len(digits) > 6 or int(digits) > MOST_NEGATIVES):
            refuse(f"mode must be full, labeled, uniN or popN with N <= {MOST_NEGATIVES}")


def _modes(eval_args: dict[str, Any]) -> list[Any]:
    mode = eval_args.get("mode", "full")
    return list(mode.values()) if isinstance(mode, dict) else [mode]


def _columns(values: Mapping[str, Any]) -> list[str]:
    """The names in the first line of the interactions, or of their first part."""
    parts = [values["dataset"], *(values["benchmark_filename"] or [])[:1], "inter"]
    try:
        with open(os.path.join(values["data_path"], ".".join(parts)), encoding="utf-8") as file:
            columns = file.readline().rstrip("\n").split(values["field_separator"])
    except (OSError, ValueError):  # reading the data reports it
        return []
    return [column.partition(":")[0] for column in columns]


def _is_interval(value: Any) -> bool:
    """Whether RecBole reads intervals from a value, ``[3,5]`` or ``(0,1);[2,inf)``."""
    for part in str(value).split(";"):
        found = re.fullmatch(r"\s*[\[(]([^,]+),([^,]+)[\])]\s*", part)
        try:
            low, high = map(float, found.groups() if found else ())
        except ValueError:
            return False
        if not low <= high:
            return False
    return True
