"""Packaged YAML files, plain data, and files that are replaced without ever being half-written."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import IO, Any

import yaml

from recbole_hns.errors import UserError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]


def properties_path(name: str) -> Path:
    """Path of a packaged YAML file, ``name`` being relative to ``properties/``.

    In a wheel the folder lies inside the package, in a checkout beside it.
    """
    package = Path(__file__).parent
    folder = package / "properties"
    return (folder if folder.is_dir() else package.parent / "properties") / name


def plain(value: Any) -> Any:
    """``value`` with NumPy scalars, enums, devices and the like as Python's plain types."""
    # an exact type: np.float64 is a float, and some enums are strings
    if value is None or type(value) in (bool, int, float, str) or is_a(value, "torch", "Tensor"):
        return value
    if is_a(value, "numpy", "generic"):
        return value.item()
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return str(value)


def is_a(value: Any, library: str, name: str) -> bool:
    """Whether ``value`` is of a library's class, which is not imported for that.

    PyTorch takes seconds to import; who has not imported it has no tensors.
    """
    module = sys.modules.get(library)
    return module is not None and isinstance(value, getattr(module, name))


def replace_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Have ``write`` fill a temporary file beside ``path``, then rename it to ``path``.

    A reader, or a process killed meanwhile, sees the old content or the new, nothing between. What
    a killed process has left of its temporary file is removed first.

    Raises:
        UserError: if it cannot be written, the disk being full for example; what was at ``path``
            is still there.
    """
    path = Path(path)
    temporary = ""
    try:
        _clear_left(path)
        handle, temporary = _locked_temporary(path)
        with os.fdopen(handle, "wb") as file:
            # mkstemp allows only the owner to read; files should get the usual permissions instead
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        # PyTorch's writer raises another error while it handles that of the file
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(error, Exception) and isinstance(cause, OSError):
            raise cannot_be_written(path, cause) from None
        raise


def cannot_be_written(path: str | os.PathLike[str], error: OSError) -> UserError:
    """What is told of a file that cannot be written."""
    return UserError(f"{path}: cannot be written ({error.strerror or error})")


def _locked_temporary(path: Path) -> tuple[int, str]:
    """A new temporary file beside ``path``, open and locked as long as it is written."""
    while True:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        _lock(handle)
        if os.path.exists(temporary):
            return handle, temporary
        os.close(handle)  # another process took it for one that was left, before it was locked


def _clear_left(path: Path, directories: bool = False) -> None:
    """Remove the temporary files for ``path`` that no process writes any more, or directories.

    The lock of a process goes with it, however it ends. Windows removes no file that is open.
    """
    named = re.compile(re.escape(f".{path.name}.") + "[a-z0-9_]{8}")
    for name in filter(named.fullmatch, os.listdir(path.parent)):
        left = path.with_name(name)
        with suppress(OSError), _locked(left, wait=False):
            if not directories:
                os.unlink(left)
            # ours have nothing else in them; without locks one in use cannot be told
            elif fcntl is not None and set(os.listdir(left)) <= {path.name}:
                shutil.rmtree(left)


@contextmanager
def _locked(path: str | os.PathLike[str], wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file or a directory; where there are no locks, do without.

    Args:
        path: the file or directory.
        wait: whether to wait for another process that holds it, or raise an ``OSError``.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        if wait:
            _lock(handle)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    # some file systems have no locks; then nothing is ever cleared there
    with suppress(OSError):
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)


def write_yaml(
    values: Mapping[str, Any], path: str | os.PathLike[str], comment: str | None = None
) -> None:
    """Replace the file at ``path`` by ``values``, which must be plain data, in their order.

    A comment, of one line, comes before them.
    """
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    content = (text if comment is None else f"# {comment}\n{text}").encode()
    replace_file(path, lambda file: file.write(content))


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


@contextmanager
def new_directory(key: str, path: str) -> Iterator[Path]:
    """Have the body fill the directory that the option ``key`` names, which appears complete.

    The body gets a temporary directory of the same name, which is moved to ``path`` at the end, or
    removed if the body raises. What a killed process has left of its own is removed first.

    Raises:
        UserError: if there is something at ``path`` already, other than an empty directory, or if
            it cannot be created.
    """
    try:
        target = Path(os.path.abspath(path))
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError.of(key, path, "exists already; must be new, or an empty directory")
        near = next(parent for parent in target.parents if parent.exists())
        _clear_left(near / target.name, directories=True)
    except (OSError, ValueError) as error:  # the latter for a path that holds a null character
        raise _no_directory(key, path, error) from None
    try:
        with _locked_directory(near, f".{target.name}.") as temporary:
            # made by mkdir, it gets the usual permissions
            folder = Path(temporary) / target.name
            folder.mkdir()
            yield folder
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(target)
    except OSError as error:
        raise _no_directory(key, path, error) from None


def _no_directory(key: str, path: str, error: OSError | ValueError) -> UserError:
    if isinstance(error, UserError):
        return error
    reason = getattr(error, "strerror", None) or error
    return UserError.of(key, path, f"must be a directory that can be created ({reason})")


@contextmanager
def _locked_directory(near: Path, prefix: str) -> Iterator[str]:
    """A new temporary directory, locked as long as it is there."""
    while True:
        with ExitStack() as stack:
            temporary = stack.enter_context(
                tempfile.TemporaryDirectory(dir=near, prefix=prefix, ignore_cleanup_errors=True)
            )
            try:
                stack.enter_context(_locked(temporary))
            except FileNotFoundError:
                continue  # another process took it for one that was left, before it was locked
            if os.path.exists(temporary):
                yield temporary
                return
