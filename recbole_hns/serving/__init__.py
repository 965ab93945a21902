"""Lists of items from an export, by NumPy alone: without RecBole, PyTorch, Ray or the data."""

from recbole_hns.serving.recommender import Recommender

__all__ = ["Recommender"]
