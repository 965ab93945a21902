"""RecBole 1.2.1 made to work with today's libraries.

What newer releases took away is listed here, each with the versions it concerns. Names are put back
only where they are missing; the rest changes RecBole in this process. ``import recbole_hns`` calls
:func:`mend` once; doing so again changes nothing.

==================  =====================================================================
NumPy >= 2          ``np.float_``, ``np.complex_``, ``np.unicode_`` are gone;
                    ``Config.compatibility_settings`` reads them.
SciPy >= 1.13       ``dok_matrix._update`` is gone; LightGCN, NGCF, NCL, SpectralCF and
                    GCMC build their graph with it.
PyTorch >= 2.6      ``torch.load`` admits plain data only, and RecBole's checkpoints pickle
                    the whole ``Config``: ``Trainer.evaluate`` cannot load its own
                    checkpoint. RecBole's trainers write them as plain data instead, from
                    which its trainers evaluate and resume.
any PyTorch         ``Dataset._download`` ends in ``torch.distributed.barrier()``, which
                    raises where no process group exists: always, in a run of one process.
pandas 2            warns of what pandas 3 will change at every data set that RecBole reads,
PyTorch             and warns that sparse CSR tensors are new; nothing a user could act on,
                    so neither is shown.
==================  =====================================================================
"""

from __future__ import annotations

import functools
import warnings

import numpy as np
import torch
from scipy.sparse import dok_matrix


def mend() -> None:
    """Put back what RecBole 1.2.1 needs and the installed libraries lack."""
    _numpy_names()
    _scipy_dok_update()
    _plain_checkpoints()
    _download_without_process_group()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


def _numpy_names() -> None:
    for name, type_ in (
        ("float_", np.float64),
        ("complex_", np.complex128),
        ("unicode_", np.str_),
    ):
        # `hasattr` warns on names that NumPy 1.26 deprecates; `__dict__` does not.
        if name not in np.__dict__:
            setattr(np, name, type_)


def _scipy_dok_update() -> None:
    if not hasattr(dok_matrix, "_update"):

        def update(self: dok_matrix, data: dict) -> None:
            self._dict.update(data)

        dok_matrix._update = update


def _plain_checkpoints() -> None:
    from recbole.model.abstract_recommender import AbstractRecommender
    from recbole.trainer import Trainer

    from recbole_hns.checkpoint import decoded, save_recbole_checkpoint

    Trainer._save_checkpoint = save_recbole_checkpoint
    load = AbstractRecommender.load_other_parameter
    if hasattr(load, "__wrapped__"):
        return

    @functools.wraps(load)
    def load_other_parameter(self: AbstractRecommender, para: dict | None) -> None:
        load(self, {key: decoded(value) for key, value in (para or {}).items()})

    AbstractRecommender.load_other_parameter = load_other_parameter


def _download_without_process_group() -> None:
    from recbole.data.dataset import Dataset

    download = Dataset._download
    if hasattr(download, "__wrapped__"):
        return

    @functools.wraps(download)
    def _download(self: Dataset) -> None:
        try:
            download(self)
        except ValueError as error:
            # The barrier is the last statement, so by then the data set is there.
            if torch.distributed.is_initialized() or "process group" not in str(error):
                raise

    Dataset._download = _download
