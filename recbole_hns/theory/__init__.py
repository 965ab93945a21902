"""The HNS paper's theorems as code, and its simulation."""

from recbole_hns.theory.theorems import (
    Bounds,
    Hardness,
    dns_mn_beta,
    dns_mn_m,
    hits_bounds,
    norm_opauc,
    precision_bounds,
    recall_bounds,
    softmax_v_beta,
    softmax_v_rho,
    suggest_hardness,
)

__all__ = [
    "Bounds",
    "Hardness",
    "dns_mn_beta",
    "dns_mn_m",
    "hits_bounds",
    "norm_opauc",
    "precision_bounds",
    "recall_bounds",
    "softmax_v_beta",
    "softmax_v_rho",
    "suggest_hardness",
]
