"""The keys that somebody reads, and what was meant by one that nobody does.

RecBole's are read from its files, as importing it takes seconds.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
import runpy
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_hns.config import DEFAULTS
from recbole_hns.config.keys import KEYS, key_of
from recbole_hns.config.yaml_files import read_config_files, read_yaml
from recbole_hns.convert import COLUMN_OPTIONS
from recbole_hns.errors import UserError, did_you_mean, nearest, plain_name
from recbole_hns.files import properties_path
from recbole_hns.registry import listed

#: What names a run beside the keys of the table.
NAMES = ("model", "dataset", "sampler", "loss")

#: RecBole's models that are trained here: one file of keys may serve several of them.
TRAINED = ("BPR", "LightGCN", "NGCF", "DGCF", "SGL", "NCL", "SpectralCF", "ConvNCF")

_FILES = 'YAML files are named by --config_files="A.yaml B.yaml" on the command line, and by '
_FILES += "config_file_list in Python"
_PROCESSES = (
    "is RecBole's; here run has --num_workers, --address=HOST:PORT, --cpus_per_worker and "
    "--gpus_per_worker, and torchrun starts it too"
)
_TUNE = "is an option of RecBole's run_hyper.py; here recbole-hns tune --help lists the options"
_RANGE = "set val_interval, such as {'rating': '[3,inf)'}, instead"
_SPLIT = "set eval_args={'split': {'RS': [0.8, 0.1, 0.1]}}, or {'split': {'LS': 'valid_and_test'}}"
_COLUMN = (
    "it is an option of recbole-hns convert, and in Python an argument of run where the data set "
    "is a data frame"
)
_LOADERS = "there is no such choice any more; leave it out"

#: Keys that nobody reads, but that RecBole had once, has as options of its scripts, or that other
#: programs call so; with what to do instead.
INSTEAD = {
    # options of RecBole's scripts
    "config_file": _FILES,
    "config_files": _FILES,
    "config_file_list": _FILES,
    "config_dict": "its keys are given one by one",
    "nproc": _PROCESSES,
    "world_size": _PROCESSES,
    "ip": _PROCESSES,
    "port": _PROCESSES,
    "group_offset": _PROCESSES,
    "offset": _PROCESSES,
    "params_file": "the search space of recbole-hns tune is named by --params",
    "output_file": _TUNE,
    "display_file": _TUNE,
    "max_evals": _TUNE,
    "resume": "goes on from a checkpoint by --resume=CHECKPOINT of run, or as resume= in Python",
    # of a data set that is yet to be made
    **dict.fromkeys(COLUMN_OPTIONS.values(), _COLUMN),
    "min_rating": "set val_interval, such as {'rating': '[4,inf)'}, or convert with --min_rating",
    # RecBole's former names
    "eval_setting": "set eval_args, such as {'order': 'TO', 'split': {'LS': 'valid_and_test'}}",
    "group_by_user": "set eval_args={'group_by': 'user'} or {'group_by': 'none'} instead",
    "split_ratio": _SPLIT,
    "leave_one_num": _SPLIT,
    "min_user_inter_num": "set user_inter_num_interval, such as [10,inf), instead",
    "max_user_inter_num": "set user_inter_num_interval, such as [0,100], instead",
    "min_item_inter_num": "set item_inter_num_interval, such as [10,inf), instead",
    "max_item_inter_num": "set item_inter_num_interval, such as [0,100], instead",
    "lowest_val": _RANGE,
    "highest_val": _RANGE,
    "equal_val": _RANGE,
    "not_equal_val": _RANGE,
    "drop_filter_field": _LOADERS,
    "drop_preload_weight": _LOADERS,
    "real_time_process": _LOADERS,
    "draw_loss_pic": _LOADERS,
    "save_sampled_ids": _LOADERS,
    "fields_in_same_space": "set alias_of_user_id or alias_of_item_id instead",
    "training_neg_sample_distribution": "the sampler draws the negatives; set sampler and "
    "candidate_distribution instead",
    # parts of eval_args
    "split": _SPLIT,
    "order": "set eval_args={'order': 'RO'} or {'order': 'TO'}",
    "group_by": "set eval_args={'group_by': 'user'} or {'group_by': 'none'}",
    "mode": "set eval_args={'mode': 'full'}, or uni100, pop100 or labeled",
    # what other programs call them
    **{
        other: f"did you mean {key}?"
        for key, others in {
            "learning_rate": "lr",
            "train_batch_size": "batch_size bs train_bs batchsize",
            "eval_batch_size": "test_batch_size valid_batch_size",
            "epochs": "epoch num_epochs n_epochs max_epochs num_epoch",
            "topk": "k top_k ks cutoffs",
            "learner": "optimizer optim",
            "embedding_size": "dim dims latent_dim embedding_dim emb_dim emb_size factors "
            "hidden_size embed_size",
            "reg_weight": "reg l2 l2_reg regularization lambda",
            "weight_decay": "wd decay",
            "n_layers": "num_layers layers n_layer",
            "stopping_step": "patience early_stop early_stopping",
            "gpu_id": "gpu gpus cuda cuda_id",
            "worker": "workers",
            "candidate_num": "n_negs num_neg num_negs neg_num num_negatives n_negatives "
            "neg_sample_num candidates",
            "loss_tau": "tau temperature temp",
            "log_wandb": "wandb use_wandb",
            "state": "log_level loglevel verbose",
            "checkpoint_dir": "save_dir save_path",
            "seed": "random_seed random_state",
            "data_path": "data_dir data_root root",
            "metrics": "metric",
            "benchmark_filename": "benchmark benchmark_files",
        }.items()
        for other in others.split()
    },
}

_READ = re.compile(
    r"""config\s*\[\s*["'](\w+)["']\s*\]"""
    r"""|config\.get\(\s*["'](\w+)["']"""
    r"""|["'](\w+)["']\s+(?:not\s+)?in\s+(?:self\.)?config\b"""
)


@functools.cache
def recbole_keys() -> frozenset[str]:
    """The keys of any run that RecBole reads, or this package outside samplers and losses."""
    lists = runpy.run_path(str(recbole_folder() / "utils" / "argument_list.py"))
    properties = recbole_folder() / "properties"
    known = {key for name, keys in lists.items() if name.endswith("_arguments") for key in keys}
    known.update(read_yaml(properties / "overall.yaml"))
    known.update(read_yaml(properties / "dataset" / "sample.yaml"))
    known.update(read_yaml(properties_path("overall.yaml")))
    known.update(KEYS, NAMES, ("encoding",))
    # those of the table that only some models read, and a script's option that nothing reads
    return frozenset(known - model_keys_of_any() - {"config_file"})


@functools.cache
def model_keys(model: type) -> frozenset[str]:
    """The keys that a model reads: those of its properties file, and in its class's source.

    A model of the user's may read others in functions of its own.
    """
    from recbole.model.abstract_recommender import AbstractRecommender

    known = set(properties_keys(model.__name__))
    for cls in model.__mro__:
        if not issubclass(cls, AbstractRecommender):
            continue
        try:
            source = inspect.getsource(cls)
        except (OSError, TypeError):  # a class that was made in no file
            continue
        known.update(_read_in(source))
        known.update(properties_keys(cls.__name__) if is_recboles(cls) else ())
    return frozenset(known)


@functools.cache
def model_keys_of_any() -> frozenset[str]:
    """The keys that the models trained here have in their properties files."""
    return frozenset(key for name in TRAINED for key in properties_keys(name))


def is_recboles(model: type) -> bool:
    """Whether a model is RecBole's own, whose keys are all known."""
    return model.__module__.split(".")[0] == "recbole"


def check_key(
    key: str, value: Any, known: Collection[str], ours: Collection[str], model: type | str
) -> str | None:
    """Refuse a key that nobody reads or RecBole derives.

    Args:
        key: the key.
        value: its value.
        known: the keys that somebody reads.
        ours: those of samplers and losses among them.
        model: the model, or the name of one of RecBole's.

    Returns:
        What to say of a key that only a model of the user's may read; None of one that is known.

    Raises:
        UserError: if it is refused.
    """
    kind = getattr(getattr(model, "type", None), "name", None)
    if key == "train_neg_sample_args" and value is None and kind == "SEQUENTIAL":
        return None  # as RecBole asks of who trains with cross-entropy
    if key_of(key).instead:
        raise UserError.of(key, value, key_of(key).instead)
    if key in known or key in model_keys_of_any():
        return None
    heads = (*ours, *listed("sampler").summaries, *listed("loss").summaries)
    family = "_" in key and key.split("_")[0] in {name.split("_")[0] for name in heads}
    hint = meant(key, known, cutoff=0.5 if family else 0.6)
    users = isinstance(model, type) and not is_recboles(model)
    if users and not (family or key in INSTEAD):
        # it may read it in a way that is not seen
        return hint or "leave it out if it is a mistake"
    if family and hint is None:
        hint = f"known: {', '.join(ours)}"
    name = model if isinstance(model, str) else model.__name__
    hint = hint or f"nothing reads it: not RecBole, nor its {name}, nor any sampler or loss"
    raise UserError.of(key, value, f"no such key; {hint}")


def check_early(
    files: Sequence[str],
    command_line: Mapping[str, str],
    specs: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> None:
    """Refuse keys that nobody reads before PyTorch and RecBole are imported.

    What classes of the user's own read is not known before they are: the config checks it then.

    Args:
        files: YAML files, the later ones over the earlier.
        command_line: keys over those of the files.
        specs: samplers with keys of their own; default the one that the keys name.

    Raises:
        UserError: as :func:`check_key`.
    """
    given = {**read_config_files(files), **command_line}
    model = given.get("model", DEFAULTS["model"])
    specs = specs or [(given.get("sampler", DEFAULTS["sampler"]), {})]
    named = {
        "sampler": [name for name, _ in specs],
        "loss": [keys.get("loss") or given.get("loss") or "bpr" for _, keys in specs],
    }
    for kind, names in named.items():
        if not all(isinstance(name, str) and name in listed(kind).summaries for name in names):
            return
    if model not in TRAINED:
        return
    ours = sorted(listed("sampler").keys | listed("loss").keys)
    known = {*ours, *recbole_keys(), *properties_keys(model)}
    folder = recbole_folder() / "model"
    for path in ("abstract_recommender.py", f"general_recommender/{model.lower()}.py"):
        known |= _read_in((folder / path).read_text(encoding="utf-8"))
    for key, value in given.items():
        if isinstance(key, str):
            check_key(key, value, known, ours, model)


def meant(key: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """What to say of a key that nobody reads: what it was called, or the nearest of ``known``.

    Returns:
        None if nothing is near.
    """
    plain = plain_name(key)
    if plain in INSTEAD and plain not in known:
        return INSTEAD[plain]
    close = nearest(key, known, cutoff)
    return f"did you mean {close}?" if close else None


def unknown(key: str, allowed: Collection[str]) -> str:
    """What to say of a key in a dictionary that may hold only those in ``allowed``."""
    return f"{key} is none of {', '.join(allowed)}{did_you_mean(key, allowed)}"


@functools.cache
def recbole_folder() -> Path:
    """Where RecBole is installed."""
    spec = importlib.util.find_spec("recbole")
    assert spec is not None and spec.origin is not None  # noqa: PT018
    return Path(spec.origin).parent


def _read_in(source: str) -> set[str]:
    return {name for found in _READ.findall(source) for name in found if name}


@functools.cache
def properties_keys(model: str) -> tuple[str, ...]:
    """The keys in RecBole's properties file of a model, in their order."""
    path = recbole_folder() / "properties" / "model" / f"{model}.yaml"
    return tuple(read_yaml(path) if path.is_file() else ())
