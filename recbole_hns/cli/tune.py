"""``recbole-hns tune``: a search or a sweep over hyperparameters on Ray Tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt

from recbole_hns.cli.options import Command, Given, options, refuse_misspelt
from recbole_hns.config import DEFAULTS
from recbole_hns.config.known import check_early
from recbole_hns.tuning.budget import seconds_of

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
    budget=(
        str | None,
        Field(None, description="searches the joint space for that long, such as 30m or 2h"),
    ),
    trials=(
        PositiveInt | None,
        Field(None, description="searches the joint space with so many trials at most"),
    ),
    retrain=(
        bool,
        Field(False, description="train the best on training and validation part at last"),
    ),
    params=(
        str | None,
        Field(None, description="search space; unset is that of the sampler and of the loss"),
    ),
    output=(str, Field("tune", min_length=1, description="directory for the files")),
    resume=(bool, Field(False, description="go on with what is in --output")),
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
Find hyperparameters by validation, as trials on Ray Tune.

\b
  recbole-hns tune --dataset=mine --budget=30m --retrain

Without --params, --budget or --trials have Optuna search what has to be tuned together: layers, the
sampler or the loss with its hardness, sharing, L2, weight decay, learning rate and its decay,
initial scale and batch size, with ranges that fit the data, from the recommended recipes on. ASHA
ends hopeless trials early. The budget is time of the clock, however many trials are at work.

With neither, every point of a search space is trained and tested.

Both write a page, report.md and report.html, trials.csv, best.yaml, figures, and each trial's
result file.

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
    """Search; returns the exit status, 1 if no trial came to a score."""
    keys = dict(given.keys)
    files = keys.pop("config_files", "").split()
    refuse_misspelt(keys, OPTIONS | RESOURCES)
    if given.values["budget"] is not None:
        seconds_of(given.values["budget"])
    if not given.values["resume"]:
        check_early(files, keys)

    # PyTorch, RecBole and Ray take seconds to import
    from recbole_hns.tuning.sweep import tune

    named: Any = {key: keys.pop(key, None) for key in ("model", "dataset", "sampler", "loss")}
    results = tune(**named, **given.values, config_file_list=files, command_line=keys)
    # the best of a search may be one that was ended early
    found = [result.metrics or {} for result in results]
    return 0 if any("score" in each and "error" not in each for each in found) else 1


def exit_status(results: ResultGrid) -> int:
    """0 if any trial finished, else 1."""
    return 0 if any((result.metrics or {}).get("finished") for result in results) else 1


COMMAND = Command(
    "tune",
    run,
    "[--dataset={dataset}] (--budget=30m | --trials=N | [--model={model}] [--sampler={sampler}] "
    "[--params=SPACE.yaml]) [--KEY=VALUE ...]".format(**DEFAULTS),
    HELP,
    {"Options": OPTIONS, "What trials may use": RESOURCES},
    takes_keys=True,
)
