"""The joint space of a search, as a define-by-run function of Optuna's, and where it starts.

What has to be tuned together is searched together: layers, the sampler or the loss with its
hardness, sharing, L2, weight decay, learning rate and its decay, initial scale and batch size.
There are two families with ranges of their own: selections by inner products, with strong L2, and
losses by cosine over candidates that a batch shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recbole_hns.config.config import model_class
from recbole_hns.config.keys import KEYS
from recbole_hns.config.known import properties_keys
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.errors import UserError
from recbole_hns.files import properties_path
from recbole_hns.loss.registry import loss_class
from recbole_hns.model.registry import adapter_class
from recbole_hns.parameters import Declared
from recbole_hns.sampler.registry import sampler_class
from recbole_hns.tuning.space import default_space

#: The model of a search that names none: without layers it is matrix factorisation.
MODEL = "LightGCN"

#: What selects by inner products where the user names none. Softmax-v learns in fewer epochs and
#: ends no higher; a search of both stays with it if it comes first.
SAMPLER = "dns_mn"

#: What is chosen among where the user names none.
LOSSES = ("softmax", "sl_at_k", "bsl")

#: What is searched in place of M of DNS(M,N): M over N, with which every N has a possible M.
FRACTION = "dns_m_fraction"

#: A recipe beside them: negatives by popularity, and inner products at evaluation.
BY_POPULARITY = ("paper/bsl/common.yaml", "paper/bsl/yelp2018-lightgcn-bsl.yaml")

#: Interactions that recipes with weight decay were found on, by data set.
FOUND_ON = {"phones": 137_356, "ml-1m": 719_676}

#: Epochs between two decays of the learning rate.
DECAY_STEP = 5


class Facts(NamedTuple):
    """What ranges are scaled to: numbers of the training part."""

    users: int
    items: int
    interactions: int


def schedule(facts: Facts, given: Mapping[str, Any]) -> dict[str, int]:
    """The epochs that a trial may have, the more the fewer interactions, and when it stops early.

    Args:
        facts: of the data.
        given: config keys, which stay as they are.
    """
    epochs = given.get("epochs", min(300, max(60, 6_000_000 // facts.interactions)))
    keys = {"epochs": epochs, "eval_step": max(1, epochs // 30), "stopping_step": 3}
    return {key: value for key, value in keys.items() if key not in given}


class JointSpace:
    """Suggests the config keys of a trial.

    A parameter is named by its family and its key, such as ``cosine.learning_rate``.

    Args:
        model: name of the model.
        given: config keys that all trials have, which are not searched.
        facts: of the data.

    Raises:
        UserError: if there is no such model, sampler or loss, or it has no part in the family of
            the similarity given.
    """

    def __init__(self, model: str, given: Mapping[str, Any], facts: Facts) -> None:
        self.given, self.facts = dict(given), facts
        self.model, self._of_model = model, properties_keys(model)
        adapter = adapter_class(model_class(model))
        self._products, self.sequential = adapter.products, adapter.sequential
        similarity, sampler, loss = map(given.get, ("similarity", "sampler", "loss"))
        if similarity is not None:
            KEYS["similarity"].check(similarity)
        for name, class_of in ((sampler, sampler_class), (loss, loss_class)):
            if name is not None:
                class_of(name)
        self.losses = [loss] if loss is not None else [*LOSSES]
        possible = {
            "inner": sampler != "all",
            "cosine": self._products
            and adapter.cosines
            and sampler in (None, "all")
            and loss != "bpr",
        }
        self.families = [name for name in possible if similarity in (None, name) and possible[name]]
        if not self.families:
            named = {"sampler": sampler, "loss": loss}
            key = next((key for key, value in named.items() if value is not None), "model")
            value = named.get(key, model)
            allowed = f"is not searched with similarity={similarity or 'inner'}; leave one out"
            raise UserError.of(key, value, allowed)

    def __call__(self, trial: Any) -> dict[str, Any]:
        """The keys of a trial of Optuna's that are not given."""
        found = _Suggestions(trial, self.given)
        family = found.choice("similarity", self.families)
        found.prefix = f"{family}."
        if "n_layers" in self._of_model:
            # who has many items is known without neighbours, whose propagation costs the more
            most = 4 if self.facts.interactions < 64 * self.facts.users else 2
            found.number("n_layers", 0 if self.model == MODEL else 1, most, whole=True)
        if family == "inner":
            self._inner(found)
        else:
            self._cosine(found)
        if "lr_decay" not in self.given:
            found.number("lr_decay", 0.5, 1.0)
            found.fix("lr_decay_step", DECAY_STEP)
        batch = min(8192, max(256, self.facts.interactions // 32))
        found.number("train_batch_size", batch // 4, batch, log=True, whole=True)
        return found.keys

    def _inner(self, found: _Suggestions) -> None:
        """Hard negatives among many candidates."""
        sampler = found.fix("sampler", SAMPLER)
        searched: list[type[Declared]] = []
        if sampler in ("dns_mn", "softmax_v"):
            least = self.given.get("dns_m", 1) if sampler == "dns_mn" else 1
            number = self._candidates(found, max(16, least), 256)
            if self._products and number is not None:
                found.choice("candidate_sharing", ["row", "batch"])
            # where it is given, hardness follows from it
            if "opauc_beta" not in self.given:
                if sampler == "softmax_v":
                    found.number("softmax_rho", 0.05, 5.0, log=True)
                elif "dns_m" not in self.given and number is not None:
                    fraction = found.number(FRACTION, 0.01, 0.5, log=True)
                    del found.keys[FRACTION]
                    found.fix("dns_m", max(1, round(fraction * number)))
        else:
            searched.append(sampler_class(sampler))
        if "loss" in self.given:
            searched.append(loss_class(self.given["loss"]))
        _listed(found, sampler, self.given.get("loss"), searched)
        self._reg_weight(found, 1e-3, 0.1)
        if self.sequential:
            self._network(found)
        else:
            # without the other L2, all of it
            self._weight_decay(found, 0.01, 2.0 if self.model == MODEL else 20.0)
            found.number("learning_rate", 1e-3, 0.03, log=True)
            found.number("embedding_std", 0.01, 0.2, log=True)

    def _cosine(self, found: _Suggestions) -> None:
        """A loss of many negatives, which does not see the length of an embedding."""
        found.fix("sampler", "all")
        loss = found.choice("loss", self.losses)
        number = self._candidates(found, 64, 2048)
        if number is not None:
            found.fix("candidate_sharing", "batch")
        if loss in LOSSES:
            found.number("loss_tau", 0.05, 0.4, log=True)
            if loss == "sl_at_k":
                found.number("sl_weight_tau", 0.5, 2.0, log=True)
            elif loss == "bsl":
                found.number("bsl_power", 0.8, 1.3)
                found.choice("bsl_pooled", [False, True])
        else:
            _listed(found, "all", loss, [loss_class(loss)])
        if number is not None:
            source = found.choice("candidate_distribution", ["uniform", "popularity"])
            if source == "popularity":
                found.fix("candidate_alpha", 1.0)
        found.choice("eval_similarity", ["trained", "inner"])
        self._reg_weight(found, 1e-6, 1e-3)
        if self.sequential:
            self._network(found)
        else:
            self._weight_decay(found, 1e-4, 0.3)
            # what counts is the learning rate over the initial scale
            found.number("learning_rate", 0.01, 0.3, log=True)
            found.fix("embedding_std", 1.0)

    def _network(self, found: _Suggestions) -> None:
        """What the weights of a network bear, which its model initialises."""
        self._weight_decay(found, 1e-4, 0.3)
        found.number("learning_rate", 3e-4, 5e-3, log=True)

    def _candidates(self, found: _Suggestions, low: int, most: int) -> int | None:
        """How many candidates are drawn; None where none are."""
        if self.given.get("candidate_distribution") == "in_batch":
            return None
        # a larger part of the items costs time, of which a search has little
        high = min(most, self.facts.items // 8)
        number = found.number("candidate_num", low, high, log=True, whole=True)
        return None if number == "all" else number

    def _reg_weight(self, found: _Suggestions, low: float, high: float) -> None:
        """L2 on squared norms, which other models do not have, or on another scale."""
        if self.model == MODEL:
            found.number("reg_weight", low, high, log=True)
            found.fix("require_pow", True)

    def _weight_decay(self, found: _Suggestions, low: float, high: float) -> None:
        """A prior that weighs as much as so many interactions; the loss is a mean over all."""
        every = self.facts.interactions
        found.number("weight_decay", low / every, high / every, log=True)


class _Suggestions:
    """The keys of a trial as they are suggested, but for those that are given.

    Attributes:
        keys: key and value.
        prefix: of the parameters' names.
    """

    def __init__(self, trial: Any, given: Mapping[str, Any]) -> None:
        self._trial, self._given = trial, given
        self.keys: dict[str, Any] = {}
        self.prefix = ""

    def fix(self, key: str, value: Any) -> Any:
        """Set a key that has one value."""
        if key in self._given:
            return self._given[key]
        self.keys[key] = value
        return value

    def choice(self, key: str, values: Sequence[Any]) -> Any:
        """One of some values."""
        if key in self._given or len(values) == 1:
            return self.fix(key, values[0])
        return self.fix(key, self._trial.suggest_categorical(self.prefix + key, [*values]))

    def number(
        self, key: str, low: float, high: float, log: bool = False, whole: bool = False
    ) -> Any:
        """A number between two, both included; ``low`` where there is none between."""
        if key in self._given or high <= low:
            return self.fix(key, low)
        if whole:
            return self.fix(key, self._trial.suggest_int(self.prefix + key, low, high, log=log))
        value = self._trial.suggest_float(self.prefix + key, low, high, log=log)
        # more digits say nothing, and a recipe is read
        return self.fix(key, float(f"{value:.3g}"))


def _listed(
    found: _Suggestions, sampler: str, loss: str | None, searched: Sequence[type[Declared]]
) -> None:
    """What the user's sampler or loss comes with, value by value."""
    try:
        space = default_space(sampler, loss)
    except UserError:  # with nothing
        return
    for key, values in space.items():
        if any(key in cls.hyperparameters for cls in searched):
            found.choice(key, values)


def recipes(space: JointSpace) -> list[dict[str, Any]]:
    """Recipes that were found before, as parameters of a space, those with few layers first.

    Of recipes that differ in numbers only there is one. One with a choice that the space does not
    have is left out.
    """
    found: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
    for files in recipe_files():
        said: dict[str, Any] = dict(UNSAID)
        for path in files:
            said.update(read_yaml(path))
        # matrix factorisation is LightGCN without layers; others' recipes are for their models
        general = said["model"] in ("BPR", MODEL) and not space.sequential
        if not (general or said["model"] == space.model):
            continue
        if said["similarity"] not in space.families:
            continue
        # as the range of it does, it goes with the interactions
        said["weight_decay"] *= FOUND_ON.get(said["dataset"], 0) / space.facts.interactions
        recipe = _Recipe(said)
        try:
            keys = {**space(recipe), **space.given}
        except ValueError:  # a choice that there is not
            continue
        kind = tuple(keys.get(key) for key in ("similarity", "sampler", "loss", "n_layers"))
        found.setdefault(kind, (keys.get("n_layers", 0), recipe.params))
    return [params for _, params in sorted(found.values(), key=lambda start: start[0])]


def recipe_files() -> list[list[Path]]:
    """The files of each recipe, a later one over those before it."""
    recommended = sorted(properties_path("recommended").glob("*.yaml"))
    return [*([path] for path in recommended), [*map(properties_path, BY_POPULARITY)]]


#: What a recipe that says nothing else of a key means.
UNSAID = {
    "similarity": "inner",
    "eval_similarity": "trained",
    "candidate_sharing": "row",
    "candidate_distribution": "uniform",
    "n_layers": 0,
    "reg_weight": 0.0,
    "weight_decay": 0.0,
    "lr_decay": 1.0,
    "bsl_pooled": False,
}


class _Recipe:
    """Stands for a trial, and answers a space with a recipe's values.

    A number outside its range is the nearest inside. What the recipe does not know, such as the
    parameters of another sampler, is left to the search.

    Attributes:
        params: the answers, by the parameters' names.
    """

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self._keys = dict(keys)
        self.params: dict[str, Any] = {}
        if "dns_m" in keys:
            self._keys[FRACTION] = keys["dns_m"] / keys["candidate_num"]
        if "lr_decay_step" in keys:
            self._keys["lr_decay"] **= DECAY_STEP / keys["lr_decay_step"]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As Optuna's, but for a choice that there is not, for which it raises a ValueError."""
        return self._answer(name, choices[0], lambda value: choices[choices.index(value)])

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> float:
        """As Optuna's."""
        return self._answer(name, low, lambda value: min(high, max(low, value)))

    def suggest_int(self, name: str, low: int, high: int, log: bool = False) -> int:
        """As Optuna's."""
        return self._answer(name, low, lambda value: min(high, max(low, value)))

    def _answer(self, name: str, unknown: Any, fit: Callable[[Any], Any]) -> Any:
        key = name.rpartition(".")[2]
        if key not in self._keys:
            return unknown
        self.params[name] = fit(self._keys[key])
        return self.params[name]
