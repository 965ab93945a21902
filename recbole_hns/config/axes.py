"""The axes of a config, made from its keys: sampler, loss, and the similarity they see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from recbole_hns.config.keys import KEYS
from recbole_hns.errors import UserError
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import LOSSES, loss_class
from recbole_hns.model.registry import adapter_class
from recbole_hns.parameters import Declared, Parameter
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import SAMPLERS

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

#: SSM's own name for ``similarity``, which applies to training only.
SSM_SIMILARITY = "ssm_similarity"

#: SSM's own name for ``candidate_distribution``.
SSM_NEGATIVES = "ssm_negatives"


class Axes(NamedTuple):
    """What a run learns with.

    Attributes:
        sampler: selects the negatives.
        loss: learns from them.
        set_by_sampler: the loss's hyperparameters that the sampler sets by keys of its own.
        similarity: of training, ``inner`` or ``cosine``.
        eval_similarity: of evaluation, likewise.
    """

    sampler: HardNegativeSampler
    loss: Loss
    set_by_sampler: dict[str, Any]
    similarity: str
    eval_similarity: str


def make_axes(
    model: type[AbstractRecommender],
    sampler: type[HardNegativeSampler],
    given: Mapping[str, Any],
    loss: type[Loss] | None = None,
) -> Axes:
    """Sampler, loss and similarities of a config.

    Args:
        model: the model class.
        sampler: the sampler's class.
        given: config keys, without defaults.
        loss: the loss's class; default what ``given`` says, else the sampler's default.

    Raises:
        UserError: for a value that is not allowed, or values that have no meaning together.
    """
    loss = loss or chosen_loss(sampler, given)
    values = declared_values(sampler, given)
    similarity = _checked("similarity", given)
    eval_similarity = _checked("eval_similarity", given)
    if SSM_SIMILARITY in sampler.hyperparameters:
        if similarity is not None and values.setdefault(SSM_SIMILARITY, similarity) != similarity:
            allowed = f"similarity={similarity} differs; give only one"
            raise UserError.of(SSM_SIMILARITY, values[SSM_SIMILARITY], allowed)
        # the authors of SSM train with cosines and evaluate by inner products
        eval_similarity = eval_similarity or "inner"
    made = sampler(**values)
    similarity = getattr(made, SSM_SIMILARITY, similarity or "inner")
    if eval_similarity in (None, "trained"):
        eval_similarity = similarity
    fixed = made.loss_parameters() if loss is loss_class(sampler.default_loss) else {}
    of_loss = declared_values(loss, given)
    for key in fixed.keys() & of_loss.keys():
        keys = [own for own in sampler.hyperparameters if own.startswith(f"{sampler.name}_")]
        allowed = f"sampler={sampler.name} sets it by its own keys, {', '.join(keys)}"
        raise UserError.of(key, of_loss[key], allowed)
    axes = Axes(made, loss(**of_loss, **fixed), fixed, similarity, eval_similarity)
    _check_together(model, axes, given)
    return axes


def chosen_loss(sampler: type[HardNegativeSampler], given: Mapping[str, Any]) -> type[Loss]:
    """The class of the loss that ``given`` names, by default the sampler's.

    Raises:
        UserError: if there is no such loss.
    """
    name = given.get("loss")
    return loss_class(sampler.default_loss if name is None else name)


def set_by_sampler(sampler: type[HardNegativeSampler], loss: type[Loss]) -> set[str]:
    """The hyperparameters of a loss that a sampler sets by keys of its own."""
    return set(sampler().loss_parameters()) if loss is loss_class(sampler.default_loss) else set()


def declared_values(cls: type[Declared], given: Mapping[str, Any]) -> dict[str, Any]:
    """What ``given`` has of the hyperparameters that a sampler or a loss declares."""
    return {key: given[key] for key in cls.hyperparameters if key in given}


def sampler_keys() -> dict[str, Parameter]:
    """The hyperparameters of all registered samplers; for a shared key, the most general."""
    keys = dict(HardNegativeSampler.hyperparameters)
    for cls in SAMPLERS.values():
        for key, parameter in cls.hyperparameters.items():
            keys.setdefault(key, parameter)
    return keys


def loss_keys() -> dict[str, Parameter]:
    """The hyperparameters of all registered losses."""
    keys: dict[str, Parameter] = {}
    for cls in LOSSES.values():
        for key, parameter in cls.hyperparameters.items():
            keys.setdefault(key, parameter)
    return keys


def without_effect(
    sampler: HardNegativeSampler, loss: Loss, given: Mapping[str, Any]
) -> dict[str, str]:
    """The hyperparameters of a sampler given that other values of it leave no part, and why."""
    sources = {"candidate_distribution": sampler.candidate_distribution}
    if SSM_NEGATIVES in sampler.hyperparameters:
        sources = {SSM_NEGATIVES: getattr(sampler, SSM_NEGATIVES)}
    [(key, source)] = sources.items()
    idle: dict[str, str] = {}
    if sampler.candidate_num == "all":
        idle["candidate_distribution"] = idle["candidate_alpha"] = "candidate_num=all"
    if source != "popularity":
        idle["candidate_alpha"] = f"{key}={source}"
    if source == "uniform" or sampler.candidate_num == "all":
        idle["all_log_q"] = idle.get("candidate_distribution", f"{key}={source}")
    if source == "in_batch":
        idle["candidate_num"] = idle["candidate_sharing"] = f"{key}={source}"
    elif key == SSM_NEGATIVES and source == "popularity":
        idle["candidate_sharing"] = f"{key}={source}"
    if loss.picks_itself:
        idle = dict.fromkeys(sampler.hyperparameters, f"loss={loss.name}")
    if not isinstance(loss, loss_class(sampler.default_loss)):
        idle["ssm_tau"] = f"loss={loss.name}"
    return {
        name: f"has no effect with {why}"
        for name, why in idle.items()
        if name in given and name in sampler.hyperparameters
    }


def _checked(key: str, given: Mapping[str, Any]) -> Any:
    value = given.get(key)
    return None if value is None else KEYS[key].check(value)


def _check_together(model: type[AbstractRecommender], axes: Axes, given: Mapping[str, Any]) -> None:
    """Refuse a combination that has no meaning, before any data is read."""
    sampler = axes.sampler
    key = SSM_SIMILARITY if SSM_SIMILARITY in given else "similarity"
    products = adapter_class(model).products
    allowed = f"needs a model that scores by an inner product; {model.__name__} does not"
    if not adapter_class(model).cosines and "cosine" in (axes.similarity, axes.eval_similarity):
        key = key if axes.similarity == "cosine" else "eval_similarity"
        reason = "whose scores have a form of their own"
        raise UserError.of(key, "cosine", f"must be inner with model={model.__name__}, {reason}")
    if axes.similarity == "cosine":
        if not products:
            raise UserError.of(key, "cosine", allowed)
        if sampler.needs == "layers":
            allowed = f"must be inner with sampler={sampler.name}, which mixes embeddings of layers"
            raise UserError.of(key, "cosine", allowed)
    if axes.eval_similarity == "cosine" and not products:
        raise UserError.of("eval_similarity", "cosine", allowed)
    if axes.loss.picks_itself:
        if not products:
            raise UserError.of("loss", axes.loss.name, allowed)
        if sampler.name != "all":
            allowed = f"picks its negatives itself: set sampler=all, not {sampler.name}"
            raise UserError.of("loss", axes.loss.name, allowed)
    if sampler.candidate_sharing == "batch" and not products:
        raise UserError.of("candidate_sharing", "batch", allowed)
    if sampler.candidate_distribution == "in_batch" and not products:
        raise UserError.of("candidate_distribution", "in_batch", allowed)
