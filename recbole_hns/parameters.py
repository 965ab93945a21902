"""Parameters declared as typed class attributes and checked by pydantic.

Samplers and losses declare their hyperparameters so, and commands and the config their options: an
annotation with a default, or with ``Field(default, gt=0, description=...)``, is a config key of the
same name.
"""

from __future__ import annotations

import types
from functools import cached_property
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from recbole_hns.errors import UserError, did_you_mean
from recbole_hns.files import is_a

#: The sizes of a hyperparameter, unless it is 0, that can be computed with in single precision:
#: less, or more, overflows in the middle of a run.
SMALLEST, LARGEST = 1e-10, 1e10


class Parameter:
    """One declared parameter.

    Args:
        name: its config key.
        annotation: its type and bounds.
        default: its default value, or a ``Field`` with it.
        computed_with: whether a number must be from :data:`SMALLEST` to :data:`LARGEST` in size.

    Attributes:
        name: as above.
        default: its default value.
        description: one line for ``--help``.
    """

    def __init__(
        self, name: str, annotation: Any, default: Any, computed_with: bool = False
    ) -> None:
        self.name = name
        self._computed_with = computed_with
        self.field = FieldInfo.from_annotated_attribute(annotation, default)
        self.default = self.field.default
        self.description = self.field.description or ""

    @cached_property
    def _adapter(self) -> TypeAdapter:
        annotation: Any = self.field.annotation
        if self.field.metadata:
            annotation = Annotated[(annotation, *self.field.metadata)]
        # strict: neither True nor "3" is an integer
        return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))

    @property
    def allowed(self) -> str:
        """What it accepts, in words."""
        return _allowed(self.field.annotation, self.field.metadata)

    def check(self, value: Any) -> Any:
        """``value``, converted where that loses nothing (1 to 1.0).

        Raises:
            UserError: if the value is not allowed.
        """
        if isinstance(value, tuple):  # as 5,10 on the command line reads
            value = list(value)
        if is_a(value, "numpy", "generic"):
            value = value.item()
        try:
            checked = self._adapter.validate_python(value)
        except ValidationError:
            allowed = f"must be {self.allowed}"
            if get_origin(self.field.annotation) is Literal and isinstance(value, str):
                allowed += did_you_mean(value, map(str, get_args(self.field.annotation)))
            raise UserError.of(self.name, value, allowed) from None
        sized = self._computed_with and isinstance(checked, float) and checked
        if sized and not SMALLEST <= abs(checked) <= LARGEST:
            allowed = f"must be {self.allowed}, of a size from {SMALLEST:g} to {LARGEST:g}"
            raise UserError.of(self.name, value, allowed)
        return checked


class Declared:
    """Base of classes whose parameters are annotated attributes with defaults.

    Args:
        **values: hyperparameters by name; those left out take their defaults.

    Attributes:
        kind: what the class is, for messages.
        name: its name, the class's unless it is registered by another.
        hyperparameters: what the class declares and inherits, by name.

    Raises:
        UserError: if a value is not allowed.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    hyperparameters: ClassVar[dict[str, Parameter]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__name__
        hints = get_type_hints(cls, include_extras=True)
        inherited: dict[str, Parameter] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited.update(vars(base).get("hyperparameters", {}))
        own = {}
        for name in vars(cls).get("__annotations__", {}):
            if get_origin(hints[name]) is ClassVar or hints[name] is ClassVar:
                continue
            if name not in vars(cls):
                raise TypeError(f"{cls.__name__}.{name}: a hyperparameter needs a default")
            own[name] = Parameter(name, hints[name], vars(cls)[name], computed_with=True)
        cls.hyperparameters = {**inherited, **own}
        for name, parameter in own.items():
            setattr(cls, name, parameter.default)

    def __init__(self, **values: Any) -> None:
        super().__init__()
        for key in values:
            if key not in self.hyperparameters:
                known = ", ".join(self.hyperparameters)
                allowed = f"{self.kind} {self.name} has {f'only {known}' if known else 'no keys'}"
                raise UserError.of(key, values[key], allowed)
        for key, parameter in self.hyperparameters.items():
            value = parameter.check(values[key]) if key in values else parameter.default
            setattr(self, key, value)


def _allowed(annotation: Any, metadata: list[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        annotation, *more = get_args(annotation)
        for bound in more:
            metadata = [*metadata, *(bound.metadata if isinstance(bound, FieldInfo) else [bound])]
        return _allowed(annotation, metadata)
    if origin in (Union, types.UnionType):
        return " or ".join(_allowed(part, metadata) for part in get_args(annotation))
    if origin is Literal:
        return " or ".join(str(value) for value in get_args(annotation))
    if origin is list:
        (part,) = get_args(annotation)
        longest = [bound.max_length for bound in metadata if isinstance(bound, MaxLen)]
        return f"a list of {longest[0] if longest else 'one or more'}, each {_allowed(part, [])}"
    if origin is dict and get_args(annotation)[1] is not Any:
        return f"a dictionary, each value {_allowed(get_args(annotation)[1], [])}"
    if annotation in (int, float):
        signs = (Gt, "gt", ">"), (Ge, "ge", ">="), (Lt, "lt", "<"), (Le, "le", "<=")
        bounds = [
            f"{sign} {getattr(bound, attribute)}"
            for kind, attribute, sign in signs
            for bound in metadata
            if isinstance(bound, kind)
        ]
        name = "an integer" if annotation is int else "a number"
        return " ".join([name, " and ".join(bounds)]).strip()
    if annotation is str:
        filled = any(isinstance(bound, MinLen) for bound in metadata)
        return "a string that is not empty" if filled else "a string"
    names = {bool: "True or False", dict: "a dictionary", type(None): "unset"}
    return names.get(origin or annotation, str(annotation))
