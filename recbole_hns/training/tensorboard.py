"""TensorBoard's writer with an end, and with one line where its file cannot be written."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from recbole_hns.files import cannot_be_written

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


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
