"""``recbole-hns compare``: samplers over seeds, with a table and a test of significance."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt

from recbole_hns.cli.options import Command, Given, options, refuse_misspelt
from recbole_hns.cli.tune import RESOURCES, exit_status
from recbole_hns.config import DEFAULTS
from recbole_hns.config.known import check_early
from recbole_hns.config.specs import parse_specs
from recbole_hns.tuning import SAMPLERS, SEEDS

OPTIONS = options(
    samplers=(str, Field(SAMPLERS, min_length=1, description="specs, see above")),
    seeds=(
        PositiveInt,
        Field(SEEDS, description="runs of each, from the config's seed upwards"),
    ),
    baselines=(
        str,
        Field("", description="models to compare with, of Pop, ItemKNN, EASE and ALS"),
    ),
    settings=(
        str,
        Field("", description="YAML files of one sampler each, such as best.yaml of a sweep"),
    ),
    output=(str, Field("comparison", min_length=1, description="directory for the files")),
    resume=(bool, Field(False, description="go on with the comparison in --output")),
)

HELP = """\
Train and test samplers with several seeds, as trials on Ray, and write a table of the test metrics
as table.md, .csv and .tex: mean and standard deviation, the best in bold, the second underlined,
the improvement of the best over the second and the p-value of a paired t-test between them, and a
mark at those that such a test does not distinguish from the best; table.csv has all p-values.
With one seed all samplers have the same split and initial model. Each run leaves its result file,
and the tables are written anew after each; --resume goes on with what was interrupted.

A sampler's spec is its name, with keys of its own: --samplers="rns dns_mn:dns_m=5,candidate_num=50"
or with a loss and its keys, --samplers="ssm dns_mn:loss=softmax,loss_tau=0.2". Specs are separated
by spaces or commas. A file of --settings names its sampler. --KEY=VALUE is any key of RecBole's,
the samplers' or the losses', for all that have it; so is --config_files="A B", YAML files. A spec
goes over --KEY=VALUE, that over --settings, that over --config_files. A sampler may be there
several times with other settings, such as --samplers="all:loss=softmax all:loss=psl,loss_tau=0.05".

--baselines="Pop,ItemKNN,EASE,ALS" adds rows of models that are fitted, not trained: RecBole's, and
ALS of the package implicit, an extra. Each has the setting of its small grid that is best in
validation, on the same split and by the same evaluation.
"""


def run(given: Given) -> int:
    """Run the comparison; returns the exit status, 1 if no run finished."""
    keys, values = dict(given.keys), dict(given.values)
    files, settings = keys.pop("config_files", "").split(), values.pop("settings").split()
    refuse_misspelt(keys, OPTIONS | RESOURCES)
    if values["resume"]:
        # what the comparison was started with, not the defaults
        values.update(dict.fromkeys({"samplers", "seeds", "baselines"} - given.named))
    elif not settings:
        check_early(files, keys, parse_specs("samplers", values["samplers"]))

    # PyTorch, RecBole and Ray take seconds to import
    from recbole_hns.tuning.cluster import Resources
    from recbole_hns.tuning.comparison import compare

    resources = Resources(**{key: values.pop(key) for key in RESOURCES})
    named: Any = {key: keys.pop(key, None) for key in ("model", "dataset")}
    results = compare(
        **named,
        **values,
        config_file_list=files,
        settings=settings,
        resources=resources,
        command_line=keys,
    )
    return exit_status(results)


COMMAND = Command(
    "compare",
    run,
    "[--model={model}] [--dataset={dataset}] [--samplers=A,B,C] [--seeds=5] "
    '[--baselines="Pop,EASE"] '
    '[--settings="A.yaml B.yaml"] [--KEY=VALUE ...]'.format(**DEFAULTS),
    HELP,
    {"Options": OPTIONS, "What trials may use": RESOURCES},
    takes_keys=True,
)
