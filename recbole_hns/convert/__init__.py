"""The data formats of the field, and data frames, as RecBole's atomic files.

``convert`` is imported when it is first used, as NumPy, which it needs, takes a while.
"""

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from recbole_hns.convert.conversion import Conversion, convert

__all__ = ["COLUMN_OPTIONS", "PARTS", "Conversion", "convert"]

#: The parts of a split, in the order of their numbers.
PARTS = ("train", "valid", "test")

#: How the parts are told, where a source has none.
How = Literal["random", "temporal", "leave-last"]

#: The option that names a column, by what the column has.
COLUMN_OPTIONS = {
    "user": "user_column",
    "item": "item_column",
    "rating": "rating_column",
    "timestamp": "time_column",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recbole_hns.convert import conversion

    return getattr(conversion, name)
