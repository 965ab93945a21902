"""Names of runs in a legend."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_hns.config.keys import key_of
from recbole_hns.results import Run


def labels(runs: Sequence[Run]) -> list[str]:
    """A different label for each run: its sampler, and what sets it apart from its namesakes.

    Runs of one sampler are told apart by as few settings as suffice, and by a number where no
    setting does. Where their protocols differ, every label has its run's.
    """
    mixed = ["protocol"] if len({run.protocol for run in runs}) > 1 else []
    names = [
        _name(run, [other for other in runs if other.sampler == run.sampler], mixed) for run in runs
    ]
    return [
        name if names.count(name) == 1 else f"{name} #{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def _name(run: Run, namesakes: Sequence[Run], shown: Sequence[str]) -> str:
    keys = list(shown)
    # a config ends with the keys of model and sampler, which say the most
    for key in reversed(namesakes[0].config):
        tells = _kinds(namesakes, [*keys, key]) > _kinds(namesakes, keys)
        if tells and key_of(key).names_runs:
            keys.append(key)
    settings = ", ".join(f"{key}={run.config.get(key)}" for key in keys)
    return f"{run.sampler} ({settings})" if settings else run.sampler


def _kinds(runs: Sequence[Run], keys: Sequence[str]) -> int:
    """How many of the runs can be told apart by these keys."""
    return len({tuple(str(run.config.get(key)) for key in keys) for run in runs})
