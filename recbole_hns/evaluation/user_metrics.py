"""The metrics of each user, of which an evaluation has the means."""

from __future__ import annotations

import copy
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from recbole.evaluator import Evaluator

from recbole_hns.evaluation.metrics import NormLLPAUC, NormOPAUC
from recbole_hns.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recbole.data.dataloader import AbstractDataLoader
    from recbole.evaluator import DataStruct

#: Ends the name of the file, beside the result file ``NAME.json``.
SUFFIX = ".users.parquet"

#: Keys of the config that the file repeats.
TOLD = ("model", "dataset", "sampler", "loss", "seed", "protocol", "data_split")


class UserEvaluator(Evaluator):
    """RecBole's ``Evaluator`` that also keeps what each user has.

    Attributes:
        by_user: of the last evaluation, ``[users]`` float64 by key, such as ``ndcg@10``, in the
            order of evaluation and not rounded.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.by_user: dict[str, NDArray[np.float64]] = {}

    def evaluate(self, dataobject: DataStruct) -> dict[str, float]:
        """The means, as RecBole's."""
        self.by_user = {}
        for metric in self.metric_class.values():
            self.by_user.update(_of_users(metric, dataobject))
        return super().evaluate(dataobject)


def _of_users(metric: Any, dataobject: DataStruct) -> dict[str, NDArray[np.float64]]:
    """What a metric has for each user; nothing for one of all users together, such as Gini."""
    found: dict[str, NDArray[np.float64]] = {}
    if isinstance(metric, (NormOPAUC, NormLLPAUC)):
        (gathered,) = metric.metric_need
        columns = dataobject.get(gathered).numpy().T
        name = type(metric).__name__.lower()
        if isinstance(metric, NormOPAUC):
            for beta, column in zip(metric.betas, columns, strict=True):
                found[f"{name}@{beta}"] = np.asarray(metric.scaled(column, beta))
            return found
        for (alpha, beta), column in zip(metric.pairs, columns, strict=True):
            scaled = metric.scaled(column, alpha, beta)
            found[f"{name}@{alpha},{beta}"] = np.asarray(scaled)
        return found

    def keep(name: str, value: NDArray) -> dict[str, float]:
        # [users, max(topk)], which RecBole takes the mean of
        for k in metric.topk:
            found[f"{name}@{k}"] = np.asarray(value[:, k - 1], np.float64)
        return {}

    if hasattr(metric, "topk_result"):
        kept = copy.copy(metric)
        kept.topk_result = keep
        kept.calculate_metric(dataobject)
    return found


def write_user_metrics(
    result_file: Path,
    evaluator: UserEvaluator,
    data: AbstractDataLoader,
    config: Mapping[str, Any],
) -> None:
    """Write ``NAME.users.parquet`` beside the result file ``NAME.json``.

    Its columns are ``user``, the names in the data, and each metric, by its key, float64. A metric
    of all users together is left out, and a partial AUC that some users do not have.

    Args:
        result_file: where to write beside.
        evaluator: that of the evaluation.
        data: what was evaluated.
        config: of the run; the file's own metadata repeats :data:`TOLD` of it.

    Raises:
        UserError: if it cannot be written.
    """
    dataset = data._dataset
    # there is no such list where interactions are rated, not ranked
    users = dataset.id2token(dataset.uid_field, np.asarray(getattr(data, "uid_list", [0])))
    columns = {
        key: values for key, values in evaluator.by_user.items() if len(values) == len(users)
    }
    if not columns:
        metrics = ", ".join(evaluator.metrics)
        getLogger().warning(f"user_metrics has no effect: {metrics} are of all users together")
        return
    table = pa.table({"user": pa.array(users, pa.string()), **columns})
    table = table.replace_schema_metadata({key: str(config[key]) for key in TOLD})
    path = result_file.with_suffix(SUFFIX)
    replace_file(path, lambda file: pyarrow.parquet.write_table(table, file))
