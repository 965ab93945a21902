"""``recbole-hns run``: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_hns import quick_start
from recbole_hns.cli.options import option_help, parse
from recbole_hns.config import DEFAULTS
from recbole_hns.sampler import SAMPLERS, HardNegativeSampler

WHEN_INTERRUPTED = "; --resume=CHECKPOINT goes on after the last completed epoch"

USAGE = """\
usage: recbole-hns run [--model=BPR] [--dataset=ml-100k] [--sampler=ahns] [--KEY=VALUE ...]

Train a RecBole model with a sampler and test it.

  --model=NAME          RecBole model trained pairwise with a BPR loss (default {model})
  --dataset=NAME        RecBole data set, read from data_path/NAME (default {dataset})
  --sampler=NAME        one of those below, or package.module:Class (default {sampler})
  --config_files="A B"  YAML files, the later ones over the earlier; paper/... come with the package
  --resume=CHECKPOINT   go on with an interrupted run, after its last completed epoch
  --KEY=VALUE           any key of RecBole's or of the sampler's, over the files

Samplers, with their keys, defaults and what is allowed:
"""


def main(arguments: Sequence[str]) -> int:
    """Run the job; returns the exit status."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE.format(**DEFAULTS) + sampler_help())
        return 0
    values = parse(arguments)
    named: dict[str, Any] = {
        key: values.pop(key, None) for key in ("model", "dataset", "sampler", "resume")
    }
    files = values.pop("config_files", "").split()
    quick_start.run(**named, config_file_list=files, command_line=values)
    return 0


def sampler_help() -> str:
    """Every registered sampler with its hyperparameters, one a line."""
    return "\n".join(_described(cls) for cls in SAMPLERS.values())


def _described(cls: type[HardNegativeSampler]) -> str:
    summary = (cls.__doc__ or "").strip().splitlines()[0]
    return f"\n{cls.name}: {summary}\n{option_help(cls.hyperparameters)}"
