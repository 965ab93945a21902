"""Samplers, one file each; importing this package registers them."""

from recbole_hns.sampler import (
    adasir,
    ahns,
    aobpr,
    cuco,
    dns,
    dns_mn,
    kernel,
    pns,
    pris,
    rns,
    softmax,
    softmax_v,
    ssm,
    warp,
)
from recbole_hns.sampler.base import (
    SAMPLERS,
    HardNegativeSampler,
    Negatives,
    register_sampler,
    sampler_class,
)

__all__ = [
    "SAMPLERS",
    "HardNegativeSampler",
    "Negatives",
    "adasir",
    "ahns",
    "aobpr",
    "cuco",
    "dns",
    "dns_mn",
    "kernel",
    "pns",
    "pris",
    "register_sampler",
    "rns",
    "sampler_class",
    "softmax",
    "softmax_v",
    "ssm",
    "warp",
]
