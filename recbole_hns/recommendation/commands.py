"""What the commands ``recommend``, ``evaluate`` and ``export`` do with a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from logging import getLogger
from typing import Any

from recbole.evaluator import Evaluator, metric_information
from recbole.trainer import Trainer

from recbole_hns.config import Config, given_keys
from recbole_hns.errors import UserError
from recbole_hns.evaluation import Collector
from recbole_hns.model import make_adapter
from recbole_hns.model.predicted import PREDICT_PAIRS
from recbole_hns.recommendation.loading import (
    Trained,
    checkpoint_config,
    read_checkpoint,
    restore,
)
from recbole_hns.recommendation.result import load
from recbole_hns.recommendation.tables import (
    as_tables,
    check_output,
    item_ids,
    read_users,
    user_ids,
    write_tables,
)


def recommend(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    users: str | os.PathLike[str] | None = None,
    topk: int = 10,
    related_to: str | None = None,
    keep_known: bool = False,
    show_progress: bool = False,
    **load_with: Any,
) -> tuple[int, int]:
    """Write the items with the highest scores for each user to a file.

    Args:
        checkpoint: of the model.
        output: the file, ``.parquet``, ``.csv`` or ``.jsonl``: columns ``user``, ``item``,
            ``rank`` and ``score``.
        users: a file that names users; default all of the data set.
        topk: length of a list.
        related_to: an item; the lists are then one, of the items that are similar to it, and its
            first column is ``related_to``.
        keep_known: whether items that a user has interacted with may be in the list.
        show_progress: whether to show a progress bar.
        **load_with: ``data_path``, ``model``, ``sampler`` and ``loss``, as of
            :func:`recbole_hns.load`.

    Returns:
        The number of lists and of their entries.

    Raises:
        UserError: for a value that is not allowed, before anything is written.
    """
    check_output(output)
    if related_to is not None and users is not None:
        raise UserError.of("related_to", related_to, "cannot go with users")
    if related_to is not None and keep_known:
        allowed = "cannot go with related_to, whose list is of no user's"
        raise UserError.of("keep_known", keep_known, allowed)
    named = None if users is None else read_users(users)
    result = load(checkpoint, **load_with)
    dataset, lists = result.dataset, result.lists
    if related_to is not None:
        ids, head = item_ids(dataset, related_to, "related_to"), "related_to"
        parts = lists.similar(ids, topk)
    else:
        ids, head = user_ids(dataset, named, "users", users), "user"
        parts = lists.of_users(ids, topk, keep_known, show_progress)
        untrained = lists.untrained(ids)
        if untrained:
            getLogger().warning(
                f"{untrained} of {len(ids)} users have no interaction in the training part: "
                "the model knows nothing of them"
            )
    return len(ids), write_tables(as_tables(parts, dataset, head), head, output)


def evaluate(
    checkpoint: str | os.PathLike[str],
    metrics: str | Sequence[str] | None = None,
    topk: int | Sequence[int] | None = None,
    part: str = "test",
    show_progress: bool = False,
    **load_with: Any,
) -> dict[str, float]:
    """Evaluate a checkpoint, without training.

    Args:
        checkpoint: of the model.
        metrics: names of RecBole's or this package's metrics; default those of the run.
        topk: their K's; likewise.
        part: ``test`` or ``valid``.
        show_progress: whether to show a progress bar.
        **load_with: as of :func:`recommend`.

    Returns:
        The metrics by RecBole's keys, such as ``ndcg@10``.

    Raises:
        UserError: for a value that is not allowed, or a part that the run did not hold out.
    """
    if part not in ("test", "valid"):
        raise UserError.of("part", part, "must be test or valid")
    loaded = given_keys(**load_with)
    config, state = read_checkpoint(checkpoint, loaded)
    if config["protocol"] == "all" or (config["protocol"] == "paper" and part == "valid"):
        kept = {"all": "every interaction", "paper": "the validation part too"}
        allowed = f"{checkpoint} was trained on {kept[config['protocol']]}, protocol="
        raise UserError.of("part", part, allowed + config["protocol"])
    if metrics is not None or topk is not None:
        given = {"metrics": metrics or config["metrics"], "topk": topk or config["topk"]}
        given["valid_metric"] = _any_result(config, **given)
        config = checkpoint_config(state["config"], {**loaded, **given})
    trained = restore(config, state, checkpoint)
    data = trained.test_data if part == "test" else trained.valid_data
    result = _Evaluation(trained).evaluate(data, False, show_progress=show_progress)
    return dict(result)


def _any_result(config: Config, metrics: Any, topk: Any) -> str:
    """A key that the results will have, as a config needs one; nothing is selected by it."""
    metric = metrics if isinstance(metrics, str) else metrics[0]
    needs = metric_information.get(str(metric).lower(), ())
    if "rec.opauc" in needs:
        return f"{metric}@{config['opauc_betas'][0]}"
    if "rec.llpauc" in needs:
        return f"{metric}@{config['llpauc_alphas'][0]},{config['llpauc_betas'][0]}"
    if {"rec.topk", "rec.items"}.intersection(needs):
        return f"{metric}@{topk if isinstance(topk, int) else topk[0]}"
    return str(metric)


class _Evaluation(Trainer):
    """RecBole's trainer as far as it evaluates, without what it makes and writes for training."""

    def __init__(self, trained: Trained) -> None:
        config = self.config = trained.config
        self.logger, self.wandblogger = getLogger(), _NoLogger()
        self.model, self.device = trained.model, config["device"]
        self.gpu_available = self.device.type == "cuda"
        self.test_batch_size = config["eval_batch_size"]
        if not make_adapter(self.model, config).has_embeddings:
            self.test_batch_size = min(self.test_batch_size, PREDICT_PAIRS)
        self.eval_collector, self.evaluator = Collector(config), Evaluator(config)
        self.eval_collector.data_collect(trained.train_data)
        self.item_tensor = None


class _NoLogger:
    """In place of a connection to wandb."""

    def log_eval_metrics(self, metrics: Any, head: str) -> None:
        """Do nothing."""
