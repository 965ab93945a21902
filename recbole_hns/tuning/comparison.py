"""Samplers over seeds: the same seeds, and so the same splits and initial models, for all."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pandas as pd
from pydantic import PositiveInt

from recbole_hns.config import DEFAULTS, Config, given_keys
from recbole_hns.config.axes import chosen_loss, loss_keys, sampler_keys, set_by_sampler
from recbole_hns.config.keys import KEYS
from recbole_hns.config.specs import parse_specs, without_fixed
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.errors import JobError, UserError, did_you_mean
from recbole_hns.files import plain, replace_file, writable_directory
from recbole_hns.loss.base import Loss
from recbole_hns.parameters import Declared
from recbole_hns.protocol import PAPER_NOTE
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import sampler_class
from recbole_hns.tuning import SAMPLERS, SEEDS
from recbole_hns.tuning.baselines import BASELINES, baseline_names
from recbole_hns.tuning.cluster import Resources, ray_session
from recbole_hns.tuning.comparison_page import (
    LEVEL,
    SHOWN_SECONDS,
    TIED,
    latex,
    markdown,
    users_latex,
    users_markdown,
)
from recbole_hns.tuning.preparation import prepared
from recbole_hns.tuning.record import (
    Record,
    check_trust,
    check_unused,
    is_known,
    locked,
    read_record,
    resuming,
    take_over,
    write_record,
)
from recbole_hns.tuning.space import frozen, searchable
from recbole_hns.tuning.statistics import compared
from recbole_hns.tuning.table import TrialTable
from recbole_hns.tuning.trial import Job

if TYPE_CHECKING:
    from ray.tune import ResultGrid

    from recbole_hns.tuning.user_statistics import Ranked

#: The runs' table, written as they end.
RUNS = "runs.csv"

#: In the output directory: what the comparison was started with, which ``resume`` goes on with.
RECORD = "comparison.yaml"

#: There, too: what only a comparison leaves.
RESULTS = (RUNS, "table.*", "users.csv", "critical_difference.*", "runs/*.json")

#: What there is of users, where their metrics were kept.
USERS = ("users.csv", "critical_difference.png", "critical_difference.pdf")


class ComparisonRecord(Record):
    """What a comparison was started with.

    Attributes:
        samplers: as :func:`compare` is given it.
        seeds: likewise.
        baselines: likewise.
        settings: what the files of settings hold, by their paths.
        files: what the config files hold together.
        given: config keys over files.
    """

    samplers: str
    seeds: PositiveInt
    baselines: str = ""
    settings: dict[str, dict[str, Any]]
    files: dict[str, Any]
    given: dict[str, Any]


def compare(
    samplers: str | None = None,
    seeds: int | None = None,
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | os.PathLike[str]] | None = None,
    baselines: str | None = None,
    settings: Sequence[str | os.PathLike[str]] = (),
    output: str | os.PathLike[str] = "comparison",
    resources: Resources | None = None,
    command_line: Mapping[str, str] | None = None,
    resume: bool = False,
) -> ResultGrid:
    """Train and test samplers with several seeds on Ray, and write a table with statistics.

    RecBole has one seed for a random split and for training. So each seed is another split, unless
    the data come split, and with one seed all samplers have the same split and initial model: their
    results are pairs. The best epoch of a run is chosen by validation.

    Args:
        samplers: names, each with settings of its own where it has any, such as
            ``rns, dns_mn:dns_m=5,candidate_num=200,loss=softmax``; default :data:`SAMPLERS`.
        seeds: how many, default 5; the first is the config's ``seed``, the others follow it.
        model: as in :func:`recbole_hns.run`.
        dataset: as there.
        config_file_list: as there.
        baselines: names of :data:`~recbole_hns.tuning.baselines.BASELINES`, such as
            ``Pop,ItemKNN,EASE,ALS``, which have rows beside the samplers'; default none.
        settings: YAML files of one sampler each, which they name, such as ``best.yaml`` of a sweep.
            Their keys of the sampler, the loss, the model and the training are for that sampler,
            over ``config_file_list``; the others, on which they have to agree, for all.
        output: directory for ``table.md``, ``.csv``, ``.tex``, ``runs.csv`` and result files.
        resources: what runs may use; default one CPU each.
        command_line: config keys of all samplers, over files; a sampler takes those that it and
            its loss have.
        resume: whether to go on with the comparison in ``output``. Its finished runs are taken
            over, those that failed are tried again. What it was started with need not be given
            again.

    Returns:
        Ray's ``ResultGrid``.

    Raises:
        UserError: for a value that is not allowed, or data that cannot be used.
        Interrupted: for Ctrl-C or SIGTERM; what has finished stays, for ``resume``.
        JobError: if Ray fails as a whole; likewise.
    """
    folder = Path(output).absolute()
    path = folder / RECORD
    in_files = plain(given_keys(config_file_list))
    in_files.pop("sampler", None)
    over_files = plain(given_keys(command_line=command_line, model=model, dataset=dataset))
    read = {os.fspath(file): plain(read_yaml(file, key="settings")) for file in settings}
    if resume:
        asked = _recorded(path, samplers, seeds, baselines, read, {**in_files, **over_files})
    else:
        check_unused(output, path, *RESULTS)
        samplers = SAMPLERS if samplers is None else samplers
        asked = ComparisonRecord(
            samplers=samplers,
            seeds=SEEDS if seeds is None else seeds,
            baselines=baselines or "",
            settings=read,
            files=in_files,
            given=over_files,
        )
    job, rows, once = _planned(asked, folder, resources or Resources())
    table = TrialTable(job.points, job.files, folder / RUNS)
    if resume:
        take_over(job, table)

    config, splits = prepared(job)

    # Ray takes seconds to import, which a mistake above need not wait for
    from recbole_hns.tuning.trials import every_point, run_trials

    metric, told = config["valid_metric"].lower(), f"split {config['data_split']}"
    again = resuming("compare", output, job.resources, **_own_classes(asked))

    def write() -> str:
        return _write(job, table.typed().assign(sampler=rows), once, folder, told)

    where = f"files in {folder}: table.md, .csv, .tex, {RUNS}, "
    with ray_session(job.resources), locked(output, folder):
        writable_directory("output", str(folder / "runs"))
        if not resume:
            check_unused(output, path, *RESULTS)
            write_record(asked, path)
        try:
            plan = every_point(job, config)
            results = run_trials(job, config, splits, table, again, plan, write)
        except JobError:
            print("\n".join([write(), f"{where}runs/"]))
            raise
        page = [write(), _write_users(table.typed().assign(sampler=rows), once, folder, metric)]
    of_users = [name for name in USERS if (folder / name).exists()]
    print("\n".join([*filter(None, page), f"{where}{', '.join([*of_users, 'runs/'])}"]))
    if results.num_errors:
        print(f"to try again what failed: {again}")
    return results


def _planned(
    asked: ComparisonRecord, folder: Path, resources: Resources
) -> tuple[Job, list[str], list[str]]:
    """The runs of a comparison, what each one's row is headed by, and the rows of one run.

    A baseline without draws has the same result with every seed where these have the same split; it
    runs with the first one only.
    """
    specs = _specs(asked.samplers)
    classes = {name: sampler_class(name) for name, _ in specs}
    in_files, over_files = asked.files, asked.given
    own, shared = _settings(asked.settings, classes, {**in_files, **over_files})
    # for the tests over users
    keys = {**DEFAULTS, "user_metrics": True, **shared, **in_files, **over_files}
    first = KEYS["seed"].check(keys.get("seed", 2020))
    points, files, losses, rows = [], [], [], []
    distinct = set()
    for number, (name, spec) in enumerate(specs, 1):
        cls = classes[name]
        mine = {key: value for key, value in own.get(name, {}).items() if key not in over_files}
        loss = chosen_loss(cls, {**keys, **mine, **spec})
        losses.append(loss)
        free = searchable(cls, [loss], keys["model"])
        # another loss in the spec does not read what was set beside the settings' own
        mine = {key: value for key, value in mine.items() if key in free}
        for key, value in spec.items():
            if key not in free:
                allowed = (
                    f"no key of sampler {name}, loss {loss.name}, {keys['model']} or the training"
                )
                raise UserError.of(key, value, allowed + did_you_mean(key, free))
        values = {
            **_declared(cls, loss, in_files),
            **mine,
            **_declared(cls, loss, over_files),
            **spec,
        }
        told: dict[str, Any] = {}
        file = re.sub(r"[^A-Za-z0-9_.]+", "-", name)
        if [other for other, _ in specs].count(name) > 1:
            file, told = f"{file}-{number}", dict(spec)
        if "loss" in {**mine, **spec}:
            told.setdefault("loss", values["loss"])
        row = name + ":" * bool(told) + ",".join(f"{key}={value}" for key, value in told.items())
        distinct.add(frozen({"sampler": name, **values, "loss": loss}))
        if len(distinct) < number:
            allowed = f"{row} is there twice, with the same settings"
            raise UserError.of("samplers", asked.samplers, allowed)
        for seed in range(first, first + asked.seeds):
            points.append({"sampler": name, "seed": seed, **values})
            files.append(folder / "runs" / f"{file}-{seed}.json")
            rows.append(row)
    used: list[type[Declared]] = [*classes.values(), *losses]
    declared = {*sampler_keys(), *loss_keys()}.union(*(cls.hyperparameters for cls in used))
    for key in declared.intersection(keys):
        if not any(key in point for point in points):
            print(f"{key} has no effect with these samplers", file=sys.stderr)
        # it is in the points of those that have it
        del keys[key]
    job = Job.of(plain(keys), classes, plain(points), files, resources)
    for (_, spec), point in zip(specs, job.points[:: asked.seeds], strict=True):
        for key, reason in job.config(point).unused_keys().items():
            if key in spec:
                raise UserError.of(key, spec[key], reason)
    names = baseline_names(asked.baselines)
    if not names:
        return job, rows, []
    same = _is_one_split(job.config(job.points[0], use_gpu=False))
    once = [name for name in names if same and asked.seeds > 1 and not BASELINES[name].draws]
    for name in names:
        if name in classes:
            raise UserError.of("baselines", name, "is a sampler here; leave one of the two out")
        for seed in range(first, first + (1 if name in once else asked.seeds)):
            points.append({"sampler": name, "seed": seed})
            files.append(folder / "runs" / f"{name}-{seed}.json")
            rows.append(name)
    return replace(job, points=plain(points), files=files), rows, once


def _is_one_split(config: Config) -> bool:
    """Whether data and evaluation are the same with every seed."""
    drawn = config["benchmark_filename"] is None and config["eval_args"]["order"] == "RO"
    return not drawn and set(config["eval_args"]["mode"].values()) == {"full"}


def _recorded(
    path: Path,
    samplers: str | None,
    seeds: int | None,
    baselines: str | None,
    settings: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Any],
) -> ComparisonRecord:
    """What the comparison of a record was started with.

    Raises:
        UserError: if there is none, or what is given now differs from it.
    """
    record = read_record(path, ComparisonRecord)
    if samplers is not None and _specs(samplers) != _specs(record.samplers):
        allowed = f"the comparison was started with {record.samplers}"
        raise UserError.of("samplers", samplers, allowed)
    if seeds not in (None, record.seeds):
        raise UserError.of("seeds", seeds, f"the comparison was started with {record.seeds}")
    if baselines is not None and baseline_names(baselines) != baseline_names(record.baselines):
        allowed = f"the comparison was started with {record.baselines or 'none'}"
        raise UserError.of("baselines", baselines, allowed)
    if settings and list(settings.values()) != list(record.settings.values()):
        where = " ".join(settings)
        raise UserError.of("settings", where, "the comparison was started with other settings")
    before = {**record.files, **record.given}
    for key, value in given.items():
        if before.get(key) != value:
            raise UserError.of(key, value, f"the comparison was started with {before.get(key)}")
    now = record.model_copy(update={"samplers": samplers or "", "settings": settings})
    now = now.model_copy(update={"files": {}, "given": given})
    check_trust(path, _named(record), _named(now))
    return record


def _named(asked: ComparisonRecord) -> list[Any]:
    """The samplers and losses that a comparison names."""
    specs = parse_specs("samplers", asked.samplers)
    places = [asked.files, asked.given, *asked.settings.values(), *(keys for _, keys in specs)]
    return [*(name for name, _ in specs), *(place.get("loss") for place in places)]


def _declared(
    sampler: type[HardNegativeSampler], loss: type[Loss], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The keys of a sampler and its loss that they leave a choice in."""
    known = (sampler.hyperparameters.keys() | loss.hyperparameters.keys()) - set_by_sampler(
        sampler, loss
    )
    free = without_fixed(values, sampler)
    return {key: value for key, value in free.items() if key in known}


def _own_classes(asked: ComparisonRecord) -> dict[str, Any]:
    """The options that have to be given again for a comparison with classes of the user's."""
    own = [name for name in _named(asked) if not is_known(name)]
    options = {"samplers": asked.samplers, "loss": {**asked.files, **asked.given}.get("loss")}
    return options if own else {}


def _specs(samplers: str) -> list[tuple[str, dict[str, Any]]]:
    """The samplers of a list, each with the settings that it has there."""
    specs = parse_specs("samplers", samplers)
    if not specs:
        raise UserError.of("samplers", samplers, "must name at least one sampler")
    return specs


def _settings(
    files: Mapping[str, Mapping[str, Any]],
    classes: Mapping[str, type[HardNegativeSampler]],
    given: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What settings files, whose content is given, say of each sampler, and of all.

    Raises:
        UserError: for a file of no sampler that is compared, or of one that another file is of, or
            where files differ in what is the same for all samplers and not in ``given``.
    """
    own: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    for path, content in files.items():
        values = dict(content)
        name = values.pop("sampler", None)
        if name not in classes:
            allowed = f"its sampler, {name}, must be one of {', '.join(classes)}"
            raise UserError.of("settings", path, allowed)
        if name in own:
            raise UserError.of("settings", path, f"another file has settings of {name}")
        model = given.get("model", values.get("model", DEFAULTS["model"]))
        loss = chosen_loss(classes[name], {**given, **values})
        free = searchable(classes[name], [loss], model)
        own[name] = {key: value for key, value in values.items() if key in free}
        for key, value in values.items():
            if key in free or key in given:
                continue
            if shared.setdefault(key, value) != value:
                allowed = f"another file has {shared[key]}; it must be the same for all samplers"
                raise UserError.of(key, value, allowed)
    return own, shared


def _write_text(text: str, file: IO[bytes]) -> None:
    file.write(text.encode())


def _write(job: Job, runs: pd.DataFrame, once: Sequence[str], folder: Path, told: str) -> str:
    """Write the tables over seeds; returns the page, with what failed."""
    finished = runs[runs["status"] == "finished"]
    failed = [
        f"{run.sampler}, seed {run.seed}: {run.error}"
        for run in runs[runs["status"] == "failed"].itertuples()
    ]
    if not len(finished):
        return "\n".join(failed)
    statistics = compared(_for_every_seed(finished, once))
    seconds = finished.groupby("sampler")[list(SHOWN_SECONDS)].mean()
    note = _note(job, sorted(runs["seed"].unique()), once, told)
    if len(finished) < len(runs):
        note += f" {len(runs) - len(finished)} of {len(runs)} runs have not finished."
    content = {
        "md": markdown(statistics, seconds, note),
        "csv": statistics.to_csv(index=False),
        "tex": latex(statistics, seconds, note),
    }
    for kind, text in content.items():
        replace_file(folder / f"table.{kind}", functools.partial(_write_text, text))
    return "\n".join([content["md"], *failed])


def _for_every_seed(runs: pd.DataFrame, once: Sequence[str]) -> pd.DataFrame:
    """``runs`` with those of the rows in ``once`` repeated for every seed of the others."""
    single = runs["sampler"].isin(once)
    seeds = pd.Series(sorted(runs.loc[~single, "seed"].unique()), name="seed")
    repeated = runs[single].drop(columns="seed").merge(seeds, how="cross")
    return pd.concat([runs[~single], repeated], ignore_index=True) if len(repeated) else runs


def _write_users(runs: pd.DataFrame, once: Sequence[str], folder: Path, metric: str) -> str:
    """Write tables and diagram over users, where their metrics were kept; returns the page."""
    from recbole_hns.tuning.user_statistics import RESAMPLES, ranked, user_values, users_compared

    finished = _for_every_seed(runs[runs["status"] == "finished"], once)
    values = user_values(finished, folder)
    pairs = users_compared(values)
    kept = next(iter(values.values()), pd.DataFrame())
    without = [row for row in finished["sampler"].unique() if row not in kept]
    missing = f"No users' metrics were kept of {', '.join(without)}." if without else ""
    if not len(pairs):
        return f"{missing}\n" if len(kept) else ""
    text = pairs.to_csv(index=False)
    replace_file(folder / "users.csv", functools.partial(_write_text, text))
    if metric not in values:
        return ""
    pairs = pairs[pairs["metric"] == metric]
    users, first = int(pairs["users"].iloc[0]), pairs["first"].iloc[0]
    note = (
        f"{metric} over {users:,} users, each one's mean over the seeds: by how much the best mean "
        f"is better, with the percentile interval of {RESAMPLES:,} bootstrap samples of the users; "
        "p-value: of Wilcoxon's two-sided signed-rank test, and corrected by Holm's method for all "
        f"{len(pairs)} pairs of rows; effect: matched-pairs rank-biserial correlation. {TIED}: "
        f"such a test does not distinguish it from the best (corrected p-value of {LEVEL} or "
        "more). users.csv has every pair and metric."
    )
    against = pairs[pairs["first"] == first]
    page = users_markdown(against, f"{note} {missing}".strip())
    for kind, added in (("md", page), ("tex", users_latex(against, note))):
        path = folder / f"table.{kind}"
        content = f"{path.read_text(encoding='utf-8')}\n{added}"
        replace_file(path, functools.partial(_write_text, content))
    _draw_ranks(ranked(metric, values[metric]), pairs, metric, folder)
    return page


def _draw_ranks(found: Ranked, pairs: pd.DataFrame, metric: str, folder: Path) -> None:
    """Write the critical-difference diagram."""
    # Matplotlib takes seconds to import
    from recbole_hns.figures import critical_difference
    from recbole_hns.figures.style import save

    order = list(found.ranks.index)
    square = pd.DataFrame(1.0, index=order, columns=order)
    for pair in pairs.itertuples():
        square.loc[pair.first, pair.second] = square.loc[pair.second, pair.first] = pair.p_holm
    users = int(pairs["users"].iloc[0])
    figure = critical_difference.draw(found.ranks, square, metric, LEVEL, users, found.p_value)
    save(figure, folder, "critical_difference")


def _note(job: Job, seeds: Sequence[int], once: Sequence[str], told: str) -> str:
    """What a table's numbers are of."""
    if len(seeds) == 1:
        numbers = (
            f"test metrics of one run a sampler, seed {seeds[0]}. "
            "Improvement: of the best over the second."
        )
    else:
        numbers = (
            f"mean and standard deviation of test metrics over {len(seeds)} runs a sampler, "
            f"seeds {seeds[0]} to {seeds[-1]}. Improvement: of the best mean over the second; "
            "p-value: of the two-sided paired t-test between them over the seeds, and corrected by "
            "Holm's method for all pairs of rows. "
            f"{TIED}: such a test does not distinguish it from the best (corrected p-value of "
            f"{LEVEL} or more)."
        )
    numbers += (
        " Seconds: of training, without evaluation, a run's; CPU seconds: of the processor, of all "
        "its threads together."
    )
    baselines = dict.fromkeys(point["sampler"] for point in job.points if job.is_baseline(point))
    if baselines:
        numbers += (
            f" {', '.join(baselines)}: fitted with every setting of a small grid, the best in "
            "validation tested; their seconds are of its fit."
        )
    if once:
        numbers += f" {', '.join(once)}: the same with every seed of this split, so run once."
    trained = job.keys["model"] + (f", loss {job.keys['loss']}," if job.keys.get("loss") else "")
    note = f"{trained} on {job.keys['dataset']}, {told}: {numbers}"
    if job.keys.get("protocol") == "paper":
        note += f" {PAPER_NOTE[0].upper()}{PAPER_NOTE[1:]}."
    return note
