"""Samplers, one file each; importing this package registers them."""

from recbole_hns.sampler import (
    ahns,
    ans,
    dens,
    dns,
    dns_mn,
    irgan,
    mixgcf,
    pns,
    rns,
    softmax,
    softmax_v,
    srns,
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
    "ahns",
    "ans",
    "dens",
    "dns",
    "dns_mn",
    "irgan",
    "mixgcf",
    "pns",
    "register_sampler",
    "rns",
    "sampler_class",
    "softmax",
    "softmax_v",
    "srns",
]
