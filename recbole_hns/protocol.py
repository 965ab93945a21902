"""The ways to choose the epoch that is tested, if any, and what a run says of them."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["valid", "paper", "all"]

#: Ends the name of the file beside a ready split's that says how it was made.
SPLIT_SUFFIX = ".split.yaml"

PAPER_NOTE = (
    "protocol paper: the epoch is selected on the test part; "
    "for comparison with published figures only"
)

#: What is said instead where no epoch is evaluated (``eval_step: 0``).
WHOLE_NOTE = "trained on training and validation part together: nothing is selected"

#: What a run on every interaction says, and a table that has no figures.
ALL_NOTE = "protocol all: trained on every interaction, nothing is selected and nothing tested"


def protocol_note(protocol: Protocol, selects: bool) -> str | None:
    """What has to be said of a run's protocol; ``selects`` if it evaluates epochs."""
    if protocol == "paper":
        return PAPER_NOTE if selects else WHOLE_NOTE
    return ALL_NOTE if protocol == "all" else None
