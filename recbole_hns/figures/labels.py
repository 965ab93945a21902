"""Runs that differ in nothing but the seed, together, and their names in a legend."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_hns.config.keys import key_of
from recbole_hns.figures import names
from recbole_hns.results import Run


def over_seeds(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, those that differ in nothing but the seed together, in the order of the first.

    Of two runs that differ in nothing at all, each is for itself.
    """
    groups: dict[tuple[object, ...], list[Run]] = {}
    seen: dict[tuple[object, ...], int] = {}
    for run in runs:
        settings = {
            key: str(value)
            for key, value in run.config.items()
            if key != "seed" and key_of(key).names_runs
        }
        same = (run.sampler, run.loss, run.protocol, *sorted(settings.items()))
        alike = (*same, run.seed)
        seen[alike] = seen.get(alike, 0) + 1
        groups.setdefault((*same, seen[alike]), []).append(run)
    return list(groups.values())


def labels(runs: Sequence[Run]) -> list[str]:
    """A different label for each run: its sampler, and what sets it apart from its namesakes.

    Runs of one sampler are told apart by as few settings as suffice, their seed aside, and by a
    number where no setting does. Where their protocols differ, every label has its run's.
    """
    mixed = ["protocol"] if len({run.protocol for run in runs}) > 1 else []
    found = [
        _name(run, [other for other in runs if other.sampler == run.sampler], mixed) for run in runs
    ]
    return [
        name if found.count(name) == 1 else f"{name} #{found[: index + 1].count(name)}"
        for index, name in enumerate(found)
    ]


def _name(run: Run, namesakes: Sequence[Run], shown: Sequence[str]) -> str:
    keys = list(shown)
    # a config ends with the keys of model and sampler, which say the most
    for key in reversed(namesakes[0].config):
        tells = _kinds(namesakes, [*keys, key]) > _kinds(namesakes, keys)
        if tells and key != "seed" and key_of(key).names_runs:
            keys.append(key)
    return ", ".join(
        [names.sampler(run.sampler), *(names.setting(key, run.config.get(key)) for key in keys)]
    )


def _kinds(runs: Sequence[Run], keys: Sequence[str]) -> int:
    """How many of the runs can be told apart by these keys."""
    return len({tuple(str(run.config.get(key)) for key in keys) for run in runs})
