"""The time that a search may take."""

from __future__ import annotations

import math
import re

from recbole_hns.errors import UserError

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds_of(budget: str | float) -> float:
    """Seconds of ``90s``, ``30m``, ``2h``, or of a number, which is one of seconds.

    Raises:
        UserError: for anything else, or a time that is not finite and greater than 0.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)([smh]?)", str(budget).strip().lower())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 0 < seconds < math.inf:
        raise UserError.of("budget", budget, "must be a time > 0, such as 90s, 30m or 2h")
    return seconds
