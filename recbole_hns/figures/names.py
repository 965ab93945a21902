"""How figures name what config and result files name by keys: as papers do.

What is not in these tables, such as a sampler of the user's own, is called by its key.
"""

from __future__ import annotations

import re
from typing import Any

from recbole_hns.config.keys import KEYS

METRICS = {
    "auc": "AUC",
    "averagepopularity": "Average popularity",
    "gauc": "GAUC",
    "giniindex": "Gini index",
    "hit": "Hit",
    "itemcoverage": "Item coverage",
    "llpauc": "LLPAUC",
    "logloss": "Log loss",
    "mae": "MAE",
    "map": "MAP",
    "mrr": "MRR",
    "ndcg": "NDCG",
    "normllpauc": "NormLLPAUC",
    "normopauc": "NormOPAUC",
    "opauc": "OPAUC",
    "precision": "Precision",
    "recall": "Recall",
    "rmse": "RMSE",
    "shannonentropy": "Shannon entropy",
    "tailpercentage": "Tail percentage",
}

#: Metrics whose number is a rate, no K.
OF_RATES = {"llpauc", "normllpauc", "normopauc", "opauc"}

SAMPLERS = {
    "adasir": "AdaSIR",
    "ahns": "AHNS",
    "all": "All candidates",
    "ans": "ANS",
    "aobpr": "AOBPR",
    "cuco": "CuCo",
    "dens": "DENS",
    "dns": "DNS",
    "dns_mn": "DNS(M,N)",
    "irgan": "IRGAN",
    "kernel": "Kernel",
    "mixgcf": "MixGCF",
    "pns": "PNS",
    "pris": "PRIS",
    "rns": "RNS",
    "softmax": "Softmax",
    "softmax_v": "Softmax-v",
    "srns": "SRNS",
    "ssm": "SSM",
    "warp": "WARP",
}

LOSSES = {
    "advinfonce": "AdvInfoNCE",
    "bpr": "BPR",
    "bsl": "BSL",
    "gbce": "gBCE",
    "hinge": "hinge",
    "llpauc": "LLPAUC",
    "psl": "PSL",
    "sce": "SCE",
    "sl_at_k": "SL@K",
    "softmax": "softmax",
    "talos": "Talos",
}

#: Keys that neither their prefix nor their words say.
PARAMETERS = {
    "advinfonce_k": "K",
    "candidate_alpha": "popularity's power",
    "candidate_num": "N",
    "dns_m": "M",
    "reg_weight": "L2 weight",
    "sl_k": "K",
    "talos_k": "K",
}

#: What keys of samplers and losses begin with.
PREFIXES = {*SAMPLERS, *LOSSES, "llpauc_loss", "loss", "opauc", "sl"} - {"all"}

GREEK = {
    "alpha": "α",
    "beta": "β",
    "eps": "ε",
    "gamma": "γ",
    "lambda": "λ",
    "rho": "ρ",
    "tau": "τ",
}


def metric(key: str) -> str:
    """``ndcg@10`` as NDCG@10, ``normopauc@0.01`` as NormOPAUC(0.01)."""
    name, at, number = key.partition("@")
    found = METRICS.get(name.lower())
    if found is None:
        return key
    if name.lower() in OF_RATES and at:
        return f"{found}({', '.join(number.split(','))})"
    return f"{found}{at}{number}"


def sampler(name: str) -> str:
    """``dns_mn`` as DNS(M,N)."""
    return SAMPLERS.get(name, name)


def parameter(key: str) -> str:
    """``ahns_beta`` as β, ``learning_rate`` in words."""
    if key in PARAMETERS:
        return PARAMETERS[key]
    # the longest first
    for prefix in sorted(PREFIXES, key=len, reverse=True):
        if key.startswith(f"{prefix}_"):
            key = key.removeprefix(f"{prefix}_")
            return " ".join(GREEK.get(word, word) for word in key.split("_"))
    return key.replace("_", " ") if key in KEYS else key


def axis(key: str) -> str:
    """A parameter on an axis: also by its key where that differs, as it is set by that."""
    name = parameter(key)
    return name if name in (key, key.replace("_", " ")) else f"{name} ({key})"


def setting(key: str, value: Any) -> str:
    """``ahns_beta`` of 0.4 as "β = 0.4"."""
    if key == "loss":
        return f"{LOSSES.get(str(value), value)} loss"
    if key == "protocol":
        return f"protocol {value}"
    shown = f"{value:g}" if isinstance(value, float) else value
    return f"{parameter(key)} = {shown}"


def entry(label: str) -> str:
    """A benchmark's ``dns_mn (N=200, dns_m=5)`` as "DNS(M,N), N = 200, M = 5"."""
    name, bracket, settings = label.partition(" (")
    if not bracket:
        return sampler(name)
    settings = re.sub(r"\bloss=(\w+)", lambda match: setting("loss", match[1]), settings[:-1])
    settings = re.sub(r"\b([A-Za-z]\w*)=", lambda match: f"{parameter(match[1])} = ", settings)
    return f"{sampler(name)}, {settings}"
