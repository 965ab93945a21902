"""Command lines of RecBole's form: ``--key=value``."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_hns.errors import UserError


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """Keys and values of ``--key=value`` or ``--key value``.

    Raises:
        UserError: for anything else, or a key with two values.
    """
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise UserError(f"{argument}: options have the form --key=value")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{key}: needs a value, --{key}=VALUE")
            value = rest.pop(0)
        if values.get(key, value) != value:
            raise UserError.of(key, value, f"given twice, before as {values[key]}")
        values[key] = value
    return values
