"""The data formats of the field, as RecBole's atomic files with a ready split."""

#: The parts of a split, in the order of their numbers.
PARTS = ("train", "valid", "test")

#: The option that names a column, by what the column has.
COLUMN_OPTIONS = {
    "user": "user_column",
    "item": "item_column",
    "rating": "rating_column",
    "timestamp": "time_column",
}
