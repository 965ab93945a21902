"""Figures, one a module, each with a function ``draw`` that returns a matplotlib figure."""
