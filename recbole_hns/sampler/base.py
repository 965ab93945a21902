"""The base class of all samplers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.component import Component
from recbole_hns.data import NegativePool
from recbole_hns.errors import UserError

#: N: more candidates than this would be a mistake.
Count = Annotated[int, Field(gt=0, le=10**6)]

#: N, or every negative.
CandidateNum = Count | Literal["all"]


class HardNegativeSampler(Component):
    """Proposes candidates and selects negatives among them by their scores.

    A subclass declares its hyperparameters as annotated class attributes and defines
    :meth:`select`. The other hooks have defaults that suit most samplers. As the class is a
    ``torch.nn.Module``, buffers and parameters of a sampler move to the model's device and go
    into the checkpoint.

    Attributes:
        candidate_num: N, candidates drawn for each positive; ``all`` takes every negative item,
            exactly once. Default 32.
        candidate_distribution: ``uniform`` (default), ``popularity``, or ``in_batch``, the
            positives of all rows of the batch, N having no part.
        candidate_alpha: power of the popularity. Default 0.75.
        candidate_sharing: ``row`` (default) draws for each positive, ``batch`` once for all rows of
            a batch, each user's own items being excluded.
        hardness_key: the hyperparameter that ``opauc_beta`` sets, in samplers that have both.
        needs: what a model has to give: ``scores`` (every model does), ``embeddings`` whose inner
            products they are, or those of all ``layers``, as
            :class:`~recbole_hns.sampler.layered.LayeredSampler` takes them.
        default_loss: the loss where the config names none.
        can_share: whether its rows may share candidates; a sampler whose draws depend on the user
            cannot, and one with a :meth:`propose` of its own does not unless it says so.
        takes_all: whether :meth:`select` takes all candidates alike, whatever their scores.
        divides: whether :meth:`select` looks at each row by itself, without a random number but by
            :meth:`~recbole_hns.batch.Batch.drawn`. Where several workers train one model, each
            selects for its own rows; without, for all, so that all have the same state. Default
            yes.
        rows_per_pair: how many tensors of the size of all candidates' embeddings the sampler holds
            at a time, so that a batch can be learned from in parts that fit ``step_memory``.
    """

    kind: ClassVar[str] = "sampler"
    hardness_key: ClassVar[str | None] = None
    needs: ClassVar[Literal["scores", "embeddings", "layers"]] = "scores"
    default_loss: ClassVar[str] = "bpr"
    can_share: ClassVar[bool] = True
    takes_all: ClassVar[bool] = False
    divides: ClassVar[bool] = True
    rows_per_pair: ClassVar[int] = 0

    candidate_num: CandidateNum = Field(
        32, description="N, candidates per positive; all = every negative, exactly"
    )
    candidate_distribution: Literal["uniform", "popularity", "in_batch"] = Field(
        "uniform",
        description="distribution that candidates are drawn from; in_batch = the batch's positives",
    )
    candidate_alpha: float | None = Field(0.75, ge=0, description="power of the popularity")
    candidate_sharing: Literal["row", "batch"] = Field(
        "row", description="draw for each positive, or once for all rows of a batch"
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "propose" in vars(cls) and "can_share" not in vars(cls):
            cls.can_share = False
        if "select" in vars(cls) and "takes_all" not in vars(cls):
            cls.takes_all = False

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        beta = getattr(self, "opauc_beta", None)
        if beta is not None and self.hardness_key in values:
            value = values[self.hardness_key]
            raise UserError.of(
                self.hardness_key, value, f"opauc_beta={beta} sets it; give only one"
            )
        sharing, distribution = self.candidate_sharing, self.candidate_distribution
        if sharing == "batch" and self.candidate_num == "all":
            allowed = "must be row with candidate_num=all, which leaves nothing to draw"
            raise UserError.of("candidate_sharing", sharing, allowed)
        allowed = f"sampler={self.name} draws for each row by itself"
        if not self.can_share and sharing == "batch":
            raise UserError.of("candidate_sharing", sharing, allowed)
        if not self.can_share and distribution == "in_batch":
            raise UserError.of("candidate_distribution", distribution, allowed)

    @property
    def num_drawn(self) -> int | Literal["all"]:
        """Candidates that :meth:`propose` draws; default ``candidate_num``."""
        return self.candidate_num

    def loss_parameters(self) -> dict[str, Any]:
        """Hyperparameters of :attr:`default_loss` that the sampler sets by its own."""
        return {}

    def shared_items(self, batch: Batch, pool: NegativePool) -> Tensor | None:
        """Items that all rows of a batch have as candidates, drawn once a batch.

        Args:
            batch: the whole batch.
            pool: draws by ``candidate_distribution``.

        Returns:
            ``[1, N]``, int64; None where each row has its own.
        """
        if self.candidate_distribution == "in_batch":
            return batch.pos_item.unsqueeze(0)
        if self.candidate_sharing == "batch":
            num = self.num_drawn
            assert num != "all"  # refused when the sampler was made
            return pool.draw_shared(num, batch.user.device).unsqueeze(0)
        return None

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """Propose the candidates of a part of a batch. Runs without gradient.

        Args:
            part: users and positives, and the items that they share.
            encoded: the batch, as the model encodes it; ``encoded.user_scores`` scores any items.
            pool: draws by ``candidate_distribution``, never one of a user's own items.
        """
        if part.shared is not None:
            return Candidates(part.shared, pool.own_columns(part.owner, part.shared))
        if self.num_drawn == "all":
            return Candidates(None, pool.own_items(part.owner))
        return Candidates(pool.draw(part.owner, self.num_drawn))

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Select negatives among the candidates. Runs without gradient.

        Args:
            scores: r_ui of each positive, ``[B, 1]``, and r_uj of each candidate, ``[B, N]``. With
                ``candidate_num: all``, where N is the number of items, and with shared candidates,
                the user's own items score minus infinity. Where such a candidate is selected, its
                weight in the loss is 0.
            candidates: the candidates.
            part: users and positives.
        """
        raise NotImplementedError

    def scored_num(self, item_num: int, batch_size: int) -> int:
        """Candidates scored for a positive; a batch is learned from in parts where they are many.

        Args:
            item_num: number of items.
            batch_size: rows of the whole batch.
        """
        if self.candidate_distribution == "in_batch":
            return batch_size
        return item_num if self.num_drawn == "all" else self.num_drawn

    def epoch_warning(self) -> str | None:
        """What is to be logged as a warning at the end of an epoch; default nothing."""
        return None
