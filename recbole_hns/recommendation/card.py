"""The model card of an export, from the run's result file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from recbole_hns.config.keys import key_of
from recbole_hns.protocol import protocol_note
from recbole_hns.recommendation.result import RunResult
from recbole_hns.results import read_run, versions

if TYPE_CHECKING:
    from recbole_hns.config import Config

CARD = """\
# {model} on {dataset}

{model}, trained with the sampler `{sampler}` and the loss `{loss}` by recbole-hns and exported on
{date}. It ranks {items} items for {users} users, by the {similarity} of vectors of {dim}
dimensions.

## Data

{data}

What a user knows, and lists leave out, is from all parts of the data.

## Training

{epochs}

{settings}

## Results

{results}

## Use

```python
from recbole_hns.serving import Recommender

model = Recommender.load("DIRECTORY")
model.recommend({user}, k=10)  # names and scores, the best first
model.recommend_from([{item}], k=10)  # a new user, by the items they know
model.similar({item}, k=10)
```

It needs NumPy and pyarrow. The score of an item for a user is the inner product of a row of
`user_vectors.npy` and one of `item_vectors.npy`, in the order of the names in `users.parquet` and
`items.parquet`. The items that the user of row r knows are the rows
`known_item[known_offset[r]:known_offset[r + 1]]`.
{index}
## Limits

- Items that came after the training are in no list; users that came after it have one only by
  `recommend_from`.
- A score compares items for one user. It is no probability.
{limits}"""

INDEX = """
`items.faiss` is an HNSW index of the items by inner product; its numbers are their rows.
"""


def model_card(result: RunResult, index: bool) -> str:
    """The card of a run with a checkpoint, in Markdown.

    Args:
        result: of the run; without its result file there is no test result to tell.
        index: whether the export has an index.
    """
    config, lists, dataset = result.config, result.lists, result.dataset
    assert lists.vectors is not None
    users, items, interactions = lists.user_num - 1, lists.item_num - 1, len(lists.known.pair)
    untrained = lists.untrained()
    run = None if result.result_file is None else read_run(result.result_file)
    data = [
        ("users", f"{users:,}"),
        ("items", f"{items:,}"),
        ("pairs of a user and a known item", f"{interactions:,}"),
        ("split", config["data_split"]),
        ("of all pairs", f"{interactions / users / items:.3%}"),
        ("users without an interaction in the training part", f"{untrained:,}"),
    ]
    found = (run and run.versions) or versions()
    settings = [(key, config[key]) for key in _chosen(config)]
    settings += [(f"{package}, version", number) for package, number in found.items()]
    return CARD.format(
        model=config["model"],
        dataset=config["dataset"],
        sampler=config["sampler"],
        loss=config["loss"],
        date=date.today().isoformat(),
        users=f"{users:,}",
        items=f"{items:,}",
        similarity="cosine" if config["eval_similarity"] == "cosine" else "inner product",
        dim=lists.vectors[1].shape[1],
        data=_table(["", ""], data),
        epochs=_epochs(result),
        settings=_table(["key", "value"], settings),
        results=_results(result),
        user=_quoted(dataset.id2token(dataset.uid_field, 1)),
        item=_quoted(dataset.id2token(dataset.iid_field, 1)),
        index=INDEX if index else "",
        limits=f"- The vectors of {untrained} users were never trained.\n" if untrained else "",
    )


def _chosen(config: Config) -> list[str]:
    """What was trained, and the keys that differ from their defaults, but for where it ran."""
    own = {**config.sampler.hyperparameters, **config.loss.hyperparameters}
    given, defaults = config.external_config_dict, config.internal_config_dict
    other = [
        key
        for key in given
        if key_of(key).names_runs
        and not key_of(key).derived
        and _spelt(config[key]) != _spelt(defaults.get(key))
    ]
    return list(dict.fromkeys(["model", "sampler", *own, "loss", "similarity", "epochs", *other]))


def _spelt(value: Any) -> Any:
    """``eval_args`` as RecBole spells out its mode in a config; another value as it is."""
    mode = value.get("mode") if isinstance(value, dict) else None
    return {**value, "mode": {"valid": mode, "test": mode}} if isinstance(mode, str) else value


def _quoted(name: Any) -> str:
    return json.dumps(str(name), ensure_ascii=False)


def _epochs(result: RunResult) -> str:
    trained = len(result.epochs)
    seconds = sum(epoch.get("train_seconds") or 0.0 for epoch in result.epochs)
    chosen = result.best_epoch
    if result["best_valid_result"] is None:
        return f"{trained} epochs in {seconds:.0f} s; the model is that of the last."
    return (
        f"{trained} epochs in {seconds:.0f} s; the model is that after epoch {chosen}, where "
        f"{result.config['valid_metric']} was best in validation."
    )


def _results(result: RunResult) -> str:
    valid, test = result["best_valid_result"] or {}, result.metrics
    note = protocol_note(result.config["protocol"], bool(valid))
    rows = [[key, valid.get(key), test.get(key)] for key in {**valid, **test}]
    told = [_table(["metric", "valid", "test"], rows, ".4f")] if rows else []
    return "\n\n".join([*told, *([f"{note[0].upper()}{note[1:]}."] if note else [])])


def _table(headers: list[str], rows: Iterable[Any], floatfmt: str = "g") -> str:
    return tabulate(
        list(rows), headers, tablefmt="github", floatfmt=floatfmt, missingval="-",
        disable_numparse=floatfmt == "g",
    )  # fmt: skip
