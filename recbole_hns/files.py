"""Where the packaged YAML files are, and how files are replaced without ever being half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from recbole_hns.errors import UserError


def properties_path(name: str) -> Path:
    """Path of a packaged YAML file, ``name`` being relative to ``properties/``.

    In a wheel the folder lies inside the package, in a checkout beside it.
    """
    package = Path(__file__).parent
    folder = package / "properties"
    return (folder if folder.is_dir() else package.parent / "properties") / name


def replace_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Have ``write`` fill a temporary file beside ``path``, then rename it to ``path``.

    A reader, or a process killed meanwhile, sees the old content or the new, nothing between.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        # mkstemp allows only the owner to read; files should get the usual permissions instead.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def writable_directory(key: str, path: str) -> Path:
    """Create the directory that the config key ``key`` names, and see that files fit in it.

    Raises:
        UserError: if it cannot be created or written to.
    """
    try:
        directory = Path(path)
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except (OSError, ValueError) as error:  # the latter for a path that holds a null character
        reason = getattr(error, "strerror", error)
        raise UserError.of(
            key, path, f"must be a directory that can be written to ({reason})"
        ) from None
    return directory
