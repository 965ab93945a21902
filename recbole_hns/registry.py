"""Classes by name: those that are registered, and those of a user's own module."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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


class Listed(NamedTuple):
    """What the files of samplers, or of losses, say without being imported.

    Attributes:
        summaries: the first line of each class's docstring by its registered name.
        keys: the names of all hyperparameters, those of base classes too.
    """

    summaries: dict[str, str]
    keys: frozenset[str]


@functools.cache
def listed(kind: str) -> Listed:
    """Read the files of this package's samplers or losses; importing them takes seconds.

    Args:
        kind: ``sampler`` or ``loss``.
    """
    summaries, keys = {}, set()
    for path in sorted((Path(__file__).parent / kind).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef):
                continue
            for each in node.body:
                # as `Declared` takes them
                if (
                    isinstance(each, ast.AnnAssign)
                    and each.value is not None
                    and not ast.unparse(each.annotation).startswith("ClassVar")
                ):
                    keys.add(ast.unparse(each.target))
            for decorator in node.decorator_list:
                match decorator:
                    case ast.Call(ast.Name("register_sampler" | "register_loss"), [name]):
                        summary = (ast.get_docstring(node) or node.name).splitlines()[0]
                        summaries[ast.literal_eval(name)] = summary
    return Listed(summaries, frozenset(keys))
