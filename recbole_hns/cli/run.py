"""``recbole-hns run``: the main job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recbole_hns import quick_start
from recbole_hns.cli.options import option_help, parse
from recbole_hns.config import DEFAULTS
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import LOSSES, loss_class
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import SAMPLERS, sampler_class

WHEN_INTERRUPTED = "; --resume=CHECKPOINT goes on after the last completed epoch"

USAGE = """\
usage: recbole-hns run [--model=BPR] [--dataset=ml-100k] [--sampler=ahns] [--loss=bpr]
                       [--KEY=VALUE ...]

Train a RecBole model with a sampler and a loss, and test it.

  --model=NAME          RecBole model trained pairwise with a BPR loss (default {model})
  --dataset=NAME        RecBole data set, read from data_path/NAME (default {dataset})
  --sampler=NAME        one of those below, or package.module:Class (default {sampler})
  --loss=NAME           one of those below, or package.module:Class (default the sampler's)
  --similarity=NAME     inner or cosine, what scores in training (default inner)
  --eval_similarity=NAME  the same in evaluation, or trained (default trained; with ssm, inner)
  --config_files="A B"  YAML files, the later ones over the earlier; paper/... come with the package
  --resume=CHECKPOINT   go on with an interrupted run, after its last completed epoch
  --KEY=VALUE           any key of RecBole's, the sampler's or the loss's, over the files

Samplers, with their keys, defaults and what is allowed:
"""

LOSS_USAGE = """\
Losses, likewise:
"""


def main(arguments: Sequence[str]) -> int:
    """Run the job; returns the exit status."""
    if "--help" in arguments or "-h" in arguments:
        _import_own([argument for argument in arguments if argument not in ("--help", "-h")])
        samplers, losses = registered_help(SAMPLERS.values()), registered_help(LOSSES.values())
        print(f"{USAGE.format(**DEFAULTS)}{samplers}\n\n{LOSS_USAGE}{losses}")
        return 0
    values = parse(arguments)
    named: dict[str, Any] = {
        key: values.pop(key, None) for key in ("model", "dataset", "sampler", "loss", "resume")
    }
    files = values.pop("config_files", "").split()
    quick_start.run(**named, config_file_list=files, command_line=values)
    return 0


def _import_own(arguments: Sequence[str]) -> None:
    """Import a sampler or loss of the user's own, for the help to list what it registers."""
    values = parse(arguments)
    if "sampler" in values:
        sampler_class(values["sampler"])
    if "loss" in values:
        loss_class(values["loss"])


def registered_help(classes: Iterable[type[HardNegativeSampler] | type[Loss]]) -> str:
    """Registered samplers or losses with their hyperparameters, one a line."""
    return "\n".join(_described(cls) for cls in classes)


def _described(cls: type[HardNegativeSampler] | type[Loss]) -> str:
    summary = (cls.__doc__ or cls.__name__).strip().splitlines()[0]
    default = getattr(cls, "default_loss", "bpr")
    note = "" if default == "bpr" else f" Its loss is {default} by default."
    return f"\n{cls.name}: {summary}{note}\n{option_help(cls.hyperparameters)}".rstrip()
