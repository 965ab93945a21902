"""A run's log: on stderr, and in a file under ``checkpoint_dir``."""

from __future__ import annotations

import hashlib
import logging
import sys
from contextlib import suppress
from functools import partial
from logging import FileHandler, Handler, LogRecord, StreamHandler, getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from colorlog import ColoredFormatter
from recbole.utils import get_local_time
from recbole.utils.logger import RemoveColorFilter, log_colors_config

from recbole_hns.config.description import in_full, in_short
from recbole_hns.files import cannot_be_written, writable_directory
from recbole_hns.ops import workers

if TYPE_CHECKING:
    from recbole_hns.config import Config

#: What a line looks like, and its time on the terminal.
LAYOUT, TIME = "%(asctime)-15s %(levelname)s  %(message)s", "%d %b %H:%M"

#: The root logger's handlers of the run before.
_handlers: list[Handler] = []


def start_log(config: Config, to_file: bool = True) -> None:
    """Log as RecBole does, with a file for this run, also where the process had a run before.

    The config comes first, in short, and in full in the file. Of several workers, the first logs.

    Args:
        config: says the level, and where files are: RecBole's logger has them where the process
            was started.
        to_file: whether there is a file.

    Raises:
        UserError: if it cannot be written.
    """
    root = getLogger()
    for handler in _handlers:
        root.removeHandler(handler)
        with suppress(OSError):  # what is left of a log that could not be written
            handler.close()
    level = (config["state"] or "info").upper() if workers.first() else "CRITICAL"
    stream: Handler = StreamHandler()
    if sys.stderr.isatty():
        coloured = f"%(log_color)s{LAYOUT}"
        stream.setFormatter(ColoredFormatter(coloured, TIME, log_colors=log_colors_config))
    else:
        without_colours(stream)
    _handlers[:] = [stream, *([_file_handler(config)] if to_file and workers.first() else [])]
    for handler in _handlers:
        handler.setLevel(level)
        root.addHandler(handler)
    root.setLevel(level)
    root.info(in_short(config))
    only_in_file(in_full(config))


def without_colours(handler: Handler, time: str = TIME) -> None:
    """Have a handler write lines as on the terminal, without the colours."""
    handler.setFormatter(logging.Formatter(LAYOUT, time))
    handler.addFilter(RemoveColorFilter())


def only_in_file(message: str) -> None:
    """Log for the file of the run alone."""
    record = {"name": "root", "levelno": logging.INFO, "levelname": "INFO", "msg": message}
    for handler in _handlers:
        if isinstance(handler, FileHandler) and getLogger().isEnabledFor(logging.INFO):
            handler.handle(logging.makeLogRecord(record))


def _file_handler(config: Config) -> Handler:
    """As RecBole's, whose names it has."""
    folder = Path(config["checkpoint_dir"]) / "log" / config["model"]
    writable_directory("checkpoint_dir", str(folder))
    values = "".join(map(str, config.final_config_dict.values()))
    digest = hashlib.md5(values.encode()).hexdigest()[:6]
    name = f"{config['model']}-{config['dataset']}-{get_local_time()}-{digest}.log"
    handler = FileHandler(folder / name)
    without_colours(handler, "%a %d %b %Y %H:%M:%S")
    handler.handleError = partial(_tell, handler)  # type: ignore[method-assign]
    return handler


def _tell(handler: FileHandler, record: LogRecord) -> None:
    """End a run whose log cannot be written; logging would print a traceback for every line."""
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        return Handler.handleError(handler, record)
    getLogger().removeHandler(handler)
    with suppress(OSError):
        handler.close()
    raise cannot_be_written(handler.baseFilename, error) from None
