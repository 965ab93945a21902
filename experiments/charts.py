"""Charts of the documentation, drawn from the tables of ``docs/results`` themselves.

``python experiments/charts.py`` draws all of them anew into ``docs/images``; run it when a table
has changed.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

DOCS = Path(__file__).parents[1] / "docs"

OURS, UNIFORM, OTHERS, PUBLISHED = "#1f5fa8", "#c0392b", "#7f8c8d", "#d98e04"

Rows = list[dict[str, str]]


def tables(page: str) -> list[Rows]:
    """Every table of a page of results, each row by the names of the columns."""
    found: list[Rows] = []
    header: list[str] = []
    for line in (DOCS / "results" / page).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [plain(cell) for cell in line.strip().strip("|").split("|")]
        if not header:
            header = cells
            found.append([])
        elif not set("".join(cells)) <= set(":- "):
            found[-1].append(dict(zip(header, cells, strict=True)))
    return found


def with_columns(page: str, *columns: str) -> list[Rows]:
    """The tables of a page that have all of some columns."""
    return [rows for rows in tables(page) if rows and set(columns) <= set(rows[0])]


def plain(cell: str) -> str:
    """A cell without its markup."""
    return re.sub(r"</?u>|\*\*|`|†", "", cell).strip()


def numbers(text: str) -> list[float]:
    """All numbers of a cell."""
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", text)]


def ranked(axes: Axes, rows: Rows, column: str, title: str) -> None:
    """A bar for each sampler, the best on top, with the spread over the seeds if there are some."""
    found = [(row["sampler"], numbers(row[column])) for row in rows]
    samplers = [each for each in found if each[0] not in ("improvement, %", "p-value")]
    samplers.sort(key=lambda each: each[1][0])
    uniform = dict(samplers)["rns"][0]
    for place, (name, (mean, *spread)) in enumerate(samplers):
        is_uniform = name == "rns"
        axes.barh(place, mean, color=UNIFORM if is_uniform else OURS, alpha=0.85)
        if spread:
            axes.errorbar(mean, place, xerr=spread[0], color="black", capsize=2, lw=1)
        text = "uniform" if is_uniform else f"{mean / uniform - 1:+.0%}"
        axes.text(mean + sum(spread[:1]), place, f" {text}", va="center", fontsize=7)
    axes.axvline(uniform, color=UNIFORM, lw=0.8, ls=":")
    axes.set_yticks(range(len(samplers)), [name for name, _ in samplers], fontsize=8)
    axes.set_ylim(-0.7, len(samplers) - 0.3)
    axes.set_xlim(0, 1.2 * samplers[-1][1][0])
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(column.upper())


def gain() -> Figure:
    """What the samplers give over RecBole's uniform negatives."""
    with_seeds, one_seed = with_columns("comparison.md", "sampler")[:2]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 5))
    ranked(left, with_seeds, "ndcg@10", "BPR on ml-100k, five seeds")
    ranked(right, one_seed, "ndcg@20", "LightGCN on Amazon Phones, one seed")
    return figure


def reproduction() -> Figure:
    """How far each row is from the published one, of which there may be two."""
    papers = {
        "AHNS paper": ("NDCG@20", ("row", "NDCG@20", "NDCG@50", "published"), slice(1, 2)),
        "HNS paper": ("NDCG@50", ("row", "NDCG@50", "Recall@50", "published"), slice(None)),
        "IR-Benchmark and BSL": ("NDCG@20", ("row", "NDCG@20", "published", "epoch"), slice(1, 2)),
    }
    found = {
        f"{paper}, {metric}": [
            (row["row"], numbers(row[metric])[0], row["published"].split("/")[place])
            for rows in with_columns("reproduction.md", *columns)
            for row in rows
        ]
        for paper, (metric, columns, place) in papers.items()
    }
    figure, places = plt.subplots(
        len(found), 1, sharex=True, figsize=(8, 7.5), height_ratios=list(map(len, found.values()))
    )
    for axes, (title, rows) in zip(places, found.items(), strict=True):
        for place, (_, value, published) in enumerate(reversed(rows)):
            # before the slash the metric; two of it are a range
            differences = [100 * (value / other - 1) for other in numbers(published[0])]
            axes.plot(differences, [place] * len(differences), "o-", color=OURS, ms=5, lw=2)
        axes.axvline(0, color=PUBLISHED, lw=1.5)
        axes.set_yticks(range(len(rows)), [name for name, *_ in reversed(rows)], fontsize=8)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    places[-1].set_xlabel("difference to the published value, % (0: the same; two points: a range)")
    return figure


def alternatives() -> Figure:
    """The recommended settings beside what a user might take instead, from 0."""
    rows, *_ = with_columns("recommended.md", "data", "model", "NDCG@20", "memory, MiB")
    data = ""
    groups: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        data = row["data"] or data
        groups.setdefault(data, []).append((row["model"], numbers(row["NDCG@20"])[0]))
    figure, places = plt.subplots(
        len(groups), 1, figsize=(8, 5.5), height_ratios=[len(rows) for rows in groups.values()]
    )
    for axes, (title, models) in zip(places, groups.items(), strict=True):
        for place, (name, value) in enumerate(reversed(models)):
            other = name.startswith(("ALS", "EASE"))
            axes.barh(place, value, color=OTHERS if other else OURS)
            axes.text(value, place, f" {value:.4f}", va="center", fontsize=8)
        names = [name.replace("the same", "LightGCN, 3 layers") for name, _ in reversed(models)]
        axes.set_yticks(range(len(models)), names, fontsize=8)
        axes.set_xlim(0, 1.12 * max(value for _, value in models))
        axes.set_title(f"{title}, NDCG@20", fontsize=10)
    return figure


def seconds() -> Figure:
    """Seconds per epoch of each sampler."""
    rows, *_ = with_columns("benchmark.md", "training", "N", "seconds per epoch", "/ dns")
    found = sorted(((row["training"], numbers(row["seconds per epoch"])[0]) for row in rows),
                   key=lambda each: -each[1])  # fmt: skip
    figure, axes = plt.subplots(figsize=(8, 5))
    for place, (name, value) in enumerate(found):
        color = UNIFORM if name.startswith("RecBole") else OURS
        axes.plot(value, place, "o", color=color)
        axes.text(value * 1.1, place, f"{value:g}", va="center", fontsize=8)
    axes.axvline(dict(found)["RecBole, BPR, uniform"], color=UNIFORM, lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xlim(0.2, 30)
    axes.set_xticks([0.2, 0.5, 1, 2, 5, 10, 20], ["0.2", "0.5", "1", "2", "5", "10", "20"])
    axes.set_yticks(range(len(found)), [name for name, _ in found], fontsize=8)
    axes.set_xlabel("seconds per epoch (logarithmic)")
    axes.grid(axis="x", alpha=0.3)
    return figure


def catalogue() -> Figure:
    """Seconds per million interactions of each learner against the number of items."""
    rows, *_ = with_columns("benchmark.md", "users, items, interactions", "sparse_adam")
    items = [numbers(row["users, items, interactions"].split(", ")[1])[0] for row in rows]
    figure, axes = plt.subplots(figsize=(8, 4))
    styles = {"Adam of all rows": UNIFORM, "adam": OTHERS, "sparse_adam": OURS}
    for learner, color in {**styles, "rowwise_adagrad": PUBLISHED}.items():
        axes.plot(items, [numbers(row[learner])[0] for row in rows], "o-", color=color)
        axes.text(items[-1] * 1.1, numbers(rows[-1][learner])[0], learner, va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(items, [f"{number:,.0f}" for number in items], minor=False)
    axes.set_xlim(items[0] / 1.3, items[-1] * 3)
    axes.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
    axes.minorticks_off()
    axes.set_xlabel("items, with twice as many users (logarithmic)")
    axes.set_ylabel("seconds per million interactions")
    axes.grid(alpha=0.3)
    return figure


def searches() -> Figure:
    """The best so far of each search, as a part of what the data set's own recipe comes to."""
    found = pd.read_csv(DOCS / "results/search.csv")
    figure, places = plt.subplots(1, found["dataset"].nunique(), figsize=(9, 3.5), squeeze=False)
    colors = {"joint": OURS, "random": UNIFORM, "grid": OTHERS}
    for axes, (name, of_data) in zip(places[0], found.groupby("dataset"), strict=True):
        recipe = of_data[of_data["method"] == "recipe"].groupby("seed")["best"].max()
        for method, color in colors.items():
            for seed, curve in of_data[of_data["method"] == method].groupby("seed"):
                part = curve["best"] / recipe[seed]
                axes.step(curve["cpu_seconds"] / 60, part, where="post", color=color)
        axes.axhline(1, color=PUBLISHED, lw=1, ls=":")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("CPU minutes")
        axes.set_ylim(0.6, 1.05)
        axes.grid(alpha=0.3)
    places[0][0].set_ylabel("validation NDCG@20 / the recipe's")
    handles = [Line2D([], [], color=color, label=method) for method, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def main() -> None:
    """Draw all."""
    # the same file from the same table
    mpl.rcParams.update({"svg.hashsalt": "recbole-hns", "figure.constrained_layout.use": True})
    for draw in (gain, reproduction, alternatives, seconds, catalogue, searches):
        figure = draw()
        figure.savefig(DOCS / "images" / f"{draw.__name__}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
