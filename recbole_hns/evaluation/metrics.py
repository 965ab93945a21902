"""OPAUC, LLPAUC and their normalised forms as RecBole metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt, Le, MinLen
from recbole.evaluator import AbstractMetric
from recbole.utils import EvaluatorType

from recbole_hns.errors import UserError
from recbole_hns.parameters import Parameter

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.evaluator import DataStruct

Rate = Annotated[float, Gt(0), Le(1)]

#: The config key of the false-positive rates; RecBole's own ``Config`` does not know its default.
OPAUC_BETAS = Parameter("opauc_betas", Rate | Annotated[list[Rate], MinLen(1)], [0.01, 0.1, 1.0])


def checked_betas(value: Any) -> list[float]:
    """The false-positive rates that the config key ``opauc_betas`` asks for.

    Args:
        value: a number, a list of numbers, or None for the default.

    Raises:
        UserError: if there is none or one is outside (0, 1].
    """
    betas = OPAUC_BETAS.check(OPAUC_BETAS.default if value is None else value)
    return betas if isinstance(betas, list) else [betas]


#: The config keys of LLPAUC's pairs of rates; the defaults are those of its authors' data sets.
LLPAUC_ALPHAS, LLPAUC_BETAS = (
    Parameter(name, Rate | Annotated[list[Rate], MinLen(1)], default)
    for name, default in (("llpauc_alphas", [0.7, 0.9]), ("llpauc_betas", [0.1, 0.01]))
)


def checked_pairs(alphas: Any, betas: Any) -> list[tuple[float, float]]:
    """The pairs of rates that ``llpauc_alphas`` and ``llpauc_betas`` ask for, first with first.

    Args:
        alphas: true-positive rates: a number, a list of numbers, or None for the default.
        betas: false-positive rates, likewise.

    Raises:
        UserError: if there is none, one is outside (0, 1], or they are not as many.
    """
    rates = []
    for key, value in ((LLPAUC_ALPHAS, alphas), (LLPAUC_BETAS, betas)):
        value = key.check(key.default if value is None else value)
        rates.append(value if isinstance(value, list) else [value])
    if len(rates[0]) != len(rates[1]):
        allowed = f"must be as many as llpauc_alphas={rates[0]}, each beside one of them"
        raise UserError.of("llpauc_betas", rates[1], allowed)
    return list(zip(*rates, strict=True))


class NormOPAUC(AbstractMetric):
    r"""One-way partial AUC over the false-positive rates 0 to beta, scaled to [0, 1].

    .. math::
        \mathrm{NormOPAUC}(\beta) = 1 - \frac{1}{n_+ k} \sum_{i} \sum_{j \in T}
        [r_i < r_j] + \tfrac{1}{2} [r_i = r_j], \quad k = \beta n_-

    i runs over a user's positives, T holds the k highest-scored negatives, the last one with the
    remaining fraction where k is not whole (HNS paper, section 3.1). The mean is over the users
    that have a positive and a negative. At beta = 1 it is the mean AUC of the users.

    Results are listed as ``normopauc@beta``, for each beta of the config key ``opauc_betas``.
    """

    metric_type = EvaluatorType.RANKING
    metric_need: ClassVar[list[str]] = ["rec.opauc"]

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.betas = checked_betas(config["opauc_betas"])

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """Mean over users; NaN if none has both a positive and a negative."""
        name = type(self).__name__.lower()
        means = dataobject.get("rec.opauc").mean(dim=0).tolist()
        return {
            f"{name}@{beta}": round(self.scaled(mean, beta), self.decimal_place)
            for beta, mean in zip(self.betas, means, strict=True)
        }

    def scaled(self, norm_opauc: float, beta: float) -> float:
        """The metric's value from that of NormOPAUC."""
        return norm_opauc


class OPAUC(NormOPAUC):
    r"""One-way partial AUC: the area under the ROC curve over the false-positive rates 0 to beta.

    .. math::
        \mathrm{OPAUC}(\beta) = \beta \cdot \mathrm{NormOPAUC}(\beta) \in [0, \beta]

    The estimator of the HNS paper, section 3.1, is this plus 1 - beta: the same order of models.

    Results are listed as ``opauc@beta``, for each beta of the config key ``opauc_betas``.
    """

    def scaled(self, norm_opauc: float, beta: float) -> float:
        """The metric's value from that of NormOPAUC."""
        return beta * norm_opauc


class NormLLPAUC(AbstractMetric):
    r"""Lower-left partial AUC over true-positive rates to alpha, false-positive rates to beta.

    .. math::
        \mathrm{NormLLPAUC}(\alpha, \beta) = \frac{1}{\alpha n_+ \beta n_-} \sum_{a, b}
        w^+_a w^-_b \left([r_a > r_b] + \tfrac{1}{2} [r_a = r_b]\right)

    a runs over a user's positives and b over the negatives, both from the highest score;
    w+_a = 1 for the first alpha n+, the last with the remaining fraction, and w-_b likewise for the
    first beta n- (Shi et al., WWW 2024). The mean is over the users that have a positive and a
    negative. NormLLPAUC(1, beta) is NormOPAUC(beta).

    Results are listed as ``normllpauc@alpha,beta``, for the pairs that the config keys
    ``llpauc_alphas`` and ``llpauc_betas`` make, first with first.
    """

    metric_type = EvaluatorType.RANKING
    metric_need: ClassVar[list[str]] = ["rec.llpauc"]

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.pairs = checked_pairs(config["llpauc_alphas"], config["llpauc_betas"])

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """Mean over users; NaN if none has both a positive and a negative."""
        name = type(self).__name__.lower()
        means = dataobject.get("rec.llpauc").mean(dim=0).tolist()
        return {
            f"{name}@{alpha},{beta}": round(self.scaled(mean, alpha, beta), self.decimal_place)
            for (alpha, beta), mean in zip(self.pairs, means, strict=True)
        }

    def scaled(self, norm_llpauc: float, alpha: float, beta: float) -> float:
        """The metric's value from that of NormLLPAUC."""
        return norm_llpauc


class LLPAUC(NormLLPAUC):
    r"""Lower-left partial AUC: the area under the ROC curve where TPR <= alpha and FPR <= beta.

    .. math::
        \mathrm{LLPAUC}(\alpha, \beta) = \alpha \beta \cdot \mathrm{NormLLPAUC}(\alpha, \beta)
        \in [0, \alpha \beta]

    It is the integral of min(alpha, TPR) over the false-positive rates 0 to beta; LLPAUC(1, beta)
    is OPAUC(beta), LLPAUC(1, 1) the mean AUC of the users.

    Results are listed as ``llpauc@alpha,beta``; see :class:`NormLLPAUC`.
    """

    def scaled(self, norm_llpauc: float, alpha: float, beta: float) -> float:
        """The metric's value from that of NormLLPAUC."""
        return alpha * beta * norm_llpauc
