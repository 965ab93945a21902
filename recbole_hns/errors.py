"""The one exception for a user's mistake."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake of the user's: shown as one line without a traceback, exit status 2.

    The message names the key, the value given and what is allowed.
    """

    def __init__(self, message: object) -> None:
        # RecBole's own messages can span lines; a user's mistake is reported in one.
        super().__init__(" ".join(str(message).split()))

    @classmethod
    def of(cls, key: str, value: object, allowed: str) -> UserError:
        """``key=value`` followed by what is allowed instead."""
        return cls(f"{key}={value}: {allowed}")
