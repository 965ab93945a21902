"""Data sets, their split and loaders, and the pool that candidates are drawn from."""

import recbole_hns.compat  # noqa: F401
from recbole_hns.data.pool import NegativePool
from recbole_hns.data.preparation import (
    Split,
    create_dataset,
    data_loaders,
    data_preparation,
    split_dataset,
)

__all__ = [
    "NegativePool",
    "Split",
    "create_dataset",
    "data_loaders",
    "data_preparation",
    "split_dataset",
]
