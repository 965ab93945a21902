"""A search's trials: suggested by Optuna and ended early by ASHA, both as Ray has them."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from recbole_hns.results import Run, read_run
from recbole_hns.tuning.joint import JointSpace
from recbole_hns.tuning.ray_names import ASHAScheduler, OptunaSearch, Searcher, report
from recbole_hns.tuning.trial import Job, outcome, train_into

#: The key of a trial's number among those of its point.
NUMBER = "trial"

#: The key, and parameter, that names the family of a trial.
FAMILY = "similarity"

#: TPE suggests after so many trials, of which each family has its share.
STARTUP = 10

#: Each family has at least so many trials, and at least one of so many; the rest are of the family
#: whose best is better.
TURNS, SHARE = 10, 4

#: ASHA decides when a trial has seen so many interactions, after this part of the epochs at the
#: latest, and after so many times as many: a trial goes on if it is in the best of so many parts of
#: those that have come so far.
FIRST_SEEN, FIRST_PART, REDUCTION = 800_000, 10, 3


class Suggester(Searcher):
    """Ray's Optuna searcher for each family of a space, which take turns.

    TPE follows the best tenth of its trials. In one search of two families that tenth soon is of
    the one whose recipes fit better, and what the other could come to is not found.

    An interrupted search is resumed by suggesting the same again, so nothing is saved.

    Args:
        space: the space.
        known: parameters of the trials to begin with.
        mode: ``max`` or ``min``.
        seed: of the draws.
        tell: is called with each trial's point and parameters.
    """

    def __init__(
        self,
        space: JointSpace,
        known: Sequence[Mapping[str, Any]],
        mode: str,
        seed: int,
        tell: Callable[[dict[str, Any], dict[str, Any]], object],
    ) -> None:
        super().__init__("score", mode)
        self._tell = tell
        self._sign = 1.0 if mode == "max" else -1.0
        families = space.families
        several = len(families) > 1
        self._named = {family: {FAMILY: family} if several else {} for family in families}
        self._known = [params[FAMILY] if several else families[0] for params in known]
        self._best = dict.fromkeys(families, -math.inf)
        self._of: dict[str, str] = {}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._searchers = {
            family: OptunaSearch(
                JointSpace(space.model, {**space.given, **self._named[family]}, space.facts),
                "score",
                mode,
                points_to_evaluate=[
                    dict(params)
                    for params, of in zip(known, self._known, strict=True)
                    if of == family
                ],
                # what follows what is known is drawn anew
                sampler=_tpe(seed + len(known) + index, STARTUP // len(families)),
            )
            for index, family in enumerate(families)
        }

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next point; Ray adds the parameters, whose names have the family's before the key."""
        number, family = len(self._of), self._turn()
        self._of[trial_id] = family
        named = self._named[family]
        found = self._searchers[family].suggest(trial_id)
        params = {name: value for name, value in found.items() if "." in name}
        keys = {key: value for key, value in found.items() if key not in params}
        point = {NUMBER: number, **named, **keys}
        self._tell(point, {**named, **params})
        return point

    def _turn(self) -> str:
        """The family of the next trial."""
        number, counts = len(self._of), Counter(self._of.values())
        if number < len(self._known):
            return self._known[number]
        fewest = min(self._named, key=lambda family: counts[family])
        if counts[fewest] < max(TURNS, number // SHARE) or -math.inf in self._best.values():
            return fewest
        return max(self._best, key=lambda family: self._best[family])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell Optuna of an evaluation; a trial that fails reports something else."""
        score = result.get("score")
        if score is not None:
            family = self._of[trial_id]
            self._best[family] = max(self._best[family], self._sign * score)
            self._searchers[family].on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna of a trial's end."""
        self._searchers[self._of[trial_id]].on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""


def _tpe(seed: int, startup: int) -> optuna.samplers.TPESampler:
    """Optuna's sampler, after as many trials as ``startup``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            multivariate=True,
            # those of all trials together, and apart from them those of one sampler or loss
            group=True,
            # trials at work count as bad, so that those beside them look elsewhere
            constant_liar=True,
            n_startup_trials=startup,
            seed=seed % 2**32,
        )


class Asha(ASHAScheduler):
    """Ray's scheduler, which is patient with the trials that a search starts with.

    They are of several kinds, some of which learn slowly at first, and decide which kinds are tried
    further. They have to be among the best only from the second decision on, or the first after a
    tenth of the epochs if that is later. Those whose end is known come to it.

    Args:
        epochs: that a trial may have.
        interactions: of an epoch.
        starts: how many trials a search starts with.
        ended: the numbers of those whose end is known.
    """

    def __init__(self, epochs: int, interactions: int, starts: int, ended: Collection[int]) -> None:
        first = max(1, min(math.ceil(FIRST_SEEN / interactions), epochs // FIRST_PART))
        # at max_t Ray would stop a trial before its test
        super().__init__("epochs", max_t=epochs + 1, grace_period=first, reduction_factor=REDUCTION)
        patience = REDUCTION * first
        while patience < epochs // FIRST_PART:
            patience *= REDUCTION
        self._patience = {
            **dict.fromkeys(range(starts), patience),
            **dict.fromkeys(ended, epochs + 1),
        }

    def on_trial_result(self, controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Whether a trial goes on."""
        action = super().on_trial_result(controller, trial, result)
        patient = result.get("epochs", 0) < self._patience.get(trial.config[NUMBER], 0)
        return self.CONTINUE if patient else action


def train_suggested(
    config: Mapping[str, Any],
    job: Job,
    data: Mapping[int, Any],
    folder: Path,
    ended: Collection[int],
) -> None:
    """Train and test at a suggested point, and report every evaluation to Ray.

    A trial that has ended before its search was interrupted reports what it did then, for Optuna
    and ASHA to know.

    Args:
        config: the point, with its :data:`NUMBER`.
        job: what it shares with the others.
        data: as of :func:`recbole_hns.tuning.trial.train_trial`.
        folder: of the result files.
        ended: the numbers of the trials that have ended.
    """
    point = dict(config)
    number = point.pop(NUMBER)
    file = result_file(folder, number)
    if number not in ended:
        train_into(file, point, job, data)
        return
    if not file.is_file():  # the budget cut it before its first evaluation
        return
    run = read_run(file)
    for evaluation in _evaluations(run):
        report(evaluation)
    report({**outcome(run), "finished": run.test_result is not None})


def result_file(folder: Path, number: int) -> Path:
    """The result file of a trial."""
    return folder / f"{number:03}.json"


def _evaluations(run: Run) -> Iterator[dict[str, Any]]:
    """What a run reported after each evaluation: its best score so far."""
    metric = str(run.config["valid_metric"]).lower()
    better = max if run.config["valid_metric_bigger"] else min
    best: float | None = None
    for epoch in run.epochs:
        score = epoch.metrics.get(metric)
        if score is not None:
            best = score if best is None else better(best, score)
            yield {"score": best, "epochs": epoch.epoch}
