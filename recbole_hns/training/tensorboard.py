"""TensorBoard's writer with an end, and with one line where its file cannot be written."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import recbole.trainer.trainer
from recbole.utils import get_local_time
from torch.utils.tensorboard import SummaryWriter

from recbole_hns.files import cannot_be_written
from recbole_hns.ops import workers


class _Nothing(SummaryWriter):
    """A writer that writes nothing."""

    def __init__(self) -> None:
        """Open nothing."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing."""

    def add_hparams(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing."""

    def close(self) -> None:
        """There is nothing to close."""


def writer_beside(logger: logging.Logger) -> SummaryWriter:
    """As RecBole's ``get_tensorboard``, in ``log_tensorboard`` beside the ``log`` of a run.

    RecBole has both where the process was started; its own runs still do. Of several workers, the
    first writes.
    """
    if not workers.first():
        return _Nothing()
    for handler in reversed(logger.handlers):
        if isinstance(handler, logging.FileHandler):
            file = Path(handler.baseFilename)
            # log/MODEL/NAME.log; others' files lie elsewhere
            log = file.parent.parent
            if log.name == "log":
                return SummaryWriter(log.parent / "log_tensorboard" / file.stem)
    return SummaryWriter(Path("log_tensorboard") / f"model-{get_local_time()}")


recbole.trainer.trainer.get_tensorboard = writer_beside


@contextmanager
def closing(writer: SummaryWriter) -> Iterator[None]:
    """Close a writer at the end, however that comes; its thread lives on otherwise."""
    try:
        yield
    except BaseException:
        # what went wrong first is told
        with suppress(OSError):
            writer.close()
        raise
    writer.close()


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """What TensorBoard cannot write is told as files are that this package cannot write.

    Raises:
        UserError: if TensorBoard raises an ``OSError`` within.
    """
    try:
        yield
    except OSError as error:
        if not _of_tensorboard(error):
            raise
        raise cannot_be_written("log_tensorboard", error) from None


def _of_tensorboard(error: BaseException | None) -> bool:
    if not isinstance(error, OSError):
        return False
    frames = traceback.walk_tb(error.__traceback__)
    return any("tensorboard" in frame.f_code.co_filename for frame, _ in frames)


def _quiet(arguments: Any, before: Any = threading.excepthook) -> None:
    # TensorBoard raises what its thread raised once more, where it can be told
    if not _of_tensorboard(arguments.exc_value):
        before(arguments)


threading.excepthook = _quiet
