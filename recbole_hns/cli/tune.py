"""``recbole-hns tune``: a sweep over hyperparameters on Ray Tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt

from recbole_hns.cli.options import Command, Given, options, refuse_misspelt
from recbole_hns.config import DEFAULTS
from recbole_hns.config.known import check_early

if TYPE_CHECKING:
    from ray.tune import ResultGrid

#: What trials may use, which other jobs on Ray share.
RESOURCES = options(
    max_concurrent=(
        PositiveInt | None,
        Field(None, description="trials at a time; unset is as many as fit"),
    ),
    cpus_per_trial=(PositiveInt, Field(1, description="CPUs, and threads, of a trial")),
    gpus_per_trial=(
        float,
        Field(0.0, ge=0, description="GPUs of a trial, or the fraction of one; 0 is the CPU"),
    ),
    address=(
        str | None,
        Field(None, description="HOST:PORT of a Ray cluster to join; unset starts Ray here"),
    ),
)

OPTIONS = options(
    params=(
        str | None,
        Field(None, description="search space; unset is that of the sampler and of the loss"),
    ),
    output=(str, Field("tune", min_length=1, description="directory for the files")),
    resume=(bool, Field(False, description="go on with the sweep in --output")),
    num_samples=(
        PositiveInt,
        Field(1, description="random points for each of the grid, where some are drawn"),
    ),
    scheduler=(
        Literal["asha", "median"] | None,
        Field(None, description="ends hopeless trials early, untested"),
    ),
)

HELP = """\
Train and test at every point of a search space, as trials on Ray Tune, and choose by validation.
Writes trials.csv, best.yaml, a figure of every metric over every parameter, a map over every two,
and each trial's result file.

A search space is a YAML file of parameters of the sampler, the loss, the model or the training:

\b
  dns_m: [1, 2, 5, 10]                  # every value, with every value of the other lists
  learning_rate: {loguniform: [1e-4, 1e-2]} # drawn; uniform, randint and choice likewise
  loss: [bpr, softmax]                  # and similarity, candidate_sharing

Without --params it is the one that comes with the sampler, properties/tune/SAMPLER.yaml, together
with that of the loss where --loss names one, properties/tune/loss/LOSS.yaml.

A point whose values the sampler or the loss refuses together is left out. --KEY=VALUE is any key of
RecBole's, the sampler's or the loss's, for all trials; given for a parameter of the space, it is
not searched. So is --config_files="A B", YAML files, under the space.
"""


def run(given: Given) -> int:
    """Run the sweep; returns the exit status, 1 if no trial finished."""
    keys = dict(given.keys)
    files = keys.pop("config_files", "").split()
    refuse_misspelt(keys, OPTIONS | RESOURCES)
    if not given.values["resume"]:
        check_early(files, keys)

    # PyTorch, RecBole and Ray take seconds to import
    from recbole_hns.tuning.sweep import tune

    named: Any = {key: keys.pop(key, None) for key in ("model", "dataset", "sampler", "loss")}
    results = tune(**named, **given.values, config_file_list=files, command_line=keys)
    return exit_status(results)


def exit_status(results: ResultGrid) -> int:
    """0 if any trial finished, else 1."""
    return 0 if any((result.metrics or {}).get("finished") for result in results) else 1


COMMAND = Command(
    "tune",
    run,
    "[--model={model}] [--dataset={dataset}] [--sampler={sampler}] [--params=SPACE.yaml] "
    "[--KEY=VALUE ...]".format(**DEFAULTS),
    HELP,
    {"Options": OPTIONS, "What trials may use": RESOURCES},
    takes_keys=True,
)
