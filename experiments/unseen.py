"""``python unseen.py DATASET tune ...`` is ``recbole-hns tune ...`` without the data set's recipes.

So a search starts from what was found on other data, as on a data set that nobody has seen, and
from one recipe of each kind all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_hns.cli import main as recbole_hns
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.files import properties_path
from recbole_hns.tuning import joint

#: SL@20, of which there is one recommended recipe only, on another data set. It comes after the
#: others, so that it is used where that one is taken away.
SL_AT_K = ("paper/sl_at_k/common.yaml", "paper/sl_at_k/gowalla-ir-mf-sl_at_k.yaml")


def forget(dataset: str) -> None:
    """Take the recipes of a data set out of those that a search starts from."""
    known = [*joint.recipe_files(), [*map(properties_path, SL_AT_K)]]
    files = [recipe for recipe in known if not is_of(recipe, dataset)]
    joint.recipe_files = lambda: files


def is_of(recipe: Sequence[Path], dataset: str) -> bool:
    """Whether one of the files of a recipe names the data set or, as gowalla-ir, a split of it."""
    names = [read_yaml(path).get("dataset") for path in recipe]
    pairs = [(f"{name}-", f"{dataset}-") for name in names if name is not None]
    return any(one.startswith(other) or other.startswith(one) for one, other in pairs)


if __name__ == "__main__":
    forget(sys.argv[1])
    sys.exit(recbole_hns(sys.argv[2:]))
