"""RecBole 1.2.1 made to work with today's libraries.

What newer releases took away is listed here, each with the versions it concerns. Names are put back
only where they are missing; the rest changes RecBole in this process. Importing this module calls
:func:`mend`, and what uses RecBole in this package imports it; calling it again changes nothing.

==================  =====================================================================
NumPy >= 2          ``np.float_``, ``np.complex_``, ``np.unicode_`` are gone;
                    ``Config.compatibility_settings`` reads them.
SciPy >= 1.13       ``dok_matrix._update`` is gone; LightGCN, NGCF, NCL, SpectralCF and
                    GCMC build their graph with it.
PyTorch >= 2.6      ``torch.load`` admits plain data only, and RecBole's checkpoints pickle
                    the whole ``Config``: ``Trainer.evaluate`` cannot load its own
                    checkpoint. RecBole's trainers write them as plain data instead, from
                    which its trainers evaluate and resume. RecBole's
                    ``load_data_and_model`` would need a ``Config`` in the file, and says
                    what to call in its place.
any PyTorch         ``Dataset._download`` ends in ``torch.distributed.barrier()``, which
                    raises where no process group exists: always, in a run of one process.
any PyTorch         the file of RecBole's SINE switches anomaly detection on when it is
                    imported, which makes every model slow; :func:`anomaly_detection_kept`.
pandas 2            warns of what pandas 3 will change at every data set that RecBole reads,
PyTorch             and warns that sparse CSR tensors are new; nothing a user could act on,
                    so neither is shown.
pandas >= 3         ``frame[column].fillna(..., inplace=True)`` fills a copy, so that
                    RecBole's missing values stay missing; strings are a type of their own;
                    ``series.agg(len)`` is the series' length, not its values'. Values are
                    filled before RecBole tries, strings read as objects, and the ``len`` of
                    RecBole's data sets gives the lengths of a series' values.
==================  =====================================================================
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scipy.sparse import dok_matrix

from recbole_hns.errors import UserError
from recbole_hns.files import plain, replace_file

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender
    from recbole.trainer import Trainer


@contextmanager
def anomaly_detection_kept() -> Iterator[None]:
    """Import RecBole's models inside, and autograd's anomaly detection stays as it was."""
    before = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(before)


def mend() -> None:
    """Put back what RecBole 1.2.1 needs and the installed libraries lack."""
    _numpy_names()
    _scipy_dok_update()
    _plain_checkpoints()
    _loggers_of_configs()
    _download_without_process_group()
    _data_of_pandas_3()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
    chained = pd.errors.ChainedAssignmentError
    warnings.filterwarnings("ignore", category=chained, module=r"recbole\.")
    # a column's values, of which pandas 3 makes no copy
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")


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

    Trainer._save_checkpoint = save_recbole_checkpoint
    load = AbstractRecommender.load_other_parameter
    if hasattr(load, "__wrapped__"):
        return

    @functools.wraps(load)
    def load_other_parameter(self: AbstractRecommender, para: dict | None) -> None:
        load(self, {key: decoded(value) for key, value in (para or {}).items()})

    AbstractRecommender.load_other_parameter = load_other_parameter


def _loggers_of_configs() -> None:
    """Say what to call where RecBole's ``load_data_and_model`` has read plain data.

    It gives the config of the file to ``init_logger`` first. Itself it cannot be replaced before
    someone imports ``recbole.quick_start``, which imports Ray.
    """
    import recbole.utils
    import recbole.utils.logger

    init_logger = recbole.utils.init_logger
    if hasattr(init_logger, "__wrapped__"):
        return

    @functools.wraps(init_logger)
    def init_logger_of_a_config(config: Any) -> None:
        if isinstance(config, dict):
            instead = (
                "call recbole_hns.load_data_and_model, which reads it"
                if "sampler" in config
                else "make the config, the data and the model as for training, and call "
                "Trainer.evaluate(test_data, model_file=...) or Trainer.resume_checkpoint"
            )
            raise UserError(
                "load_data_and_model of RecBole cannot read this checkpoint, whose config is "
                f"plain data: {instead}"
            )
        init_logger(config)

    for name in ("recbole.utils", "recbole.utils.logger", "recbole.quick_start.quick_start"):
        if name in sys.modules:
            sys.modules[name].init_logger = init_logger_of_a_config  # type: ignore[attr-defined]


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


def _data_of_pandas_3() -> None:
    import recbole.data.dataset.dataset as recbole_dataset
    from recbole.data.dataset import kg_dataset, sequential_dataset
    from recbole.utils import FeatureType

    fill = recbole_dataset.Dataset._fill_nan
    if int(pd.__version__.split(".")[0]) < 3 or hasattr(fill, "__wrapped__"):
        return

    @functools.wraps(fill)
    def _fill_nan(self: recbole_dataset.Dataset) -> None:
        for name in self.feat_name_list:
            feat = getattr(self, name)
            for field in feat:
                if self.field2type[field] == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif self.field2type[field] == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
        fill(self)

    @functools.wraps(pd.read_csv)
    def read_csv(*args: Any, **kwargs: Any) -> pd.DataFrame:
        return as_recbole_reads(pd.read_csv(*args, **kwargs))

    recbole_dataset.Dataset._fill_nan = _fill_nan
    for module in (recbole_dataset, kg_dataset, sequential_dataset):
        module.len = lambda x: x.map(len) if isinstance(x, pd.Series) else len(x)
    recbole_dataset.pd = SimpleNamespace(**{**vars(pd), "read_csv": read_csv})


def as_recbole_reads(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the headers ``name:type``, as RecBole's code after ``read_csv`` takes it.

    That is with strings as objects, and no sequence missing.
    """
    for column, dtype in table.dtypes.items():
        if isinstance(dtype, pd.StringDtype):
            table[column] = table[column].astype(object)
        if column.endswith("_seq"):
            table[column] = table[column].fillna("")
    return table


def save_recbole_checkpoint(
    self: Trainer, epoch: int, verbose: bool = True, saved_model_file: str | None = None
) -> None:
    """``Trainer._save_checkpoint`` of RecBole with the config as a plain dictionary."""
    from recbole.utils import set_color

    if not self.config["single_spec"] and self.config["local_rank"] != 0:
        return
    path = saved_model_file or self.saved_model_file
    state = {
        "config": plain(self.config.final_config_dict),
        "epoch": epoch,
        "cur_step": self.cur_step,
        "best_valid_score": float(self.best_valid_score),
        "state_dict": self.model.state_dict(),
        "other_parameter": {k: encoded(v) for k, v in self.model.other_parameter().items()},
        "optimizer": self.optimizer.state_dict(),
    }
    replace_file(path, lambda file: torch.save(state, file))
    if verbose:
        self.logger.info(set_color("Saving current", "blue") + f": {path}")


def encoded(value: Any) -> Any:
    """A NumPy array or SciPy sparse matrix as tensors, anything else as it is.

    RecBole's traditional models, such as EASE and ItemKNN, keep what they learn in these.
    """
    if isinstance(value, np.ndarray):
        return {"encoded": "array", "array": torch.from_numpy(np.ascontiguousarray(value))}
    if sparse.issparse(value):
        csr = value.tocsr()
        parts = {key: torch.from_numpy(getattr(csr, key)) for key in ("data", "indices", "indptr")}
        return {"encoded": "sparse", "format": value.format, "shape": list(csr.shape), **parts}
    return value


def decoded(value: Any) -> Any:
    """What :func:`encoded` was given."""
    kind = value.get("encoded") if isinstance(value, dict) else None
    if kind == "array":
        return value["array"].cpu().numpy()
    if kind == "sparse":
        parts = tuple(value[key].cpu().numpy() for key in ("data", "indices", "indptr"))
        return sparse.csr_matrix(parts, shape=tuple(value["shape"])).asformat(value["format"])
    return value


mend()
