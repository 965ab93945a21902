"""What ends a command in one line: a user's mistake, a signal, or what failed around it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user's: shown as one line without a traceback, exit status 2.

    The message names the key, the value given and what is allowed.

    Attributes:
        told: whether another process shows it, as one of several workers does for all.
        of_all: whether all of several workers raise it; else the others may wait for this one.
    """

    told = False
    of_all = False

    def __init__(self, message: object) -> None:
        # RecBole's own messages can span lines; a user's mistake is reported in one.
        super().__init__(" ".join(str(message).split()))

    @classmethod
    def of(cls, key: str, value: object, allowed: str) -> UserError:
        """``key=value`` followed by what is allowed instead."""
        return cls(f"{key}={value}: {allowed}")


class Interrupted(KeyboardInterrupt):
    """A signal ended a job; the message says what is kept and how to go on.

    Args:
        message: of one line.
        status: the exit status, 128 and the signal's number.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class JobError(RuntimeError):
    """What a job ran on failed; the message says what is kept and how to go on. Exit status 1."""


def nearest(key: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name in ``known`` that is nearest to ``key``, whatever their case; None if none is."""
    names = {plain_name(name): name for name in known}
    close = difflib.get_close_matches(plain_name(key), names, n=1, cutoff=cutoff)
    return names[close[0]] if close else None


def did_you_mean(key: object, known: Iterable[str]) -> str:
    """What a message adds of the name in ``known`` that is nearest to ``key``, if one is near."""
    close = nearest(key, known)
    return f"; did you mean {close}?" if close else ""


def plain_name(name: object) -> str:
    """A name as it is compared with others: a key in YAML may be a number."""
    return str(name).lower().replace("-", "_")
