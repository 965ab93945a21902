"""Tables of a benchmark, in Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from tabulate import tabulate

from recbole_hns.benchmark.entries import recbole_label
from recbole_hns.benchmark.timing import STAGES
from recbole_hns.files import replace_file
from recbole_hns.protocol import PAPER_NOTE
from recbole_hns.results import versions

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

    from recbole_hns.benchmark.entries import Entry
    from recbole_hns.benchmark.startup import Start
    from recbole_hns.benchmark.timing import Timing
    from recbole_hns.benchmark.until import Curve
    from recbole_hns.config import Config

#: Columns of ratios: seconds over those of RecBole's uniform training, and of its ``dynamic``
#: training with as many candidates.
RATIOS = {"to_uniform": "/ uniform", "to_dynamic": "/ dynamic, same N"}

#: Titles of the columns that Markdown shows, in their order.
TITLES = {
    "entry": "training",
    "reached": "reached",
    "epochs": "epochs",
    "seconds": "seconds",
    "fastest": "fastest",
    "slowest": "slowest",
    "train_seconds": "training seconds",
    **RATIOS,
    "eval_seconds": "evaluation seconds",
    "last_value": "last value",
    "peak_memory_mib": "peak memory, MiB",
    **{stage: stage.replace("_", " ") for stage in STAGES},
    "score_gb_per_second": "score, GB/s",
}


def environment(config: Config, dataset: Dataset | None = None) -> dict[str, Any]:
    """What a time depends on, whichever entry it is of; RecBole's padding ids do not count."""
    device = config["device"]
    on_gpu = device.type == "cuda"
    facts = {key: config[key] for key in ("model", "dataset", "data_split")}
    if dataset is not None:
        facts.update(users=dataset.user_num - 1, items=dataset.item_num - 1)
    for key in ("embedding_size", "n_layers", "train_batch_size", "seed"):
        # a shared file may set what this model has not
        if key in config.internal_config_dict:
            facts[key] = config[key]
    if config["protocol"] == "paper":
        facts["note"] = PAPER_NOTE
    facts["device"] = torch.cuda.get_device_name(device) if on_gpu else "cpu"
    facts["threads"] = torch.get_num_threads()
    facts.update(versions())
    if on_gpu:
        facts["cuda"] = torch.version.cuda
    return {key: value for key, value in facts.items() if value is not None}


def timing_table(timings: Sequence[Timing]) -> pd.DataFrame:
    """One row an entry: seconds per epoch, ratios to RecBole's, memory, and seconds per stage."""
    medians = {timing.entry.label: timing.median for timing in timings}
    return pd.DataFrame(
        [
            {
                **_named(timing.entry),
                **_spread(timing.median, timing.seconds),
                **_ratios(timing.entry, medians),
                "peak_memory_mib": timing.peak_memory / 2**20,
                **{stage: timing.stages.get(stage) for stage in STAGES},
                "score_gb_per_second": timing.score_rate and timing.score_rate / 1e9,
            }
            for timing in timings
        ]
    )


def startup_table(starts: Sequence[Start]) -> pd.DataFrame:
    """One row an entry: seconds to the first step, and ratios to RecBole's."""
    medians = {start.entry.label: start.median for start in starts}
    return pd.DataFrame(
        [
            {
                **_named(start.entry),
                **_spread(start.median, start.seconds),
                **_ratios(start.entry, medians),
            }
            for start in starts
        ]
    )


def until_table(curves: Sequence[Curve]) -> pd.DataFrame:
    """One row an entry: whether the target was reached, what it took, and ratios to RecBole's."""
    reached = {curve.entry.label: curve.train_seconds[-1] for curve in curves if curve.reached}
    return pd.DataFrame(
        [
            {
                **_named(curve.entry),
                "reached": curve.reached,
                "epochs": curve.epochs[-1],
                "train_seconds": curve.train_seconds[-1],
                **_ratios(curve.entry, reached),
                "eval_seconds": curve.eval_seconds,
                "last_value": curve.values[-1],
            }
            for curve in curves
        ]
    )


def curves_table(curves: Sequence[Curve]) -> pd.DataFrame:
    """One row an evaluation."""
    rows = [
        (curve.entry.label, *point)
        for curve in curves
        for point in zip(curve.epochs, curve.train_seconds, curve.values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["entry", "epoch", "train_seconds", "value"])


def markdown(title: str, facts: Mapping[str, Any], table: pd.DataFrame) -> str:
    """A page: title, facts, the table, and the stages where it has them."""
    blocks = [f"# {title}", tabulate(facts.items(), headers=["", ""], tablefmt="github")]
    of_stages = [*STAGES, "score_gb_per_second"]
    shown = [column for column in TITLES if column in table and column not in of_stages]
    blocks.append(_github(table[shown]))
    if STAGES[0] in table:
        timed = table.dropna(subset=STAGES[0]).set_index("entry")
        stages = timed[list(STAGES)]
        total = stages.sum(axis=1)
        share = stages.div(total, axis=0).mul(100).round().astype(int)
        blocks += [
            "Seconds per stage, in one epoch more, in which every stage was timed:",
            _github(stages.assign(total=total, **timed[of_stages[-1:]]).reset_index()),
            "The same in per cent:",
            _github(share.reset_index()),
        ]
    return "\n\n".join(blocks) + "\n"


def write_csv(table: pd.DataFrame, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Replace a CSV file; facts become columns, so that tables of several runs can be joined."""
    facts = {key: value for key, value in (facts or {}).items() if key not in table}
    content = table.assign(**facts).to_csv(index=False).encode()
    replace_file(path, lambda file: file.write(content))


def _named(entry: Entry) -> dict[str, Any]:
    return {"entry": entry.label, "candidate_num": entry.candidate_num}


def _spread(median: float, seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "seconds": median,
        "fastest": min(seconds),
        "slowest": max(seconds),
        "rounds": len(seconds),
    }


def _ratios(entry: Entry, seconds: Mapping[str, float]) -> dict[str, float | None]:
    """The two ratios; None where one of the two did not get there or is no part of the run."""
    own = seconds.get(entry.label)
    uniform = seconds.get(recbole_label(None))
    dynamic = None
    if isinstance(entry.candidate_num, int):
        dynamic = seconds.get(recbole_label(entry.candidate_num))
    found = zip(RATIOS, (uniform, dynamic), strict=True)
    return {key: own / base if own and base else None for key, base in found}


def _github(table: pd.DataFrame) -> str:
    """Numbers with three significant digits, a dash where there is none."""
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    headers = [TITLES.get(column, column) for column in table]
    align = ["left", *["right"] * (table.shape[1] - 1)]
    return tabulate(rows, headers=headers, tablefmt="github", colalign=align, disable_numparse=True)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        if value != value:
            return "-"
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if value is None:
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
