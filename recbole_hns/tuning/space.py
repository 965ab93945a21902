"""Search spaces: YAML files that name parameters with their values, and what points they have."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recbole_hns.config.axes import chosen_loss, make_axes, set_by_sampler, without_effect
from recbole_hns.config.config import model_class
from recbole_hns.config.keys import KEYS, TABLE, key_of
from recbole_hns.config.known import properties_keys
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.errors import UserError, nearest
from recbole_hns.files import plain, properties_path
from recbole_hns.loss.base import Loss
from recbole_hns.parameters import Declared
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import sampler_class

if TYPE_CHECKING:
    from ray.tune.search.sample import Domain

#: The most points that a sweep may have.
MOST_POINTS = 10**5

#: Draws for each point that is wanted, after which the possible ones are all that there will be.
TRIES = 100

#: Types of the two bounds that a distribution has; beside these there is ``choice``.
BOUNDS: dict[str, tuple[type, ...]] = {
    "uniform": (int, float),
    "loguniform": (int, float),
    "randint": (int,),
}


def distribution(name: str, value: Mapping[Any, Any]) -> Domain:
    """Ray's object for ``{loguniform: [1e-4, 1e-2]}`` and the like.

    Raises:
        UserError: if there is no such distribution, or its arguments do not fit it.
    """
    kind, arguments = next(iter(value.items())) if len(value) == 1 else ("", None)
    arguments = arguments if isinstance(arguments, list) else []
    types = BOUNDS.get(kind, ())
    pair = len(arguments) == 2 and all(type(bound) in types for bound in arguments)
    if pair or (kind == "choice" and arguments):
        # which takes a second to import
        from recbole_hns.tuning.ray_names import tune

        # Ray refuses some bounds at once and NumPy some when it draws; no float is large enough for
        # some integers; what is out of order, nobody refuses
        with suppress(ValueError, OverflowError):
            if kind == "choice":
                return tune.choice(arguments)
            low, high = arguments if kind == "randint" else map(float, arguments)
            domain = getattr(tune, kind)(low, high)
            _draw(domain, np.random.default_rng(0))
            if low < high:
                return domain
    allowed = (
        "must be a list of values, or one of uniform, loguniform, randint with [LOW, HIGH], LOW < "
        "HIGH (loguniform: > 0; randint: integers of 64 bits; uniform: HIGH - LOW a finite "
        "number), or choice with a list"
    )
    raise UserError.of(name, dict(value), allowed)


def _draw(domain: Domain, rng: np.random.Generator) -> Any:
    """One value, of Python's types."""
    return plain(domain.sample(random_state=rng))


def frozen(value: Any) -> Hashable:
    """A value of a point, or the point, as one that can be hashed, equal where they are."""
    if isinstance(value, Mapping):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    return value


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        grids: the parameters of which every value is tried, with their values.
        distributions: the parameters that are drawn, as Ray's objects.
        content: the mapping that it was read from.
    """

    grids: dict[str, list[Any]]
    distributions: dict[str, Domain]
    content: dict[str, Any]

    @property
    def parameters(self) -> list[str]:
        """The parameters of its points, in order."""
        return [*self.grids, *self.distributions]

    def values(self, name: str) -> list[Any]:
        """The values of a parameter, as far as they can be listed: those of a list or a choice."""
        categories = getattr(self.distributions.get(name), "categories", [])
        return self.grids.get(name, categories)

    def points(self, num_samples: int, seed: int) -> Iterator[Iterator[dict[str, Any]]]:
        """For each point of the grid, the points to take ``num_samples`` of.

        Without distributions there is one, the grid's; otherwise :data:`TRIES` draws for each
        sample.
        """
        rng = np.random.default_rng(seed)
        draws = TRIES * num_samples if self.distributions else 1
        for values in itertools.product(*self.grids.values()):
            grid = dict(zip(self.grids, values, strict=True))
            yield (
                {**grid, **{name: _draw(drawn, rng) for name, drawn in self.distributions.items()}}
                for _ in range(draws)
            )


class Sweep(NamedTuple):
    """What a sweep is of.

    Attributes:
        keys: config keys of all trials, with ``model``, ``dataset`` and ``sampler``.
        space: the search space.
        points: the possible points of it.
    """

    keys: dict[str, Any]
    space: Space
    points: list[dict[str, Any]]


def default_space(sampler: str, loss: str | None) -> dict[str, Any]:
    """The search space that comes with the sampler, with that of the loss where one is named.

    Parameters of the loss that the sampler sets, and those of the sampler that have no effect with
    the loss, are not in it.

    Raises:
        UserError: if there is no such sampler or loss, or neither comes with a search space.
    """
    chooses = sampler_class(sampler)
    learns = chosen_loss(chooses, {"loss": loss})
    of_sampler = _shipped_space(f"tune/{sampler}.yaml")
    of_loss = {} if loss is None else _shipped_space(f"tune/loss/{loss}.yaml")
    if not of_sampler and not of_loss:
        samplers, losses = (
            ", ".join(sorted(file.stem for file in properties_path(folder).glob("*.yaml")))
            for folder in ("tune", "tune/loss")
        )
        allowed = f"comes with no search space; give --params, or use {samplers}, or loss={losses}"
        raise UserError.of("sampler", sampler, allowed)
    left_out = set_by_sampler(chooses, learns)
    left_out = left_out.union(without_effect(chooses(), learns(), of_sampler))
    content = {**of_sampler, **of_loss}
    return {name: values for name, values in content.items() if name not in left_out}


def _shipped_space(name: str) -> dict[str, Any]:
    path = properties_path(name)
    return read_yaml(path) if path.is_file() else {}


def space_path(params: str | os.PathLike[str]) -> Path:
    """The file of a search space.

    ``properties/...`` names a file that comes with the package where there is none in the working
    directory.
    """
    path = Path(params)
    if path.parts[:1] == ("properties",) and not path.exists():
        return properties_path(str(path.relative_to("properties")))
    return path


def read_space(
    source: str | os.PathLike[str] | Mapping[str, Any], fixed: Collection[str] = ()
) -> Space:
    """Read a search space from a YAML file, or take it from a mapping of the same form.

    Args:
        source: the file or mapping.
        fixed: parameters to leave out, because they are given a value elsewhere.

    Raises:
        UserError: if it cannot be read, names no parameter, gives one no values, or has the
            ``constraints`` of the former version.
    """
    content = source if isinstance(source, Mapping) else read_yaml(source, key="params")
    content = {str(name): value for name, value in content.items() if name not in fixed}
    if "constraints" in content:
        allowed = "leave it out: points whose values are impossible together are left out as it is"
        raise UserError.of("constraints", content["constraints"], allowed)
    if not content:
        allowed = "must name at least one parameter that is not given elsewhere, with its values"
        raise UserError.of("params", source, allowed)
    grids: dict[str, list[Any]] = {}
    distributions: dict[str, Domain] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            distributions[name] = distribution(name, value)
            continue
        values = value if isinstance(value, list) else [value]
        if not values:
            raise UserError.of(name, value, "must list at least one value")
        grids[name] = values
    return Space(grids, distributions, content)


def possible_points(
    space: Space,
    sampler: type[HardNegativeSampler],
    model: str,
    given: Mapping[str, Any],
    num_samples: int = 1,
) -> list[dict[str, Any]]:
    """The points of a space, without repeats and without those that cannot be trained.

    A point is impossible if the sampler or the loss refuses its values together, or if they have no
    meaning together.

    Args:
        space: the space.
        sampler: the sampler of all points.
        model: name of the model of all points.
        given: config keys of all points.
        num_samples: random points for each point of the grid, where the space has distributions.

    Raises:
        UserError: for a parameter that there is not, a value that it cannot have, or if no point
            is possible.
    """
    losses = [
        chosen_loss(sampler, {"loss": name}) for name in space.values("loss") or [given.get("loss")]
    ]
    _check_names(space, sampler, losses, model)
    if num_samples > 1 and not space.distributions:
        allowed = "must be 1 for a space of lists only, each point of which is tried once"
        raise UserError.of("num_samples", num_samples, allowed)
    number = math.prod(map(len, space.grids.values())) * num_samples
    if number > MOST_POINTS:
        raise UserError(f"params: the search space has {number} points; must be <= {MOST_POINTS}")
    found: dict[Hashable, dict[str, Any]] = {}
    reason = ""
    network = model_class(model)
    seed = KEYS["seed"].check(given.get("seed", 2020))
    for points in space.points(num_samples, seed):
        wanted = len(found) + num_samples
        for point in points:
            if len(found) == wanted:
                break
            point = {name: _checked(name, value, sampler, *losses) for name, value in point.items()}
            if frozen(point) in found:
                continue
            try:
                make_axes(network, sampler, {**given, **point})
            except UserError as error:
                reason = str(error)
                continue
            found[frozen(point)] = point
    if not found:
        raise UserError(f"params: the search space has no possible point; for its last, {reason}")
    return list(found.values())


def searchable(
    sampler: type[HardNegativeSampler], losses: Sequence[type[Loss]], model: str
) -> list[str]:
    """The keys that a sweep may search: the sampler's, the losses', the training's, the model's."""
    of_losses = [key for loss in losses for key in loss.hyperparameters]
    of_training = [key.name for key in TABLE if key.searchable]
    return list(
        dict.fromkeys([*sampler.hyperparameters, *of_losses, *of_training, *properties_keys(model)])
    )


def _check_names(
    space: Space, sampler: type[HardNegativeSampler], losses: Sequence[type[Loss]], model: str
) -> None:
    known = searchable(sampler, losses, model)
    for name in space.parameters:
        if name not in known:
            values = space.grids.get(name, space.distributions.get(name))
            close = nearest(name, known)
            hint = f"did you mean {close}?" if close else f"known: {', '.join(known)}"
            parts = ", ".join(dict.fromkeys([sampler.name, *(loss.name for loss in losses)]))
            allowed = f"no parameter of {parts}, {model} or the training; {hint}"
            raise UserError.of(name, values, allowed)


def _checked(name: str, value: Any, *declared: type[Declared]) -> Any:
    for cls in declared:
        if name in cls.hyperparameters:
            return cls.hyperparameters[name].check(value)
    return key_of(name).check(value)
