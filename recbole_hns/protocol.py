"""The two ways to choose the epoch that is tested, and what a run says of them."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["valid", "paper"]

PAPER_NOTE = (
    "protocol paper: the epoch is selected on the test part; "
    "for comparison with published figures only"
)

#: What is said instead where no epoch is evaluated (``eval_step: 0``).
WHOLE_NOTE = "protocol paper: trained on training and validation part, and nothing is selected"


def paper_note(selects: bool) -> str:
    """What a run with the protocol ``paper`` says; ``selects`` if it evaluates epochs."""
    return PAPER_NOTE if selects else WHOLE_NOTE
