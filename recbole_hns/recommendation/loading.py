"""From a checkpoint to the model and the data that it was trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from logging import getLogger
from typing import TYPE_CHECKING, Any, NamedTuple

from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed
from torch import nn

from recbole_hns.config import Config
from recbole_hns.config.config import model_class
from recbole_hns.data.dataset import check_tokens
from recbole_hns.data.preparation import create_dataset, data_preparation
from recbole_hns.errors import UserError
from recbole_hns.loss.registry import LOSSES
from recbole_hns.model import adapter_class, make_adapter, predict_by_cosine
from recbole_hns.model.adjacency import made_from_arrays
from recbole_hns.registry import find_class
from recbole_hns.sampler.registry import SAMPLERS
from recbole_hns.training.checkpoint import DOES_NOT_FIT, load_best, load_checkpoint

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader

    from recbole_hns.data.dataset import Dataset

#: Config keys that may name a class of the user's, and what is not the user's.
AXES: dict[str, Mapping[str, type]] = {"sampler": SAMPLERS, "loss": LOSSES}


class Trained(NamedTuple):
    """A trained model and its data, as RecBole's ``load_data_and_model`` returns them.

    Attributes:
        config: the config.
        model: the model with the parameters of the best epoch.
        dataset: all interactions.
        train_data: loader of the training part.
        valid_data: loader of the validation part; None with the protocol ``all``.
        test_data: loader of the test part; likewise.
    """

    config: Config
    model: AbstractRecommender
    dataset: Dataset
    train_data: AbstractDataLoader
    valid_data: AbstractDataLoader | None
    test_data: AbstractDataLoader | None


def build_model(config: Config, dataset: Dataset) -> AbstractRecommender:
    """The model of a config, initialised, with ``embedding_std`` where given, on its device.

    Raises:
        UserError: if it needs a package that is not installed, or refuses its hyperparameters.
    """
    adapter_class(config.model_class).check(config, dataset)
    try:
        with made_from_arrays():
            model = config.model_class(config, dataset)
    except Exception as error:  # what a model raises for its hyperparameters varies
        reason = f"cannot be built: {type(error).__name__}: {error}"
        raise UserError.of("model", config["model"], reason) from error
    if config["embedding_std"] is not None:
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=config["embedding_std"])
    return model.to(config["device"])


def read_checkpoint(
    path: str | os.PathLike[str], given: Mapping[str, Any], key: str = "checkpoint"
) -> tuple[Config, dict[str, Any]]:
    """The config and the content of a checkpoint, without running code from it.

    Args:
        path: the checkpoint.
        given: config keys over the recorded ones.
        key: what named the file, for the error message.

    Raises:
        UserError: if the file is no checkpoint of this package's, or has a class of the user's
            own that is not given.
    """
    state = load_checkpoint(path, key=key)
    return checkpoint_config(state["config"], given), state


def checkpoint_config(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """The config of a checkpoint, with what is given over it.

    Raises:
        UserError: for a class of the user's own that is not given, another than the checkpoint's,
            or a value that is not allowed.
    """
    values = {**recorded, **given}
    # these name pickles, which RecBole would load
    for key in ("dataset_save_path", "dataloaders_save_path"):
        if key not in given:
            values.pop(key, None)
    # the default, which is not the same for a terminal and a file
    if "show_progress" not in given and recorded.get("show_progress") is True:
        del values["show_progress"]
    for axis, known in AXES.items():
        # a checkpoint of the time before losses has none, and the sampler's default is its loss
        if axis in recorded and axis not in given and str(recorded[axis]) not in known:
            # importing what a file from elsewhere names would run code
            allowed = f"is not one of this package's; give the {axis} beside the checkpoint to "
            raise UserError.of(axis, recorded[axis], f"{allowed}trust it")
        name = str(getattr(given.get(axis), "name", given.get(axis)))
        # a class of the user's own may be recorded by another name
        if name in known and recorded.get(axis) in known and name != recorded[axis]:
            raise UserError.of(axis, name, f"the checkpoint is of {recorded[axis]}")
    named = {key: values.pop(key, None) for key in ("model", "sampler", "loss")}
    named["model"] = _model(recorded.get("model"), given.get("model"))
    return Config(**named, config_dict=values)


def _model(recorded: Any, given: Any) -> Any:
    """The model as a config takes it.

    Args:
        recorded: its name in the checkpoint.
        given: a name, ``package.module:Class`` or a class; None if it is not given.

    Raises:
        UserError: for a class of the user's own that is not given, or another than the
            checkpoint's.
    """
    if given is None:
        try:
            model_class(recorded)
        except UserError:
            allowed = (
                "is not one of RecBole's; give its class beside the checkpoint, model=CLASS in "
                "Python, --model=package.module:Class"
            )
            raise UserError.of("model", recorded, allowed) from None
        return recorded
    if isinstance(given, str) and ":" in given:
        given = find_class("model", given, {}, AbstractRecommender)
    name = given.__name__ if isinstance(given, type) else given
    if name != recorded:
        raise UserError.of("model", name, f"the checkpoint is of {recorded}")
    return given


def restore(
    config: Config, state: Mapping[str, Any], path: str | os.PathLike[str], key: str = "checkpoint"
) -> Trained:
    """Read and split the data of a checkpoint, and build its model.

    Args:
        config: as :func:`read_checkpoint` returns it.
        state: likewise.
        path: the checkpoint.
        key: what named the file, for the error message.

    Raises:
        UserError: if the data is not there or cannot be used, or the checkpoint does not fit it.
    """
    init_seed(config["seed"], config["reproducibility"])
    try:
        dataset = create_dataset(config)
    except UserError as error:
        if os.path.isdir(config["data_path"]):
            raise
        allowed = (
            f"{path} was trained on dataset={config['dataset']}, which is not there now; give the "
            f"data_path that it lies in"
        )
        raise UserError.of("data_path", config.data_root, allowed) from error
    getLogger().info(dataset)
    check_tokens(dataset, state.get("tokens"), key, path)
    loaders = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, loaders[0]._dataset)
    try:
        load_best(model, state)
    except DOES_NOT_FIT as error:
        reason = f"its parameters do not fit the model and the data: {error}"
        raise UserError.of(key, path, reason) from error
    if config["eval_similarity"] == "cosine":
        predict_by_cosine(make_adapter(model, config))
    return Trained(config, model, dataset, *loaders)
