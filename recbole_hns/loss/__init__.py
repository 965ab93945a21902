"""Losses, one file each; importing this package registers them."""

import importlib
import pkgutil

from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import LOSSES, loss_class, register_loss

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["LOSSES", "Loss", "loss_class", "register_loss"]
