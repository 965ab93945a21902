"""``recbole-hns benchmark``: what training with each sampler costs, beside RecBole's own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveInt

from recbole_hns.cli.options import Command, Given, options, refuse_misspelt
from recbole_hns.config import DEFAULTS
from recbole_hns.config.keys import forced
from recbole_hns.config.known import check_early
from recbole_hns.config.specs import parse_specs
from recbole_hns.errors import UserError
from recbole_hns.files import replace_file, writable_directory

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

    from recbole_hns.benchmark.entries import Entry
    from recbole_hns.benchmark.until import Target
    from recbole_hns.config import Config

OPTIONS = options(
    samplers=(
        str,
        Field("rns,dns,dns_mn,softmax_v,ahns", min_length=1, description="specs, see above"),
    ),
    recbole=(
        str,
        Field(
            "uniform,dynamic",
            description="RecBole's own training: uniform, dynamic:candidate_num=N; dynamic alone "
            "is run with each of the samplers' numbers",
        ),
    ),
    synthetic=(
        Annotated[list[PositiveInt], Field(min_length=3, max_length=3)] | None,
        Field(
            None,
            description="USERS,ITEMS,INTERACTIONS of power-law data, made for the run and removed "
            "after it, in place of --dataset",
        ),
    ),
    rounds=(PositiveInt, Field(3, description="epochs, or starts, of each that are timed")),
    until=(
        str | None,
        Field(None, description="METRIC:VALUE of validation to train to, such as NDCG@20:0.065"),
    ),
    max_seconds=(
        float,
        Field(600.0, gt=0, description="training seconds after which --until gives up"),
    ),
    startup=(bool, Field(False, description="time starts of new processes")),
    threads=(PositiveInt | None, Field(None, description="PyTorch's threads; unset is its choice")),
    output=(str, Field("benchmark", min_length=1, description="directory for the files")),
)

HELP = """\
Measure what training with samplers costs, beside RecBole's own training, in one run, from the
same seed. Three measurements, each with its table as .md and .csv:

\b
  benchmark  seconds per training epoch: the median of --rounds epochs after a warm-up, one epoch
             of each in turn; peak memory of preparing and training; the seconds of each stage,
             and of scoring the embeddings read per second, beside the device's copy rate
  until      with --until: training seconds, epochs and evaluation seconds to a value of validation
  startup    with --startup: seconds from a new process to its first training step

Peak memory is the increase over what was in use before the data loaders are made, until the end of
the warm-up epoch: what PyTorch allocates on a GPU, elsewhere the resident set of the process. A GPU
is waited for at the ends of what is timed; RecBole's dynamic does not run on one.

A sampler's spec is its name, with keys of its own: --samplers="rns dns_mn:dns_m=5,candidate_num=200
ahns:candidate_num=32". Specs are separated by spaces or commas. --KEY=VALUE is any key of RecBole's
or of the samplers', for all that have it; so is --config_files="A B", YAML files.
"""


def run(given: Given) -> None:
    """Run the benchmark and write its files."""
    keys, values = dict(given.keys), given.values
    files = keys.pop("config_files", "").split()
    refuse_misspelt(keys, OPTIONS)
    check_early(files, keys, parse_specs("samplers", values["samplers"]))
    _measure(files, keys, values)


def _measure(files: Sequence[str], given: Mapping[str, str], values: Mapping[str, Any]) -> None:
    # PyTorch and RecBole take seconds to import
    from recbole_hns.benchmark.entries import entries
    from recbole_hns.benchmark.synthetic import Sizes, write_synthetic
    from recbole_hns.benchmark.training import threads
    from recbole_hns.benchmark.until import Target

    target = Target.parse(values["until"]) if values["until"] is not None else None
    if target and values["startup"]:
        raise UserError.of("startup", True, "cannot go with --until")
    output = writable_directory("output", values["output"]).resolve()
    with tempfile.TemporaryDirectory() as folder, threads(values["threads"]):
        keys = _config_keys(files, given, Path(folder))
        if target:
            keys.update(target.config_keys())
        sizes = None
        if values["synthetic"] is not None:
            if "dataset" in given:
                raise UserError.of("dataset", given["dataset"], "cannot go with --synthetic")
            sizes = Sizes(*values["synthetic"])
            keys["dataset"] = sizes.name
        found = entries(keys, values["samplers"], values["recbole"])
        if sizes:
            keys.update(write_synthetic(sizes, found[0].config["seed"], Path(folder)))
            found = entries(keys, values["samplers"], values["recbole"])
        _tell_unused(found)
        if "dynamic" in values["recbole"] and found[0].config["device"].type != "cpu":
            print("RecBole's dynamic is left out: it does not run on a GPU", file=sys.stderr)
        with _working_in(folder):
            if values["startup"]:
                page = _startup(found, keys, values["rounds"], Path(folder), output)
            elif target:
                page = _until(found, target, values["max_seconds"], output)
            else:
                page = _benchmark(found, values["rounds"], output)
    print(page)


def _read(config: Config) -> Dataset:
    """The data set, in a process that is warm."""
    from recbole_hns.benchmark.training import warm_up_process
    from recbole_hns.data.preparation import create_dataset

    # first, as a process that has trained keeps the memory that reading frees
    dataset = create_dataset(config)
    warm_up_process(config)
    return dataset


def _benchmark(found: Sequence[Entry], rounds: int, output: Path) -> str:
    from recbole_hns.benchmark.report import environment, timing_table
    from recbole_hns.benchmark.timing import copy_rate, time_epochs

    dataset = _read(found[0].config)
    timings = time_epochs(found, dataset, rounds)
    facts = environment(found[0].config, dataset)
    facts["train_interactions"] = timings[0].interactions
    facts["rounds"] = rounds
    facts["copy rate, GB/s"] = round(copy_rate(found[0].config["device"]) / 1e9, 1)
    table = timing_table(timings)

    # matplotlib takes a while to import
    from recbole_hns.figures import epoch_seconds, style

    style.save(epoch_seconds.draw(table), output, "benchmark")
    return _write("benchmark", "Seconds per training epoch", facts, table, output)


def _until(found: Sequence[Entry], target: Target, max_seconds: float, output: Path) -> str:
    from recbole_hns.benchmark.report import curves_table, environment, until_table, write_csv
    from recbole_hns.benchmark.until import train_until

    dataset = _read(found[0].config)
    curves = train_until(found, dataset, target, max_seconds)
    facts = environment(found[0].config, dataset)
    facts["target"] = f"{target.metric} {target.value:g}"
    facts["max_seconds"] = max_seconds
    points = curves_table(curves)
    write_csv(points, output / "until_curves.csv")

    # matplotlib takes a while to import
    from recbole_hns.figures import metric_over_seconds, style

    figure = metric_over_seconds.draw(points, target.metric, target.value)
    style.save(figure, output, "until")
    title = f"Training until {target.metric} is {target.value:g} in validation"
    return _write("until", title, facts, until_table(curves), output)


def _startup(
    found: Sequence[Entry], keys: Mapping[str, Any], rounds: int, folder: Path, output: Path
) -> str:
    from recbole_hns.benchmark.report import environment, startup_table
    from recbole_hns.benchmark.startup import time_starts

    starts = time_starts(found, keys, rounds, folder)
    facts = {**environment(found[0].config), "rounds": rounds}
    title = "Seconds from a new process to its first training step"
    return _write("startup", title, facts, startup_table(starts), output)


def _write(name: str, title: str, facts: Mapping[str, Any], table: Any, output: Path) -> str:
    """Write the table; returns the page, with a line that names the files."""
    from recbole_hns.benchmark.report import markdown, write_csv

    page = markdown(title, facts, table)
    write_csv(table, output / f"{name}.csv", facts)
    replace_file(output / f"{name}.md", lambda file: file.write(page.encode()))
    written = sorted(path.name for path in output.glob(f"{name}*.*"))
    return f"{page}\nfiles in {output}: {', '.join(written)}"


def _config_keys(files: Sequence[str], given: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """The config keys of all entries, with paths that hold in any working directory."""
    from recbole_hns.config import given_keys

    keys = given_keys(files, None, given)
    # each entry names its own
    keys.pop("sampler", None)
    keys = {**keys, **forced("benchmark"), "checkpoint_dir": str(folder / "saved")}
    data_path = keys.get("data_path", "dataset")
    if isinstance(data_path, str):
        keys["data_path"] = os.path.abspath(data_path)
    return keys


def _tell_unused(found: Sequence[Entry]) -> None:
    """Name the keys that have an effect on no entry of this benchmark."""
    unused = [entry.config.unused_keys() for entry in found if entry.recbole is None]
    for key in unused[0]:
        if all(key in keys for keys in unused):
            reasons = {keys[key] for keys in unused}
            reason = reasons.pop() if len(reasons) == 1 else "has no effect with these samplers"
            print(f"{key} {reason}", file=sys.stderr)


@contextmanager
def _working_in(folder: str) -> Iterator[None]:
    """Work in another directory, where RecBole's trainers leave TensorBoard files."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


COMMAND = Command(
    "benchmark",
    run,
    "[--model={model}] [--dataset={dataset} | --synthetic=U,I,N] "
    "[--until=METRIC:VALUE | --startup] [--KEY=VALUE ...]".format(**DEFAULTS),
    HELP,
    {"Options": OPTIONS},
    takes_keys=True,
)
