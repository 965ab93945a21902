"""Samplers, one file each; importing this package registers them."""

import importlib
import pkgutil

from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.layered import LayeredSampler
from recbole_hns.sampler.registry import SAMPLERS, register_sampler, sampler_class

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "SAMPLERS",
    "HardNegativeSampler",
    "LayeredSampler",
    "register_sampler",
    "sampler_class",
]
