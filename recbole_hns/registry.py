"""Classes by name: those that are registered, and those of a user's own module."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from recbole_hns.errors import UserError, nearest

Class = TypeVar("Class", bound=type)


def registered(classes: dict[str, Any], name: str) -> Callable[[Class], Class]:
    """A class decorator that gives a class its name and enters it in ``classes``."""

    def register(cls: Class) -> Class:
        cls.name = name  # type: ignore[attr-defined]
        classes[name] = cls
        return cls

    return register


def find_class(key: str, name: Any, classes: Mapping[str, Any], base: type) -> Any:
    """The class that a config key names.

    Args:
        key: the config key.
        name: a registered name, ``package.module:Class``, or a class.
        classes: the registered ones by name.
        base: what the class has to be a subclass of.

    Raises:
        UserError: if there is no such class.
    """
    if isinstance(name, type) and issubclass(name, base) and name is not base:
        return name
    if isinstance(name, str) and name in classes:
        return classes[name]
    module, colon, attribute = str(name).partition(":")
    if not colon:
        close = nearest(name, classes)
        hint = f" (did you mean {close}?)" if close else ""
        known = ", ".join(classes)
        raise UserError.of(key, name, f"must be one of {known} or package.module:Class{hint}")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing runs the user's module, which can fail in any way
        reason = f"cannot be imported: {type(error).__name__}: {error}"
        raise UserError.of(key, name, reason) from error
    if not (inspect.isclass(cls) and issubclass(cls, base)) or cls is base:
        raise UserError.of(key, name, f"must be a subclass of {base.__name__}")
    return cls
