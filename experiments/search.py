"""How fast a search finds a recipe: the joint search, random search and the grid on one data set.

``python experiments/search.py --help`` lists the options.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import psutil
from pydantic import Field, NonNegativeInt, PositiveFloat
from tabulate import tabulate

from recbole_hns.cli import run_command
from recbole_hns.cli.options import Command, Given, options
from recbole_hns.errors import JobError, UserError
from recbole_hns.files import properties_path, replace_file, writable_directory

Seeds = Annotated[list[NonNegativeInt], Field(min_length=1)]

#: What is called: ``recbole-hns``, which does not have the recipes of the data set.
PROGRAM = [sys.executable, str(Path(__file__).with_name("unseen.py"))]

#: Every search, by the options that make ``tune`` it. What is random has no end of its own.
METHODS = {
    "joint": ["--trials=100000"],
    "random": [
        "--model=LightGCN",
        "--sampler=dns_mn",
        f"--params={Path(__file__).parent / 'search_random.yaml'}",
        "--num_samples=1000",
        "--scheduler=asha",
    ],
    "grid": ["--sampler=dns_mn"],
}

#: What all have alike, one trial at a time, so that its CPU is what the budget counts.
ALIKE = {
    "epochs": "60",
    "eval_step": "2",
    "stopping_step": "3",
    "topk": "20",
    "metrics": "['Recall','NDCG']",
    "valid_metric": "NDCG@20",
    "show_progress": "False",
}

#: Seconds between two looks at what has been spent and found.
LOOK = 2.0

OPTIONS = options(
    dataset=(str, Field("ml-100k", min_length=1, description="data set, as in recbole-hns run")),
    budget=(PositiveFloat, Field(60.0, description="CPU minutes of each search")),
    seeds=(Seeds | NonNegativeInt, Field([1, 2, 3], description="of split, draws and search")),
    recipe=(
        str | None,
        Field(None, description="recommended recipe to compare with; unset is the data set's"),
    ),
    output=(str, Field("searches", min_length=1, description="directory for all that it leaves")),
)

HELP = """\
Run `recbole-hns tune` one search after the other: the joint search, random search (of DNS(M,N) on
LightGCN, which it is favoured by) and the grid that comes with DNS(M,N), each for every seed, until
it has used its CPU minutes, those of all its processes. The joint search starts from the recipes of
other data sets only; the recommended one of the data set is trained once a seed. Writes table.md
and curves.csv, the best validation NDCG@20 so far over CPU seconds, after each. Called again, it
goes on with what is missing; a search that was interrupted is resumed. --KEY=VALUE is a key of the
config for all.
"""


def run(given: Given) -> None:
    """Do what is not done, and write the table and the curves after each."""
    values = given.values
    seeds = [values["seeds"]] if isinstance(values["seeds"], int) else values["seeds"]
    output = writable_directory("output", values["output"])
    keys = {"dataset": values["dataset"], **ALIKE, **given.keys}
    # another budget or key would mix what cannot be compared
    asked = {"budget": values["budget"], "recipe": values["recipe"], "keys": keys}
    record = output / "asked.json"
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) != asked:
        allowed = "was made with other options; name another directory"
        raise UserError.of("output", values["output"], allowed)
    name = values["recipe"] or values["dataset"]
    recipe = properties_path(f"recommended/{name}.yaml")
    if values["recipe"] is not None and not recipe.is_file():
        known = ", ".join(sorted(path.stem for path in recipe.parent.glob("*.yaml")))
        raise UserError.of("recipe", name, f"must be one of {known}")
    write_json(record, asked)
    methods = ["recipe", *METHODS] if recipe.is_file() else [*METHODS]
    entries = [(method, seed) for seed in seeds for method in methods]
    for method, seed in entries:
        folder = output / f"{method}-{seed}"
        if not (folder / "entry.json").exists():
            arguments = [f"--{key}={value}" for key, value in {**keys, "seed": seed}.items()]
            if method == "recipe":
                command, limit = ["run", f"--config_files={recipe}"], None
            else:
                command, limit = ["tune", *METHODS[method]], 60 * values["budget"]
            search([keys["dataset"], *command, *arguments], folder, limit)
        write(output, entries)
    print((output / "table.md").read_text(encoding="utf-8"), end="")


def search(arguments: list[str], folder: Path, limit: float | None) -> None:
    """Run a command until it ends or has used its CPU seconds, and leave its curve and its entry.

    Args:
        arguments: of ``unseen.py``.
        folder: of what it leaves; a search that is there is resumed.
        limit: CPU seconds; None for none.

    Raises:
        JobError: if it fails, or no trial has come to a validation score.
    """
    resumed = any(folder.glob("files/*.yaml"))
    if not resumed:
        shutil.rmtree(folder, ignore_errors=True)
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    where = "checkpoint_dir" if limit is None else "output"
    command = [*PROGRAM, *arguments, f"--{where}={files}"]
    if limit is not None:
        command += ["--max_concurrent=1", *(["--resume"] if resumed else [])]
    curve = Curve(folder / "curve.csv")
    seconds = curve.seconds
    if limit is None or seconds < limit:
        seconds = watch(command, folder, curve, limit)
    found = scores(files)
    if not found:
        raise JobError(f"no trial of {folder.name} was evaluated: see {folder / 'log.txt'}")
    entry = {"trials": len(found), "best": max(found), "cpu_seconds": seconds}
    write_json(folder / "entry.json", entry)


def watch(command: list[str], folder: Path, curve: Curve, limit: float | None) -> float:
    """Run a command as :func:`search`; returns the CPU seconds with those before it."""
    files = folder / "files"
    with (folder / "log.txt").open("a") as log:
        # beside other work, trials would hardly go on with Ray's own niceness of 15
        environment = {**os.environ, "RAY_worker_niceness": "0"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        spent = Spent(process.pid, curve.seconds)
        try:
            while process.poll() is None and (limit is None or spent.seconds() < limit):
                curve.add(spent.seconds(), scores(files))
                time.sleep(LOOK)
        finally:
            status = process.poll()
            process.terminate()
            process.wait()
    if status:
        raise JobError(f"{folder.name} ended with exit status {status}: see {folder / 'log.txt'}")
    curve.add(spent.seconds(), scores(files))
    return spent.seconds()


class Spent:
    """CPU seconds of a process and all that it has started.

    Args:
        pid: of the process.
        before: what was spent before it.
    """

    def __init__(self, pid: int, before: float) -> None:
        self._process, self._before = psutil.Process(pid), before
        self._of: dict[psutil.Process, float] = {}

    def seconds(self) -> float:
        """So far; of a process that has ended, what it had when last seen."""
        try:
            for each in (self._process, *self._process.children(recursive=True)):
                times = each.cpu_times()
                self._of[each] = times.user + times.system
        except psutil.NoSuchProcess:
            pass
        return self._before + sum(self._of.values())


class Curve:
    """The best so far over CPU seconds, in a file.

    Args:
        path: the file; with what it holds a search goes on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = pd.read_csv(path).to_dict("records") if path.exists() else []

    @property
    def seconds(self) -> float:
        """The last that it knows."""
        return self._rows[-1]["cpu_seconds"] if self._rows else 0.0

    def add(self, seconds: float, found: Sequence[float]) -> None:
        """A point, with the scores of the trials."""
        if found:
            self._rows.append({"cpu_seconds": round(seconds, 1), "best": max(found)})
            content = pd.DataFrame(self._rows).to_csv(index=False).encode()
            replace_file(self._path, lambda file: file.write(content))


def scores(files: Path) -> list[float]:
    """The best validation score of each result file, those of trials at work too."""
    paths = [*files.glob("*.json"), *files.glob("trials/*.json")]
    read = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [each["best_valid_score"] for each in read if each.get("best_valid_score") is not None]


def write(output: Path, entries: Sequence[tuple[str, int]]) -> None:
    """Write the table and the curves of the entries that are done."""
    done = {
        (method, seed): json.loads((output / f"{method}-{seed}/entry.json").read_text("utf-8"))
        for method, seed in entries
        if (output / f"{method}-{seed}/entry.json").exists()
    }
    table, curves = markdown(done), []
    for method, seed in done:
        curve = pd.read_csv(output / f"{method}-{seed}/curve.csv")
        # where it has grown, and where it ends
        points = pd.concat([curve.drop_duplicates("best"), curve.tail(1)]).drop_duplicates()
        curves.append(points.assign(method=method, seed=seed))
    content = pd.concat(curves)[["method", "seed", "cpu_seconds", "best"]].to_csv(index=False)
    replace_file(output / "table.md", lambda file: file.write(table.encode()))
    replace_file(output / "curves.csv", lambda file: file.write(content.encode()))


def markdown(done: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    """A table of the entries."""
    rows = []
    for (method, seed), entry in done.items():
        recipe = done.get(("recipe", seed))
        part = "-" if recipe is None else f"{entry['best'] / recipe['best']:.3f}"
        row = {"method": method, "seed": seed, "trials": entry["trials"]}
        row["valid NDCG@20"] = f"{entry['best']:.4f}"
        rows.append({**row, "of the recipe's": part, "CPU s": f"{entry['cpu_seconds']:.0f}"})
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True) + "\n"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file."""
    replace_file(path, lambda file: file.write(json.dumps(content, indent=1).encode() + b"\n"))


COMMAND = Command(
    "search",
    run,
    "[--OPTION=VALUE ...] [--KEY=VALUE ...]",
    HELP,
    {"Options": OPTIONS},
    takes_keys=True,
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return run_command(COMMAND, list(arguments), "search")


if __name__ == "__main__":
    # as Ctrl-C, which ends what was called, too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
