"""What a conversion can be told beside its sources, as options and as arguments in Python."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from recbole_hns.convert import COLUMN_OPTIONS, How
from recbole_hns.parameters import Parameter

_COLUMN = "name of the column of {}, where it is not understood"

_DECLARED: dict[str, tuple[Any, Any]] = {
    **{
        option: (str | None, Field(None, description=_COLUMN.format(f"{field}s")))
        for field, option in COLUMN_OPTIONS.items()
    },
    "min_rating": (
        Annotated[float, Field(allow_inf_nan=False)] | None,
        Field(None, description="interactions with a lower rating are left out"),
    ),
    "split": (
        How | None,
        Field(
            None,
            description="what tells the parts of one file: draws, the same time for all users, or "
            "the order of each user's interactions; unset is random, of --format=sequence "
            "leave-last",
        ),
    ),
    "validation": (
        float,
        Field(
            0.1,
            ge=0,
            lt=1,
            description="fraction of each user's training part that becomes the validation part, "
            "unless --valid is, with --split=temporal of all of it; 0 is none, for protocol=paper "
            "only",
        ),
    ),
    "seed": (NonNegativeInt, Field(2020, description="seed of a random split")),
}

#: By name.
PARAMETERS = {name: Parameter(name, *how) for name, how in _DECLARED.items()}
