"""What a benchmark compares: RecBole's own training, and training with each sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recbole_hns.config import Config
from recbole_hns.config.axes import chosen_loss
from recbole_hns.config.specs import is_fixed, parse_specs, without_fixed
from recbole_hns.errors import UserError
from recbole_hns.ops.row_optimizers import ROW_OPTIMIZERS
from recbole_hns.sampler import HardNegativeSampler, sampler_class

#: Keys of an entry beside those of its sampler and its loss.
AXES = ("loss", "similarity", "eval_similarity")

#: RecBole's own ways to choose a negative: ``train_neg_sample_args`` with ``dynamic`` off and on.
RECBOLE = ("uniform", "dynamic")


@dataclass(frozen=True)
class Entry:
    """One way of training that a benchmark measures.

    Attributes:
        label: its name in tables and figures.
        config: its config; entries of a benchmark differ in sampler and loss only.
        recbole: ``uniform`` or ``dynamic`` for RecBole's own training, None for a sampler.
        candidate_num: N, candidates per positive; None where there is just the one negative.
    """

    label: str
    config: Config
    recbole: str | None
    candidate_num: int | Literal["all"] | None


def entries(values: Mapping[str, Any], samplers: str, recbole: str) -> list[Entry]:
    """The entries of a benchmark: RecBole's, then the samplers in their order.

    Args:
        values: config keys of all entries. A sampler's key applies to the samplers that have it,
            ``candidate_num`` to those that take more than one candidate.
        samplers: specs of samplers, such as ``rns, dns_mn:dns_m=5,candidate_num=200``.
        recbole: specs of RecBole's own, ``uniform`` and ``dynamic:candidate_num=32``; ``dynamic``
            without a number stands for one entry with each of the samplers' numbers. On a GPU
            RecBole's ``dynamic`` does not run, and is left out.

    Raises:
        UserError: for a spec that does not parse, a value that is not allowed, or an entry that
            is there twice.
    """
    ours = [_sampler_entry(values, *spec) for spec in parse_specs("samplers", samplers)]
    numbers = {entry.candidate_num for entry in ours if isinstance(entry.candidate_num, int)}
    theirs: list[Entry] = []
    for name, keys in parse_specs("recbole", recbole):
        theirs += _recbole_entries(values, name, keys, sorted(numbers))
    found = theirs + ours
    if not ours:
        raise UserError.of("samplers", samplers, "must name at least one sampler")
    if found[0].config["protocol"] == "all":
        raise UserError.of("protocol", "all", "must be valid or paper: evaluations are timed too")
    labels = [entry.label for entry in found]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"samplers, recbole: {label} is there twice")
    return found


def _sampler_entry(values: Mapping[str, Any], name: str, keys: Mapping[str, Any]) -> Entry:
    cls = sampler_class(name)
    loss = chosen_loss(cls, {**values, **keys})
    own = [*cls.hyperparameters, *loss.hyperparameters, *AXES]
    for key, value in keys.items():
        if key not in own:
            raise UserError.of(key, value, f"sampler {name} has only {', '.join(own)}")
    config = Config(sampler=name, config_dict={**without_fixed(values, cls), **keys})
    number = None if is_fixed(cls, "candidate_num") else config.sampler.candidate_num
    settings = [] if number is None else [f"N={number}"]
    settings += [f"{key}={value}" for key, value in keys.items() if key != "candidate_num"]
    label = f"{name} ({', '.join(settings)})" if settings else name
    return Entry(label, config, None, number)


def _recbole_entries(
    values: Mapping[str, Any], name: str, keys: Mapping[str, Any], numbers: Sequence[int]
) -> list[Entry]:
    if name not in RECBOLE:
        raise UserError.of("recbole", name, f"must be one of {', '.join(RECBOLE)}")
    allowed = {"candidate_num"} if name == "dynamic" else set()
    for key, value in keys.items():
        if key not in allowed:
            raise UserError.of(key, value, f"RecBole's {name} has {allowed or 'no keys'} here")
    if name == "uniform":
        return [_recbole_entry(values, None)]
    if keys:
        number = HardNegativeSampler.hyperparameters["candidate_num"].check(keys["candidate_num"])
        if number == "all":
            raise UserError.of("candidate_num", number, "RecBole's dynamic takes a number")
        numbers = [number]
    found = [_recbole_entry(values, number) for number in numbers]
    # on a GPU it ends in an error: the candidates stay on the CPU, their best ones do not
    return [entry for entry in found if entry.config["device"].type == "cpu"]


def _recbole_entry(values: Mapping[str, Any], candidate_num: int | None) -> Entry:
    """RecBole's ``uniform``, or its ``dynamic`` with a number of candidates."""
    config = Config(sampler="rns", config_dict=without_fixed(values, sampler_class("rns")))
    if config["learner"] in ROW_OPTIMIZERS:
        allowed = "RecBole's own training cannot have it; --recbole= leaves that out"
        raise UserError.of("learner", config["learner"], allowed)
    # not among the keys, where it would be refused in favour of a sampler
    config["train_neg_sample_args"] = {
        "distribution": "uniform",
        "sample_num": 1,
        "alpha": 1.0,
        "dynamic": candidate_num is not None,
        "candidate_num": candidate_num or 0,
    }
    name = "uniform" if candidate_num is None else "dynamic"
    return Entry(recbole_label(candidate_num), config, name, candidate_num)


def recbole_label(candidate_num: int | None) -> str:
    """Label of RecBole's ``dynamic`` with a number of candidates, of ``uniform`` with none."""
    return "RecBole uniform" if candidate_num is None else f"RecBole dynamic (N={candidate_num})"
