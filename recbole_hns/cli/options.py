"""Command lines of RecBole's form: ``--key=value``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from recbole_hns.config.known import INSTEAD, NAMES, recbole_keys
from recbole_hns.config.yaml_files import literal
from recbole_hns.errors import UserError, nearest
from recbole_hns.parameters import Parameter


def parse(
    arguments: Sequence[str], positional: list[str] | None = None, flags: Collection[str] = ()
) -> dict[str, str]:
    """Keys and values of ``--key=value`` or ``--key value``.

    Args:
        arguments: those of the command line.
        positional: takes the arguments that belong to no key; None allows none.
        flags: keys that need no value, ``--key`` alone being ``--key=true``.

    Raises:
        UserError: for anything else, or a key with two values.
    """
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if positional is not None and not argument.startswith("--"):
            positional.append(argument)
            continue
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise UserError(f"{argument}: options have the form --key=value")
        if not equals:
            alone = not rest or rest[0].startswith("--")
            if alone and key not in flags:
                raise UserError(f"--{key}: needs a value, --{key}=VALUE")
            value = "true" if alone else rest.pop(0)
        if values.get(key, value) != value:
            raise UserError.of(key, value, f"given twice, before as {values[key]}")
        values[key] = value
    return values


def options(**declared: tuple[Any, Any]) -> dict[str, Parameter]:
    """The options of a command: the type of each and its ``Field``, with default and help."""
    return {name: Parameter(name, *how) for name, how in declared.items()}


def typed(values: Mapping[str, str], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The value of every known option, checked; the default of one that is not given.

    Raises:
        UserError: for an unknown option or a value that is not allowed.
    """
    for key, value in values.items():
        if key not in known:
            close = nearest(key, known)
            hint = f"did you mean --{close}?" if close else f"known: {', '.join(known)}"
            raise UserError.of(key, value, f"no such option; {hint}")
    checked = {name: option.default for name, option in known.items()}
    for key, text in values.items():
        value = text if known[key].field.annotation is str else literal(text)
        checked[key] = known[key].check(value)
    return checked


def take(given: dict[str, str], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The options of a command whose command line takes keys of the config too.

    Args:
        given: the command line; loses what is an option, and keeps the config's keys.
        known: the command's options.

    Returns:
        As :func:`typed`.

    Raises:
        UserError: for a value that is not allowed, or what looks like an option of the command and
            is no well-known key of the config's.
    """
    values = typed({key: given.pop(key) for key in known if key in given}, known)
    for key, value in given.items():
        close = nearest(key, known, cutoff=0.75)
        # --sampler is near --samplers, and a command that has this does without it
        readable = key in INSTEAD or key in recbole_keys().difference(NAMES)
        if close and not readable:
            raise UserError.of(key, value, f"no such option; did you mean --{close}?")
    return values


def option_help(known: Mapping[str, Parameter]) -> str:
    """Every option with its default, what is allowed and what it means, one a line."""
    return "\n".join(_described(option) for option in known.values())


def _described(option: Parameter) -> str:
    default = option.default
    if default is None:
        default = "unset"
    elif isinstance(default, list):
        default = ",".join(map(str, default))
    return f"  --{option.name}={default}: {option.allowed}. {option.description}"
