"""The config: its keys, where their values come from, and what they are checked for.

Names are imported when they are first used, as RecBole, whose config this is, takes seconds; the
modules beside ``config``, ``axes`` and ``checks`` do without it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_hns.config.config import Config, given_keys

__all__ = ["DEFAULTS", "Config", "given_keys"]

#: What a run trains when nothing is said.
DEFAULTS = {"model": "BPR", "dataset": "ml-100k", "sampler": "dns_mn"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recbole_hns.config import config

    return getattr(config, name)
