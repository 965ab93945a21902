"""The data formats of the field, as RecBole's atomic files with a ready split."""
