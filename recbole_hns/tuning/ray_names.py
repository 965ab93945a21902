"""Ray, imported in one place, before which its settings are made.

It is also the one that knows how Ray 2.6.3 and the current Ray differ.

RecBole's metadata admits Ray up to 2.6.3. Later releases moved what a sweep needs from ``ray.air``
to ``ray.tune``.
"""

from __future__ import annotations

import os
import warnings
from types import SimpleNamespace

#: Read by Ray when it is imported or started. What a user has set stays.
SETTINGS = {
    # nothing is sent anywhere
    "RAY_USAGE_STATS_ENABLED": "0",
    # no log files of Ray's own for every trial, which would need TensorBoardX
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # the newer progress output prints tables at any verbosity
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ctrl-C ends the sweep at once, with what is finished on disk
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # a trial that fails before its first evaluation has no score
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # trials that wait for a process; with Ray's 1, processes would start one after the other
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    # a trial without a GPU need not see that there is one; asked about in every process otherwise
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # under `uv run` processes are this environment's; Ray would copy the working directory and
    # have uv install it anew for each, and wait for ever where it holds no project
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)

with warnings.catch_warnings():
    # Ray 2.6.3 imports pkg_resources, which says that it will go
    warnings.simplefilter("ignore")
    import ray
    from ray import tune
    from ray.air.execution._internal import actor_manager
    from ray.exceptions import OutOfMemoryError, RayActorError
    from ray.tune.execution import tune_controller
    from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule
    from ray.tune.search import Searcher
    from ray.tune.search.optuna import OptunaSearch

    if hasattr(tune, "RunConfig"):
        from ray.tune import RunConfig, report
    else:
        from ray.air import RunConfig
        from ray.air.session import report


def ray_train() -> SimpleNamespace:
    """Ray Train, as the newer Ray names it.

    Returns:
        Its names; ``scaling``, what a ``ScalingConfig`` has beside that of the workers, and
        ``running``, what a ``RunConfig`` has.
    """
    from ray.train.torch import TorchTrainer

    # it tells to leave CPUs to Ray's own data sets, of which there are none here
    warnings.filterwarnings("ignore", r"Executing `\.fit\(\)`")
    if hasattr(tune, "RunConfig"):
        from ray import train as configs
        from ray.train import Checkpoint
        from ray.train import get_checkpoint as checkpoint
        from ray.train import report as tell

        scaling, running = {}, {}
    else:
        from ray.air import config as configs
        from ray.air.checkpoint import Checkpoint
        from ray.air.session import get_checkpoint as checkpoint
        from ray.air.session import report as tell

        # else the trainer itself takes a CPU
        scaling, running = {"trainer_resources": {"CPU": 0}}, {"verbose": 0}
    names = ("ScalingConfig", "RunConfig", "FailureConfig", "CheckpointConfig")
    return SimpleNamespace(
        TorchTrainer=TorchTrainer,
        Checkpoint=Checkpoint,
        get_checkpoint=checkpoint,
        report=tell,
        scaling=scaling,
        running=running,
        **{name: getattr(configs, name) for name in names},
    )


# A trial that Ray's memory monitor kills is one whose process died. Tune does not know the error as
# such, and would end the whole sweep for it.
for module in (actor_manager, tune_controller):
    vars(module)["RayActorError"] = (RayActorError, OutOfMemoryError)

__all__ = [
    "ASHAScheduler",
    "MedianStoppingRule",
    "OptunaSearch",
    "RunConfig",
    "Searcher",
    "ray",
    "ray_train",
    "report",
    "tune",
]
