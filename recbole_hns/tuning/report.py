"""What a sweep or a search leaves: the best config, figures, and a page that sums up."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tabulate import tabulate

from recbole_hns.files import write_yaml
from recbole_hns.quick_start import run
from recbole_hns.tuning.page import Commands, Page, Part, Picture, Table
from recbole_hns.tuning.space import frozen

if TYPE_CHECKING:
    from recbole_hns.config import Config
    from recbole_hns.tuning.space import Space

#: Trials that are shown.
SHOWN = 10

#: In the output directory: the page, without its suffix, the config of the best trial, and where
#: the model is that was trained with it at last.
PAGE, BEST, MODEL = "report", "best.yaml", "model"

#: What says of a kind of trials which parameters they have.
KINDS = ("similarity", "sampler", "loss")


@dataclass
class Report:
    """What is told at the end.

    Attributes:
        text: for the terminal.
        page: to read first; None if no trial came to a score.
        epochs: of the best trial, after which it was best.
    """

    text: str
    page: Page | None = None
    epochs: int = 0


def write_report(
    keys: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]],
    config: Config,
    table: pd.DataFrame,
    seconds: float,
    output: Path,
    draw: Callable[[pd.DataFrame], list[Picture]],
    searched: bool = False,
) -> Report:
    """Write ``best.yaml``, the figures and the page of a sweep or a search.

    Args:
        keys: config keys of all trials.
        points: those of each.
        config: a config of theirs.
        table: the trials, as :class:`recbole_hns.tuning.table.TrialTable` has them.
        seconds: of wall-clock time that they took together.
        output: the directory.
        draw: draws the trials that came to a score, the best first, into the directory.
        searched: whether it was a search, in which a trial that was ended early may be the best,
            and whose ``best.yaml`` has the number of epochs.
    """
    ranked = ranking(table, config["valid_metric_bigger"], ended_early=searched)
    counts = _counts(table, seconds)
    if not len(ranked):
        return Report(f"{counts}\n{_without_score(table, output)}")
    best, epochs = points[ranked.iloc[0]["trial"]], int(ranked.iloc[0]["best_epoch"])
    recipe = {**keys, **best, **({"epochs": epochs} if searched else {})}
    again = "recbole-hns run --config_files=" + shlex.quote(f"{output}/{BEST}")
    on_all = f"{again} --protocol=all" + ("" if searched else f" --epochs={epochs}")
    write_yaml(recipe, output / BEST, f"to train on every part of the data: {on_all}")
    pictures = draw(ranked)
    metric = config["valid_metric"].lower()
    varied = [key for key in parameters_of(points) if len(set(map(frozen, ranked[key]))) > 1]
    named = [key for key in KINDS if key in varied] if searched else list(best)
    brief = _best_table(ranked, named, metric)
    files = [f"{PAGE}.md", f"{PAGE}.html", "trials.csv", BEST, "trials/"]
    figures = [name for each in pictures for name in (each.file, f"{Path(each.file).stem}.pdf")]
    text = [
        tabulate(brief.rows, headers=brief.header, disable_numparse=True, stralign="right"),
        "",
        counts,
        f"split: {config['data_split']}",
        f"files in {output}: {', '.join([*files, *figures])}",
        f"the best again: {again}",
        f"to deploy, on every part of the data: {on_all}",
    ]
    told = f"{BEST} holds it. Trained again it comes to the same figures; trained on every part of "
    told += "the data, it is what to deploy:"
    page = Page(f"{'Search' if searched else 'Sweep'} on {config['dataset']}")
    page.sections += [
        ("", _summary(ranked.iloc[0], config, counts)),
        (
            "The best",
            [
                Table(["key", "value"], [[key, _cell(value)] for key, value in recipe.items()]),
                told,
                Commands([again, on_all]),
            ],
        ),
        ("Trials", [_best_table(ranked, varied, metric), *_failures(table)]),
        ("Figures", [*pictures]),
    ]
    page.write(output, PAGE)
    return Report("\n".join(text), page, epochs)


def train_again(report: Report, output: Path) -> None:
    """Train the best on training and validation part together, and put on the page what it tests.

    The checkpoint is left in ``output/model``, which the page names.
    """
    if report.page is None:
        return
    keys = {"protocol": "paper", "eval_step": 0, "epochs": report.epochs}
    keys["checkpoint_dir"] = str(output / MODEL)
    result = run(config_file_list=[output / BEST], config_dict=keys)
    rows = [[name, f"{value:.4f}"] for name, value in result["test_result"].items()]
    told = (
        f"The best, trained for {report.epochs} epochs on training and validation part together. "
        "Nothing was chosen by these figures."
    )
    lists = f"recbole-hns recommend --checkpoint={shlex.quote(str(result.checkpoint))}"
    parts: list[Part] = [told, Table(["test metric", "value"], rows)]
    parts.append(Commands([f"{lists} --output=recs.parquet"]))
    report.page.sections.insert(2, ("Trained again", parts))
    report.page.write(output, PAGE)
    print(f"trained again on training and validation part: {result.checkpoint}")


def ranking(table: pd.DataFrame, bigger: bool, ended_early: bool = False) -> pd.DataFrame:
    """The trials by their validation score, the best first.

    Args:
        table: the trials.
        bigger: whether a larger score is better.
        ended_early: whether those that were ended early are among them, or the finished only.
    """
    kept = table[table["status"].isin(["finished", *(["stopped"] if ended_early else [])])]
    if "score" not in kept:
        return kept.iloc[:0]
    kept = kept.dropna(subset="score")
    return kept.sort_values("score", ascending=not bigger, kind="stable")


def sweep_pictures(space: Space, metric: str, ranked: pd.DataFrame, output: Path) -> list[Picture]:
    """Curves over every number that varies, and maps of every two on the grid."""
    # matplotlib takes a while to import
    from recbole_hns.figures import hardness_curves, hardness_map, style

    varied = [
        name
        for name in space.parameters
        if pd.api.types.is_numeric_dtype(ranked[name]) and ranked[name].nunique() > 1
    ]
    figures = {
        name: (hardness_curves.draw(ranked, name, drawn=name in space.distributions), name)
        for name in varied
    }
    for x, y in itertools.combinations([name for name in varied if name in space.grids], 2):
        figures[f"{x}-{y}"] = hardness_map.draw(ranked, x, y, metric), f"{x} and {y}"
    for name, (figure, _) in figures.items():
        style.save(figure, output, name)
    return [Picture(f"{name}.png", f"Metrics over {shows}") for name, (_, shows) in figures.items()]


def search_pictures(
    ended: pd.Series,
    parameters: Sequence[str],
    metric: str,
    bigger: bool,
    ranked: pd.DataFrame,
    output: Path,
) -> list[Picture]:
    """The best so far over time, and which parameters mattered.

    Args:
        ended: seconds of the search after which each trial ended, by its row.
        parameters: columns of them.
        metric: key of the metric that they were chosen by.
        bigger: whether a larger value of it is better.
        ranked: the trials that came to a score, the best first.
        output: the directory.
    """
    from recbole_hns.figures import importance, search_curve, style
    from recbole_hns.tuning.importance import importances

    pictures = []
    timed = ranked.assign(seconds=ended).dropna(subset="seconds")
    if len(timed):
        style.save(search_curve.draw(timed, metric, bigger), output, "best_so_far")
        shows = "Each trial's validation score where it ended, and the best so far"
        pictures.append(Picture("best_so_far.png", shows))
    found = importances(ranked, parameters, KINDS)
    if found:
        style.save(importance.draw(found), output, "importance")
        shows = "How much of the difference between trials goes with each parameter (fANOVA)"
        pictures.append(Picture("importance.png", shows))
    return pictures


def _summary(best: pd.Series, config: Config, counts: str) -> list[Part]:
    metric = config["valid_metric"].lower()
    name = config["valid_metric"]
    told = f"{name} {best['score']:.4f} in validation after {best['best_epoch']:.0f} epochs"
    test = best.get(f"test_{metric}")
    early = " It was ended early, and may come further." if best["status"] == "stopped" else ""
    tested = "" if test is None or pd.isna(test) else f", {test:.4f} on the test part"
    split = f"Data: {config['dataset']}, split {config['data_split']}."
    return [
        f"The best of them, trial {best['trial']}, came to {told}{tested}; it was chosen by "
        f"validation alone.{early}",
        f"{counts[0].upper()}{counts[1:]}. {split}",
    ]


def _best_table(ranked: pd.DataFrame, parameters: list[str], metric: str) -> Table:
    columns = {
        "trial": "trial",
        **{name: name for name in parameters},
        f"valid_{metric}": f"valid {metric}",
        f"test_{metric}": f"test {metric}",
        "best_epoch": "best epoch",
        "train_seconds": "training seconds",
    }
    forms = {f"valid_{metric}": ".4f", f"test_{metric}": ".4f"}
    forms.update(best_epoch=".0f", train_seconds=".1f")
    shown = ranked.head(SHOWN).reindex(columns=list(columns)).astype(object)
    rows = [
        [_cell(value, forms.get(key, "g")) for key, value in zip(columns, row, strict=True)]
        for row in shown.itertuples(index=False, name=None)
    ]
    return Table(list(columns.values()), rows)


def _cell(value: Any, form: str = "g") -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else format(value, form)
    return "-" if value is None else str(value)


def parameters_of(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that any point has, in order."""
    return list(dict.fromkeys(key for point in points for key in point))


def _failures(table: pd.DataFrame) -> list[Part]:
    failed = table[table["status"] == "failed"]
    return [f"Trial {row.trial} failed: {row.error}" for row in failed.itertuples()]


def _without_score(table: pd.DataFrame, output: Path) -> str:
    """What happened to the trials where none came to a validation score."""
    failed = table[table["status"] == "failed"]
    told = []
    if len(failed):
        errors = f"all errors are in {output}/trials.csv, column error"
        told.append(f"{len(failed)} failed, the first with {failed['error'].iloc[0]}; {errors}")
    if len(failed) < len(table) or table.empty:
        told.append("time was over before the first evaluation, which a longer --budget comes to")
    return f"no trial has a validation score, so there is no {BEST}: {'; '.join(told)}"


def _counts(table: pd.DataFrame, seconds: float) -> str:
    counts = table["status"].value_counts()
    told = ", ".join(f"{number} {status}" for status, number in counts.items())
    return ", ".join(filter(None, [f"{len(table)} trials", told, f"in {seconds:.1f} s"]))
