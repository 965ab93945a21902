"""``recbole-hns run``: the main job."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from recbole_hns.cli.options import Command, Given, Options, option_help, options
from recbole_hns.config import DEFAULTS
from recbole_hns.config.keys import KEYS
from recbole_hns.config.known import TRAINED, check_early, recbole_folder
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.errors import UserError, nearest
from recbole_hns.files import properties_path
from recbole_hns.parameters import Parameter
from recbole_hns.registry import find_class, listed

OPTIONS = options(
    model=(
        str,
        Field(DEFAULTS["model"], description="RecBole's model, trained pairwise with a BPR loss"),
    ),
    dataset=(
        str,
        Field(DEFAULTS["dataset"], description="data set, read from data_path/NAME"),
    ),
    sampler=(
        str,
        Field(DEFAULTS["sampler"], description="one of those below, or package.module:Class"),
    ),
    loss=(
        str | None,
        Field(
            None, description="one of those below, or package.module:Class; unset is the sampler's"
        ),
    ),
    config_files=(
        str,
        Field(
            "",
            description='YAML files, "A B", B over A; paper/... and recommended/... come '
            "with the package",
        ),
    ),
    resume=(
        str | None,
        Field(None, description="checkpoint of an interrupted run to go on with"),
    ),
)

#: How one training runs on several processes.
WORKERS = options(
    num_workers=(
        PositiveInt,
        Field(1, description="processes that train together, on Ray, with the figures of one"),
    ),
    address=(
        str | None,
        Field(None, description="HOST:PORT of a Ray cluster to join; unset starts Ray here"),
    ),
    cpus_per_worker=(PositiveInt, Field(1, description="CPUs, and threads, of a worker")),
    gpus_per_worker=(float, Field(0.0, ge=0, description="GPUs of a worker; 0 is the CPU")),
    max_failures=(
        NonNegativeInt,
        Field(3, description="how often lost workers are replaced"),
    ),
)

#: Of all keys of the config those that most runs set, and what the help says of them.
FIRST = {
    "Training": {
        "epochs": "passes over the training part, at most",
        "learning_rate": "of the optimizer",
        "train_batch_size": "positives in a step",
        "embedding_size": "dimension of users and items, of models that have it",
        "reg_weight": "L2 of a batch's embeddings, of models that have it",
        "weight_decay": "L2 of all parameters",
        "similarity": "what scores in training; unset is inner",
        "seed": "of the split, the model and the training",
    },
    "Evaluation": {
        "metrics": "RecBole's, and OPAUC, NormOPAUC, LLPAUC, NormLLPAUC",
        "topk": "the K's of the metrics",
        "valid_metric": "chooses the epoch",
        "stopping_step": "evaluations without a better one after which training ends",
        "protocol": "what chooses the epoch",
    },
    "Device and files": {
        "use_gpu": "the device: a GPU where there is one, or the CPU",
        "gpu_id": "which GPU",
        "data_path": "where data sets are",
        "checkpoint_dir": "for checkpoint, result file, log/ and log_tensorboard/",
    },
}

#: Samplers and losses in the order of the help; those that are not named here come last.
SAMPLERS = {
    "whatever the scores are": ("rns", "pns", "all"),
    "hard ones, by their scores": ("dns", "dns_mn", "ahns", "cuco", "aobpr", "warp", "srns"),
    "all candidates, weighted": ("softmax", "softmax_v", "ssm", "pris", "adasir", "kernel"),
    "made harder, or generated": ("mixgcf", "dens", "ans", "irgan"),
}
LOSSES = {
    "": ("bpr", "hinge", "softmax", "psl", "bsl", "sl_at_k", "talos", "llpauc", "advinfonce"),
    "made for sequential models": ("gbce", "sce"),
}

HELP = """\
Train a RecBole model with a sampler and a loss, and test it. The result is on stdout, the log on
stderr and in checkpoint_dir/log.

--KEY=VALUE is any key of RecBole's, the model's, the sampler's or the loss's, over the files. Those
that matter most are below; --help=NAME shows the keys of a sampler, a loss or a model.
"""


def run(given: Given) -> None:
    """Run the job."""
    keys = dict(given.keys)
    values = {key: value for key, value in given.values.items() if key in given.named}
    files = values.pop("config_files", "").split()
    if "resume" not in values:
        check_early(files, {**keys, **{k: v for k, v in values.items() if k not in WORKERS}})

    # PyTorch and RecBole take seconds to import
    from recbole_hns import quick_start

    named: Any = {key: values.get(key) for key in OPTIONS if key != "config_files"}
    named.update({key: value for key, value in values.items() if key in WORKERS})
    quick_start.run(**named, config_file_list=files, command_line=keys, report=print)


def more_help(name: str | None) -> str:
    """The keys that matter most and a line for each sampler and loss; or what one name stands for.

    Raises:
        UserError: if it stands for nothing.
    """
    if name is not None:
        return _help_of(name)
    values = defaults()
    parts = [f"{title}:\n{option_help(_keys(group, values))}" for title, group in FIRST.items()]
    for kind, plural, order in (("sampler", "Samplers", SAMPLERS), ("loss", "Losses", LOSSES)):
        summaries = dict(listed(kind).summaries)
        groups = {
            title: {name: summaries.pop(name) for name in names} for title, names in order.items()
        }
        groups["further ones"] = summaries
        for title, group in groups.items():
            if group:
                lines = [f"  {name:<11} {summary}" for name, summary in group.items()]
                parts.append("\n".join([f"{plural}{title and ', '}{title}:", *lines]))
    return "\n\n".join(parts)


def defaults() -> dict[str, Any]:
    """What runs have unless it is given; of the keys of models, what most of them have."""
    properties = recbole_folder() / "properties"
    paths = properties / "overall.yaml", properties / "model" / "LightGCN.yaml"
    found: dict[str, Any] = {}
    for path in (*paths, properties_path("overall.yaml")):
        found.update(read_yaml(path))
    return found


def _keys(group: Mapping[str, str], defaults: Mapping[str, Any]) -> Options:
    return {
        # RecBole checks some itself
        key: Parameter(key, KEYS[key].annotation or str, Field(defaults[key], description=meaning))
        for key, meaning in group.items()
    }


def _help_of(name: str) -> str:
    """What a sampler, a loss or a model is, and its keys."""
    found = [_component_help(cls) for cls in _components(name)]
    if name in TRAINED:
        path = recbole_folder() / "properties" / "model" / f"{name}.yaml"
        keys = path.read_text(encoding="utf-8").strip()
        found.append(f"Model {name}: RecBole's, with these keys and defaults\n\n{keys}")
    if not found:
        names = [*listed("sampler").summaries, *listed("loss").summaries, *TRAINED]
        close = nearest(name, names)
        hint = f"; did you mean {close}?" if close else f"; known: {', '.join(names)}"
        raise UserError.of("help", name, f"is no sampler, loss or model{hint}")
    return "\n\n".join(found)


def _components(name: str) -> Sequence[Any]:
    if name in TRAINED:
        return ()

    # PyTorch takes seconds to import
    from recbole_hns.component import Component
    from recbole_hns.loss import LOSSES
    from recbole_hns.sampler import SAMPLERS

    if ":" in name:
        return [find_class("help", name, {}, Component)]
    return [classes[name] for classes in (SAMPLERS, LOSSES) if name in classes]


def _component_help(cls: Any) -> str:
    default = getattr(cls, "default_loss", "bpr")
    note = "" if default == "bpr" else f"\n\nIts loss is {default} by default."
    keys = option_help(cls.hyperparameters)
    return f"{cls.kind.capitalize()} {cls.name}: {inspect.getdoc(cls)}{note}\n\nKeys:\n{keys}"


COMMAND = Command(
    "run",
    run,
    "[--model={model}] [--dataset={dataset}] [--sampler={sampler}] [--loss=bpr] "
    "[--KEY=VALUE ...]".format(**DEFAULTS),
    HELP,
    {"What to train": OPTIONS, "On several processes": WORKERS},
    takes_keys=True,
    when_interrupted="--resume=CHECKPOINT goes on after the last completed epoch",
    more=more_help,
)
