"""The config: its keys, where their values come from, and what they are checked for."""

from recbole_hns.config.config import DEFAULTS, Config, given_keys

__all__ = ["DEFAULTS", "Config", "given_keys"]
