"""The base class of all samplers, and their registry."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    get_origin,
    get_type_hints,
)

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from recbole_hns.data.candidates import CandidateSampler
from recbole_hns.errors import UserError
from recbole_hns.model import PairwiseModel
from recbole_hns.sampler.parameters import Hyperparameter

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: Built-in and registered samplers by name.
SAMPLERS: dict[str, type[HardNegativeSampler]] = {}

#: N: more candidates than this would be a mistake.
Count = Annotated[int, Field(gt=0, le=10**6)]

#: N, or every negative.
CandidateNum = Count | Literal["all"]

SamplerClass = TypeVar("SamplerClass", bound="type[HardNegativeSampler]")


class Negatives(NamedTuple):
    """The negatives that a sampler chose among the candidates.

    Attributes:
        index: column of each negative in the candidate scores, ``[batch, M]``, int64; None takes
            all candidates, in order.
        weight: weight of each negative in the loss, ``[batch, M]``, each row summing to 1; None
            is 1 / M.
    """

    index: Tensor | None  # type: ignore[assignment]  # in place of tuple.index
    weight: Tensor | None = None


class Chosen(NamedTuple):
    """The negatives of a batch.

    Attributes:
        items: their ids, ``[batch, M]``, int64; None for every item of the catalogue.
        weight: as in :class:`Negatives`; an item that is no negative has weight 0.
        pos_scores: scores of the positives, ``[batch, 1]``.
        scores: scores of the negatives, ``[batch, M]``.
    """

    items: Tensor | None
    weight: Tensor | None
    pos_scores: Tensor
    scores: Tensor


class HardNegativeSampler(nn.Module):
    """Turns candidate scores into the negatives to train with, and their weights.

    A subclass declares its hyperparameters as annotated class attributes and defines
    :meth:`select`. The other methods have defaults that suit most samplers. As the class is a
    ``torch.nn.Module``, buffers and parameters of a sampler move to the model's device and go
    into the checkpoint.

    Attributes:
        candidate_num: N, candidates drawn for each positive; ``all`` takes every negative item,
            exactly once. Default 32.
        candidate_distribution: ``uniform`` (default) or ``popularity``.
        candidate_alpha: power of the popularity. Default 0.75.
        epoch: the epoch under way, counted from 0.
        model: the trainer's view of the model, once :meth:`attach` was called.
        hyperparameters: what the class declares and inherits, by name.
        hardness_key: the hyperparameter that ``opauc_beta`` sets, in samplers that have both.
        needs: what a model has to give: ``scores`` (every model does), ``embeddings`` whose inner
            products they are, or those of all ``layers``, as
            :class:`~recbole_hns.sampler.layered.LayeredSampler` takes them.
        rows_per_pair: how many tensors of the size of all candidates' embeddings the sampler holds
            at a time, so that a batch can be learnt in parts that fit ``step_memory``.

    Args:
        **values: hyperparameters by name; those left out take their defaults.

    Raises:
        UserError: if a value is not allowed.
    """

    name: ClassVar[str]
    hyperparameters: ClassVar[dict[str, Hyperparameter]] = {}
    hardness_key: ClassVar[str | None] = None
    needs: ClassVar[Literal["scores", "embeddings", "layers"]] = "scores"
    rows_per_pair: ClassVar[int] = 0

    candidate_num: CandidateNum = Field(
        32, description="N, candidates per positive; all = every negative, exactly"
    )
    candidate_distribution: Literal["uniform", "popularity"] = Field(
        "uniform", description="distribution that candidates are drawn from"
    )
    candidate_alpha: float | None = Field(0.75, ge=0, description="power of the popularity")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__name__
        _declare(cls)

    def __init__(self, **values: Any) -> None:
        super().__init__()
        for key in values:
            if key not in self.hyperparameters:
                allowed = ", ".join(self.hyperparameters)
                raise UserError.of(key, values[key], f"sampler {self.name} has only {allowed}")
        for key, hyperparameter in self.hyperparameters.items():
            value = values.get(key, hyperparameter.default)
            setattr(self, key, hyperparameter.check(value) if key in values else value)
        beta = getattr(self, "opauc_beta", None)
        if beta is not None and self.hardness_key in values:
            value = values[self.hardness_key]
            raise UserError.of(
                self.hardness_key, value, f"opauc_beta={beta} sets it; give only one"
            )
        self.epoch = 0

    if TYPE_CHECKING:
        # buffers and parameters, whose names a subclass chooses
        def __getattr__(self, name: str) -> Any: ...

    def draw(self, candidates: CandidateSampler, user: Tensor) -> Tensor | None:
        """Draw the candidates of a batch.

        A large batch is learnt in parts; each part is drawn, selected from and learnt before the
        next is drawn, so what :meth:`draw` keeps is there for :meth:`select` and :meth:`loss`.
        Runs without gradient. ``self.model.score`` scores any items meanwhile.

        Args:
            candidates: draws by ``candidate_distribution``.
            user: ``[batch]``, int64.

        Returns:
            Item ids, ``[batch, N]``, or ``[1, N]`` for candidates that all of the batch share,
            int64; None for every item of the catalogue.
        """
        if self.candidate_num == "all":
            return None
        return candidates.draw(user, self.candidate_num)

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Choose negatives from candidate scores. Runs without gradient.

        Args:
            pos_scores: score r_ui of each positive, ``[batch, 1]``.
            scores: score r_uj of each candidate, ``[batch, N]``. With ``candidate_num: all``,
                N is the number of items and an item that is no negative scores minus infinity.

        Returns:
            The chosen :class:`Negatives`.
        """
        raise NotImplementedError

    def choose(
        self, user: Tensor, pos_item: Tensor, candidates: CandidateSampler, model: PairwiseModel
    ) -> Chosen:
        """Choose the negatives of a batch; default :meth:`draw`, score, :meth:`select`.

        A sampler whose choice depends on who the users and items are overrides this instead of
        :meth:`select`. Runs without gradient.

        Args:
            user: ``[batch]``, int64.
            pos_item: ``[batch]``, int64.
            candidates: draws items that are no positives.
            model: ``model.scores(user, pos_item, items, candidates)`` scores them.
        """
        items = self.draw(candidates, user)
        pos_scores, scores = model.scores(user, pos_item, items, candidates)
        index, weight = self.select(pos_scores, scores)
        if index is not None:
            scores = scores.gather(1, index)
        if items is None:
            # among all items, what is no negative has no part, whatever was chosen
            inside = (scores > -torch.inf).to(scores.dtype)
            share = inside / inside.sum(dim=1, keepdim=True).clamp(min=1)
            weight = share if weight is None else weight * inside
            items = index
        elif index is not None:
            items = items.expand(len(user), -1).gather(1, index)
        return Chosen(items, weight, pos_scores, scores)

    def loss(self, pos_scores: Tensor, scores: Tensor, weight: Tensor | None) -> Tensor:
        """Loss of each positive; default the weighted BPR loss sum_j w_j L_j.

        Args:
            pos_scores: ``[batch, 1]``, with gradient.
            scores: scores of the chosen negatives, ``[batch, M]``, with gradient.
            weight: ``[batch, M]``; None is 1 / M.

        Returns:
            ``[batch]``.
        """
        losses = bpr_loss(pos_scores, scores)
        if weight is None:
            return losses.mean(dim=1)
        # an item that is no negative has weight 0 and an infinite score
        return torch.where(weight > 0, losses * weight, 0).sum(dim=1)

    def scored_num(self, item_num: int) -> int:
        """Candidates scored for a positive; a batch is learnt in parts where they are many."""
        return item_num if self.candidate_num == "all" else self.candidate_num

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Called once, before the optimizer is made and before a checkpoint is loaded.

        The place to register buffers and parameters, which are saved, resumed and, the latter,
        trained with the model's.

        Args:
            model: the RecBole model; ``n_users`` and ``n_items`` are its sizes.
            epochs: the number of epochs that the run may have.
        """

    def attach(self, model: PairwiseModel) -> None:
        """Called once, after :meth:`setup` and before a checkpoint is loaded.

        The place to refuse a model for what a hyperparameter needs; :attr:`needs` says what the
        sampler always does.

        Args:
            model: the trainer's view of the model; kept as ``self.model``.
        """
        self.model = model

    def start_epoch(self, epoch: int) -> None:
        """Called before the first batch of each epoch, ``epoch`` being counted from 0."""
        self.epoch = epoch

    def start_batch(self, user: Tensor, pos_item: Tensor) -> None:
        """Called before the first part of each batch, for what its parts have in common.

        Args:
            user: of the whole batch, ``[batch]``, int64.
            pos_item: their positives, ``[batch]``, int64.
        """

    def refresh(self, model: PairwiseModel, candidates: CandidateSampler, pairs: int) -> None:
        """Called after :meth:`start_epoch`, to look at the model between two epochs.

        The place to renew what is kept for each user or item. Runs without gradient.

        Args:
            model: scores inside ``with model.step():``, which propagates a graph model once.
            candidates: of the training data; also tells each user's items.
            pairs: pairs of a user and an item that may be in memory at a time.
        """


def bpr_loss(pos_scores: Tensor, scores: Tensor) -> Tensor:
    """BPR loss L_j = -log sigmoid(r_ui - r_uj) of each pair.

    Args:
        pos_scores: ``[batch, 1]``.
        scores: ``[batch, M]``.

    Returns:
        ``[batch, M]``.
    """
    return F.softplus(scores - pos_scores)


def register_sampler(name: str) -> Callable[[SamplerClass], SamplerClass]:
    """Class decorator that makes a sampler available as ``sampler: name``."""

    def register(cls: SamplerClass) -> SamplerClass:
        cls.name = name
        SAMPLERS[name] = cls
        return cls

    return register


def sampler_class(name: Any) -> type[HardNegativeSampler]:
    """The sampler that the config key ``sampler`` names.

    Args:
        name: a registered name, or ``package.module:Class``.

    Raises:
        UserError: if there is no such sampler.
    """
    if isinstance(name, type) and issubclass(name, HardNegativeSampler):
        return name
    if name in SAMPLERS:
        return SAMPLERS[name]
    module, colon, attribute = str(name).partition(":")
    if not colon:
        close = difflib.get_close_matches(str(name), SAMPLERS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        known = ", ".join(SAMPLERS)
        raise UserError.of("sampler", name, f"must be one of {known} or package.module:Class{hint}")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing runs the user's module, which can fail in any way
        reason = f"cannot be imported: {type(error).__name__}: {error}"
        raise UserError.of("sampler", name, reason) from error
    if not (inspect.isclass(cls) and issubclass(cls, HardNegativeSampler)):
        raise UserError.of("sampler", name, "must be a subclass of HardNegativeSampler")
    return cls


def _declare(cls: type[HardNegativeSampler]) -> None:
    """Collect the hyperparameters that ``cls`` declares, after those it inherits."""
    hints = get_type_hints(cls, include_extras=True)
    inherited: dict[str, Hyperparameter] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited.update(vars(base).get("hyperparameters", {}))
    own = {}
    for name in vars(cls).get("__annotations__", {}):
        if get_origin(hints[name]) is ClassVar:
            continue
        if name not in vars(cls):
            raise TypeError(f"{cls.__name__}.{name}: a hyperparameter needs a default")
        own[name] = Hyperparameter(name, hints[name], vars(cls)[name])
    cls.hyperparameters = {**inherited, **own}
    for name, hyperparameter in own.items():
        setattr(cls, name, hyperparameter.default)


_declare(HardNegativeSampler)
HardNegativeSampler.name = "HardNegativeSampler"
