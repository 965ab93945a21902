"""RecBole's ``Config`` with the axes of this package: sampler, loss and similarity."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from inspect import isclass
from typing import Any

import torch
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import get_model

from recbole_hns.compat import anomaly_detection_kept
from recbole_hns.config import DEFAULTS
from recbole_hns.config.axes import (
    chosen_loss,
    loss_keys,
    make_axes,
    sampler_keys,
    without_effect,
)
from recbole_hns.config.checks import (
    check_all,
    check_dataset_name,
    check_no_sequences,
    check_optional,
    checked_as_defaults,
    checked_metrics,
    checked_rates,
    checked_valid_metric,
    ready_split,
    set_for_sequences,
    split_told,
    without_effect_on_data,
)
from recbole_hns.config.keys import TABLE, key_of
from recbole_hns.config.known import (
    check_key,
    model_keys,
    model_keys_of_any,
    recbole_keys,
)
from recbole_hns.config.yaml_files import YamlLoader, literal, read_config_files, read_yaml
from recbole_hns.errors import UserError, nearest
from recbole_hns.files import properties_path
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import loss_class
from recbole_hns.model.registry import (
    SEQUENTIAL,
    SUPPORTED,
    adapter_class,
    check_model,
    check_part,
)
from recbole_hns.model.sequential import SequentialAdapter
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import sampler_class


class Config(RecBoleConfig):
    """RecBole's config for training with a sampler and a loss.

    Precedence, as in RecBole: command line over ``config_dict`` over files over defaults. Nothing
    is read from ``sys.argv``, and strings are read as Python literals, never evaluated.

    Args:
        model: model name or class; default: what files or dictionaries say, else ``BPR``.
        dataset: data set name; default likewise, else ``ml-100k``.
        sampler: sampler name, ``package.module:Class`` or class; default likewise, else ``dns_mn``.
        config_file_list: YAML files, the later ones over the earlier.
        config_dict: further keys.
        command_line: keys given as ``--key=value``, values as strings.
        loss: loss name, ``package.module:Class`` or class; default likewise, else the sampler's.

    Attributes:
        sampler: the sampler, with its hyperparameters checked.
        loss: the loss, likewise.
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
        loss: str | type[Loss] | None = None,
    ) -> None:
        self._command_line = dict(command_line or {})
        self._arguments = {"sampler": sampler, "loss": loss}
        try:
            super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        except UserError:
            raise
        except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
            raise UserError(f"config: {error}") from error
        bigger = self.external_config_dict.get("valid_metric_bigger")
        if bigger not in (None, self["valid_metric_bigger"]):
            allowed = f"follows from valid_metric={self['valid_metric']}; leave it out"
            raise UserError.of("valid_metric_bigger", bigger, allowed)
        # RecBole has turned a single K into a list by now; with protocol all nothing is selected
        if self["protocol"] != "all":
            self["valid_metric"] = checked_valid_metric(self.final_config_dict)

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
        found = model_class(given["model"] if model is None else model)
        dataset = given["dataset"] if dataset is None else dataset
        check_model(found)
        check_dataset_name(dataset, given.get("data_path"))
        return found.__name__, found, dataset

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        given = self.external_config_dict
        name, loss = self._arguments["sampler"], self._arguments["loss"]
        if name is None:
            name = given.get("sampler", DEFAULTS["sampler"])
        self._sampler_class = sampler_class(name)
        self._loss_class = (
            chosen_loss(self._sampler_class, given) if loss is None else loss_class(loss)
        )
        for part in (self._sampler_class, self._loss_class):
            check_part(model_class, part)
        self.internal_config_dict.update(read_yaml(properties_path("overall.yaml")))

    def _get_final_config_dict(self) -> dict[str, Any]:
        self._check_keys()
        given = self.external_config_dict
        axes = make_axes(self.model_class, self._sampler_class, given, self._loss_class)
        self.sampler, self.loss = axes.sampler, axes.loss
        self._set_by_sampler = axes.set_by_sampler
        final = super()._get_final_config_dict()
        adapter = adapter_class(self.model_class)
        if issubclass(adapter, SequentialAdapter):
            defaults = self.internal_config_dict
            set_for_sequences(self.model_class, final, defaults, adapter.causal)
        else:
            check_no_sequences(self.model, given)
        # what opauc_beta or the sampler sets shows as set
        for part in (self.loss, self.sampler):
            final.update({key: getattr(part, key) for key in part.hyperparameters})
        final["sampler"] = self._name("sampler", self._sampler_class.name)
        final["loss"] = self._name("loss", self._loss_class.name)
        final["similarity"] = axes.similarity
        final["eval_similarity"] = axes.eval_similarity
        for key in TABLE:
            # only what RecBole leaves unset may be unset
            before = self.internal_config_dict.get(key.name)
            if final.get(key.name) is not None or before is not None:
                final[key.name] = key.check(final[key.name], before)
        check_optional(final)
        check_all(final, given)
        final.update(checked_rates(final))
        final.update(checked_as_defaults(final, self.internal_config_dict))
        final["metrics"] = checked_metrics(final)
        # a run can be resumed from another directory
        self.data_root = final["data_path"] = os.path.abspath(final["data_path"])
        final["benchmark_filename"] = ready_split(self.dataset, final)
        final["data_split"] = split_told(self.dataset, final)
        self.default_eval_batch_size = "eval_batch_size" not in given
        self.parameters["Negative Sampling"] = [
            "sampler",
            *self.sampler.hyperparameters,
            "similarity",
            "eval_similarity",
            "loss",
            *self.loss.hyperparameters,
        ]
        return final

    def _set_default_parameters(self) -> None:
        # RecBole refuses what its loaders of sequences cannot do, and ours can
        repeatable = self.final_config_dict["repeatable"]
        if adapter_class(self.model_class).sequential:
            self.final_config_dict["repeatable"] = True
        super()._set_default_parameters()
        self.final_config_dict["repeatable"] = repeatable

    def _init_device(self) -> None:
        super()._init_device()
        # RecBole has the key, and looks at gpu_id alone
        if not self.final_config_dict["use_gpu"]:
            self.final_config_dict["device"] = torch.device("cpu")

    def _name(self, axis: str, name: str) -> str:
        """What was given as a sampler or a loss, a class by its name."""
        argument = self._arguments[axis]
        if isinstance(argument, str):
            return argument
        given = self.external_config_dict.get(axis)
        return given if argument is None and isinstance(given, str) else name

    def _check_keys(self) -> None:
        """Refuse keys that nobody reads or RecBole derives, and check those of no use here."""
        used = {**self._loss_class.hyperparameters, **self._sampler_class.hyperparameters}
        ours = {**loss_keys(), **sampler_keys(), **used}
        of_model = model_keys(self.model_class)
        known = {*ours, *recbole_keys(), *of_model, *self.internal_config_dict}
        self._unread: dict[str, str] = {}
        for key, value in self.external_config_dict.items():
            if not isinstance(key, str):
                raise UserError.of(str(key), value, "keys must be strings")
            hint = check_key(key, value, known, ours, self.model_class)
            if hint is not None:
                self._unread[key] = hint
            elif key in ours and key not in used:
                ours[key].check(value)

    def unused_keys(self) -> dict[str, str]:
        """Keys given that have no effect here, and why.

        Those of another sampler, loss or model than the one in use, those that another key's value
        leaves no part, and those that a model of the user's does not seem to read.
        """
        given = self.external_config_dict
        used = {**self.loss.hyperparameters, **self.sampler.hyperparameters}
        axes = {
            **dict.fromkeys(model_keys_of_any() - model_keys(self.model_class), "model"),
            **dict.fromkeys(loss_keys(), "loss"),
            **dict.fromkeys(sampler_keys(), "sampler"),
        }
        found = {
            key: f"has no effect with {axes[key]}={self[axes[key]]}"
            for key in given
            if key in axes and key not in used
        }
        if adapter_class(self.model_class).sequential and "loss_type" in given:
            found["loss_type"] = f"has no effect: what is learned is loss={self['loss']}"
        found.update(without_effect(self.sampler, self.loss, given))
        found.update(without_effect_on_data(self.final_config_dict, given))
        for key, hint in self._unread.items():
            found[key] = f"has no effect, unless {self.model} reads it, which was not seen; {hint}"
        return found

    def resolved(self) -> dict[str, Any]:
        """All keys with the values in use, such that giving them again makes the same config."""
        values = {
            key: value for key, value in self.final_config_dict.items() if not key_of(key).derived
        }
        values["data_path"] = self.data_root
        if self.default_eval_batch_size:
            del values["eval_batch_size"]
        if values.get("opauc_beta") is not None:
            values.pop(self.sampler.hardness_key, None)
        for key in self._set_by_sampler.keys() - self.sampler.hyperparameters.keys():
            del values[key]
        return values


def given_keys(
    config_file_list: Sequence[str | os.PathLike[str]] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    command_line: Mapping[str, str] | None = None,
    **named: Any,
) -> dict[str, Any]:
    """What the arguments of :class:`Config` give, merged by its precedence, without defaults.

    Args:
        config_file_list: as there.
        config_dict: as there.
        command_line: as there.
        **named: model, dataset, sampler and loss, over all others; None is not given.
    """
    values = read_config_files(config_file_list)
    values.update({key: literal(value) for key, value in (config_dict or {}).items()})
    values.update({key: literal(value) for key, value in (command_line or {}).items()})
    values.update({key: value for key, value in named.items() if value is not None})
    return values


def model_class(model: Any) -> type:
    """RecBole's model class of a name; a class as it is.

    Raises:
        UserError: if there is no such model.
    """
    if isinstance(model, type):
        return model
    if not isinstance(model, str) or not model.isidentifier():
        raise UserError.of("model", model, "must be the name of a RecBole model")
    try:
        with anomaly_detection_kept():
            return get_model(model)
    except (ValueError, AttributeError, ImportError):
        import recbole.model.general_recommender as general

        names = [name for name, each in vars(general).items() if isclass(each)]
        close = nearest(model, [*names, *SEQUENTIAL])
        hint = f"; did you mean {close}?" if close else f"; it {SUPPORTED}"
        raise UserError.of("model", model, f"RecBole has no such model{hint}") from None
