"""RecBole's ``Config`` with samplers: their defaults, their keys, and checks of what is given."""

from __future__ import annotations

import ast
import copy
import difflib
import importlib.util
import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import Field, NonNegativeInt, PositiveInt
from recbole.config import Config as RecBoleConfig
from recbole.evaluator import metric_information, metric_types
from recbole.utils import EvaluatorType, get_model

from recbole_hns.errors import UserError
from recbole_hns.evaluation.metrics import checked_betas, checked_pairs
from recbole_hns.files import properties_path
from recbole_hns.model import SUPPORTED, check_model, check_sampler
from recbole_hns.protocol import Protocol
from recbole_hns.sampler import SAMPLERS, HardNegativeSampler, sampler_class
from recbole_hns.sampler.parameters import Hyperparameter

#: What a run trains when nothing is said.
DEFAULTS = {"model": "BPR", "dataset": "ml-100k", "sampler": "ahns"}

Text = Annotated[str, Field(min_length=1)]
BatchSize = Annotated[int, Field(gt=0, lt=2**63)]
DecimalPlace = Annotated[int, Field(ge=0, le=100)]

#: Keys of every run, RecBole's and this package's, whose wrong values would surface late, or as a
#: traceback.
RUN_KEYS = {
    name: Hyperparameter(name, annotation, None)
    for name, annotation in {
        "seed": Annotated[int, Field(ge=0, lt=2**32)],
        "worker": NonNegativeInt,
        "epochs": PositiveInt,
        "train_batch_size": BatchSize,
        "step_memory": PositiveInt,
        "eval_batch_size": BatchSize,
        "eval_step": NonNegativeInt,
        "stopping_step": NonNegativeInt,
        "learning_rate": Annotated[float, Field(gt=0)],
        "lr_decay": Annotated[float, Field(gt=0, le=1)],
        "lr_decay_step": PositiveInt,
        "weight_decay": Annotated[float, Field(ge=0)],
        "embedding_size": PositiveInt,
        "embedding_std": Annotated[float, Field(gt=0)],
        "n_layers": NonNegativeInt,
        "reg_weight": Annotated[float, Field(ge=0)],
        "learner": Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"],
        "clip_grad_norm": dict[str, float],
        "protocol": Protocol,
        "benchmark_filename": Annotated[list[Text], Field(min_length=2)],
        "metrics": Text | Annotated[list[Text], Field(min_length=1)],
        "topk": PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)],
        "valid_metric": Text,
        "loss_decimal_place": DecimalPlace,
        "metric_decimal_place": DecimalPlace,
        "data_path": Text,
        "checkpoint_dir": Text,
        "dataset_save_path": Text,
        "dataloaders_save_path": Text,
        "NEG_PREFIX": str,
        "state": Text,
        "show_progress": bool,
        "use_gpu": bool,
        "log_wandb": bool,
        "reproducibility": bool,
        "shuffle": bool,
        "transform": Literal[
            "mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined"
        ],
        "enable_amp": bool,
    }.items()
}

#: Keys of RecBole's that a sampler replaces, and what to set instead.
REPLACED = {
    "train_neg_sample_args": "the sampler draws the negatives; set sampler, candidate_num and "
    "candidate_distribution instead",
    "neg_sampling": "the sampler draws the negatives; set sampler and candidate_num instead",
    "training_neg_sample_num": "the sampler draws the negatives; set candidate_num instead",
}

#: Final keys that RecBole derives from others; giving them again would be a mistake.
DERIVED = (
    "train_neg_sample_args",
    "valid_neg_sample_args",
    "test_neg_sample_args",
    "MODEL_TYPE",
    "MODEL_INPUT_TYPE",
    "eval_type",
    "device",
    "single_spec",
    "local_rank",
    "valid_metric_bigger",
)


#: Values that a YAML file may hold, those behind an alias counted wherever it stands.
MOST_VALUES = 10**5


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader that reads ``1e-3`` as a number, as RecBole's does.

    Aliases of aliases could make a few lines take all memory, or hold themselves; such a file is
    refused.
    """

    def get_single_node(self) -> yaml.Node | None:
        """The document, before it becomes Python's values."""
        node = super().get_single_node()
        if node is not None and _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES} values")
        return node


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _values(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """How many nodes there are from ``node`` on; infinitely many in one that holds itself."""
    if node not in known:
        known[node] = math.inf
        inner: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = itertools.chain.from_iterable(node.value)
        known[node] = 1 + sum(_values(part, known) for part in inner)
    return known[node]


class Config(RecBoleConfig):
    """RecBole's config for training with a sampler.

    Precedence, as in RecBole: command line over ``config_dict`` over files over defaults. Nothing
    is read from ``sys.argv``, and strings are read as Python literals, never evaluated.

    Args:
        model: model name or class; default: what files or dictionaries say, else ``BPR``.
        dataset: data set name; default likewise, else ``ml-100k``.
        sampler: sampler name, ``package.module:Class`` or class; default likewise, else ``ahns``.
        config_file_list: YAML files, the later ones over the earlier.
        config_dict: further keys.
        command_line: keys given as ``--key=value``, values as strings.

    Attributes:
        sampler: the sampler, with its hyperparameters checked.
        default_eval_batch_size: whether ``eval_batch_size`` was left to its default.

    Raises:
        UserError: for a value that is not allowed.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        sampler: str | type[HardNegativeSampler] | None = None,
        config_file_list: Sequence[str | os.PathLike[str]] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        command_line: Mapping[str, str] | None = None,
    ) -> None:
        self._command_line = dict(command_line or {})
        self._sampler_argument = sampler
        try:
            super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        except UserError:
            raise
        except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
            raise UserError(f"config: {error}") from error
        self._check_metrics()

    def _build_yaml_loader(self) -> type[yaml.SafeLoader]:
        return YamlLoader

    def _load_config_files(self, file_list: Sequence[str | os.PathLike[str]] | None) -> dict:
        return read_config_files(file_list)

    def _load_cmd_line(self) -> dict[str, Any]:
        return self._convert_config_dict(self._command_line)

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return {key: literal(value) for key, value in config_dict.items()}

    def _get_model_and_dataset(
        self, model: str | type | None, dataset: str | None
    ) -> tuple[str, type, str]:
        given = {**DEFAULTS, **self.external_config_dict}
        model = given["model"] if model is None else model
        dataset = given["dataset"] if dataset is None else dataset
        model_class = _model_class(model)
        check_model(model_class)
        if not isinstance(dataset, str) or not dataset:
            raise UserError.of("dataset", dataset, "must be the name of a data set")
        return model_class.__name__, model_class, dataset

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        name = self._sampler_argument
        if name is None:
            name = self.external_config_dict.get("sampler", DEFAULTS["sampler"])
        self._sampler_class = sampler_class(name)
        check_sampler(model_class, self._sampler_class)
        self.internal_config_dict.update(read_yaml(properties_path("overall.yaml")))

    def _get_final_config_dict(self) -> dict[str, Any]:
        self._check_keys()
        given = self.external_config_dict
        own = self._sampler_class.hyperparameters
        self.sampler = self._sampler_class(**sampler_values(self._sampler_class, given))
        final = super()._get_final_config_dict()
        # what opauc_beta sets shows as set
        final.update({key: getattr(self.sampler, key) for key in own})
        argument = self._sampler_argument
        if not isinstance(argument, str):
            argument = given.get("sampler", self._sampler_class.name)
        final["sampler"] = argument
        for key, hyperparameter in RUN_KEYS.items():
            # only what RecBole leaves unset may be unset
            if final.get(key) is not None or self.internal_config_dict.get(key) is not None:
                final[key] = hyperparameter.check(final[key])
        clip = final.get("clip_grad_norm")
        if clip and not {"max_norm"} <= set(clip) <= {"max_norm", "norm_type"}:
            raise UserError.of("clip_grad_norm", clip, "must hold max_norm, and may hold norm_type")
        if final.get("log_wandb") and importlib.util.find_spec("wandb") is None:
            raise UserError.of("log_wandb", True, "needs wandb: pip install wandb")
        final["opauc_betas"] = checked_betas(final.get("opauc_betas"))
        pairs = checked_pairs(final.get("llpauc_alphas"), final.get("llpauc_betas"))
        final["llpauc_alphas"], final["llpauc_betas"] = map(list, zip(*pairs, strict=True))
        if not isinstance(final.get("eval_args"), dict):
            raise UserError.of("eval_args", final.get("eval_args"), "must be a dictionary")
        _check_eval_args(final["eval_args"])
        metrics = final["metrics"]
        final["metrics"] = metrics = [metrics] if isinstance(metrics, str) else metrics
        for metric in metrics:
            if metric.lower() not in metric_information:
                raise UserError.of("metrics", metrics, f"RecBole has no metric {metric}")
        by_value = [m for m in metrics if metric_types[m.lower()] == EvaluatorType.VALUE]
        if by_value and (len(by_value) < len(metrics) or "full" in _modes(final["eval_args"])):
            allowed = f"{by_value[0]} rates values: neither beside rankings nor in mode full"
            raise UserError.of("metrics", metrics, allowed)
        # a run can be resumed from another directory
        self.data_root = final["data_path"] = os.path.abspath(final["data_path"])
        self._find_ready_split(final)
        self.default_eval_batch_size = "eval_batch_size" not in given
        self.parameters["Negative Sampling"] = ["sampler", *own]
        return final

    def _find_ready_split(self, final: dict[str, Any]) -> None:
        """Have the files of a ready split read where there is no other, and see that they suffice.

        RecBole takes ``benchmark_filename`` only from the user; ``NAME.train.inter`` and
        ``NAME.test.inter`` without a ``NAME.inter`` say as much.
        """
        files = final["benchmark_filename"]
        start = os.path.join(self.data_root, self.dataset, self.dataset)
        # RecBole reads its own ml-100k, wherever data_path is
        if files is None and self.dataset != "ml-100k" and not os.path.isfile(f"{start}.inter"):
            found = [
                part
                for part in ("train", "valid", "test")
                if os.path.isfile(f"{start}.{part}.inter")
            ]
            if {"train", "test"}.issubset(found):
                files = final["benchmark_filename"] = found
        if final["protocol"] == "valid" and files is not None and len(files) != 3:
            allowed = (
                "protocol=valid needs a training, a validation and a test part; convert with a "
                "validation share, or select on the test part with protocol=paper"
            )
            raise UserError.of("benchmark_filename", files, allowed)

    def _check_keys(self) -> None:
        """Refuse keys that a sampler replaces and misspelt ones, and check the sampler keys."""
        ours = sampler_keys()
        for own in self._sampler_class.hyperparameters.values():
            ours[own.name] = own
        families = {key.split("_")[0] for key in ours} | {name.split("_")[0] for name in SAMPLERS}
        recbole = set(self.internal_config_dict).union(*self.parameters.values())
        for key, value in self.external_config_dict.items():
            if not isinstance(key, str):
                raise UserError.of(str(key), value, "keys must be strings")
            if key in REPLACED:
                raise UserError.of(key, value, REPLACED[key])
            if key in ours:
                if key not in self._sampler_class.hyperparameters:
                    ours[key].check(value)
                continue
            if key in recbole:
                continue
            family = key.split("_")[0] in families and "_" in key
            known = [*ours, *read_yaml(properties_path("overall.yaml"))]
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5 if family else 0.85)
            if family or close:
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
                raise UserError.of(key, value, f"no such key; {hint}")

    def _check_metrics(self) -> None:
        """See that ``valid_metric`` will be among the results before any epoch is spent."""
        metric, at, cutoff = self["valid_metric"].partition("@")
        metrics = [name.lower() for name in self["metrics"]]
        if metric.lower() not in metrics:
            allowed = f"its metric must be one of metrics = {', '.join(self['metrics'])}"
            raise UserError.of("valid_metric", self["valid_metric"], allowed)
        needs = metric_information[metric.lower()]
        if "rec.opauc" in needs:
            what, key, listed = "rate", "opauc_betas", self["opauc_betas"]
        elif "rec.llpauc" in needs:
            what, key = "pair of rates", "(llpauc_alphas, llpauc_betas)"
            listed = list(zip(self["llpauc_alphas"], self["llpauc_betas"], strict=True))
        elif {"rec.topk", "rec.items"}.intersection(needs):
            what, key, listed = "K", "topk", self["topk"]
        elif at:
            raise UserError.of("valid_metric", self["valid_metric"], f"{metric} takes no @")
        else:
            return
        cutoff = literal(cutoff)
        if cutoff not in listed:
            allowed = f"its {what} must be one of {key} = {listed}"
            raise UserError.of("valid_metric", self["valid_metric"], allowed)
        # as the results spell it
        spelt = listed[listed.index(cutoff)]
        spelt = ",".join(map(str, spelt)) if isinstance(spelt, tuple) else spelt
        self["valid_metric"] = f"{metric}@{spelt}"

    def unused_sampler_keys(self) -> list[str]:
        """Keys given that belong to other samplers than the one in use."""
        own = self._sampler_class.hyperparameters
        return [
            key for key in self.external_config_dict if key in sampler_keys() and key not in own
        ]

    def resolved(self) -> dict[str, Any]:
        """All keys with the values in use, such that giving them again makes the same config."""
        values = {key: value for key, value in self.final_config_dict.items() if key not in DERIVED}
        values["data_path"] = self.data_root
        if self.default_eval_batch_size:
            del values["eval_batch_size"]
        if values.get("opauc_beta") is not None:
            values.pop(self.sampler.hardness_key, None)
        return values


def given_keys(
    model: str | type | None,
    dataset: str | None,
    sampler: str | type[HardNegativeSampler] | None,
    config_file_list: Sequence[str | os.PathLike[str]] | None,
    config_dict: Mapping[str, Any] | None,
    command_line: Mapping[str, str] | None,
) -> dict[str, Any]:
    """What the arguments of :class:`Config` give, merged by its precedence, without defaults."""
    values = read_config_files(config_file_list)
    values.update({key: literal(value) for key, value in (config_dict or {}).items()})
    values.update({key: literal(value) for key, value in (command_line or {}).items()})
    named = {"model": model, "dataset": dataset, "sampler": sampler}
    values.update({key: value for key, value in named.items() if value is not None})
    return values


def sampler_values(cls: type[HardNegativeSampler], given: Mapping[str, Any]) -> dict[str, Any]:
    """What to make a sampler with: its defaults, and what ``given`` has of its keys over them."""
    defaults = properties_path(f"sampler/{cls.name}.yaml")
    values = read_yaml(defaults) if defaults.is_file() else {}
    values.update({key: given[key] for key in cls.hyperparameters if key in given})
    hardness = cls.hardness_key
    if hardness and values.get("opauc_beta") is not None and hardness not in given:
        del values[hardness]
    return values


def sampler_keys() -> dict[str, Hyperparameter]:
    """The hyperparameters of all registered samplers; for a shared key, the most general."""
    keys = dict(HardNegativeSampler.hyperparameters)
    for cls in SAMPLERS.values():
        for key, hyperparameter in cls.hyperparameters.items():
            keys.setdefault(key, hyperparameter)
    return keys


def literal(value: Any) -> Any:
    """A string as the Python literal that it spells, ``true`` and ``false`` too, else unchanged."""
    if not isinstance(value, str):
        return copy.deepcopy(value)
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def read_config_files(paths: Sequence[str | os.PathLike[str]] | None) -> dict[str, Any]:
    """The keys and values of YAML files, the later ones over the earlier.

    A file that does not exist is looked for among the packaged ones, such as
    ``paper/ahns/common.yaml``.

    Raises:
        UserError: if one cannot be read.
    """
    values: dict[str, Any] = {}
    for path in paths or ():
        packaged = properties_path(os.fspath(path))
        use_packaged = packaged.is_file() and not os.path.exists(path)
        values.update(read_yaml(packaged if use_packaged else path))
    return values


def read_yaml(path: str | os.PathLike[str], key: str = "config_files") -> dict[str, Any]:
    """The keys and values of a YAML file; none for an empty one.

    Args:
        path: the file.
        key: what named the file, for the error message.

    Raises:
        UserError: if it cannot be read, does not parse or holds no mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, Loader=YamlLoader)
    except OSError as error:
        raise UserError.of(key, path, f"cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError.of(key, path, f"is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError.of(key, path, "must hold keys and values")
    return values


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


def _model_class(model: Any) -> type:
    if isinstance(model, type):
        return model
    if not isinstance(model, str) or not model.isidentifier():
        raise UserError.of("model", model, "must be the name of a RecBole model")
    anomaly = torch.is_anomaly_enabled()
    try:
        return get_model(model)
    except (ValueError, AttributeError, ImportError):
        import recbole.model.general_recommender as general

        close = difflib.get_close_matches(model.lower(), [n.lower() for n in dir(general)], n=1)
        names = [name for name in dir(general) if close and name.lower() == close[0]]
        names = [name for name in names if isinstance(getattr(general, name), type)]
        hint = f"; did you mean {names[0]}?" if names else f"; it {SUPPORTED}"
        raise UserError.of("model", model, f"RecBole has no such model{hint}") from None
    finally:
        # RecBole's SINE switches it on when imported, which looking for a model may do
        torch.autograd.set_detect_anomaly(anomaly)
