"""A run of Weights & Biases for each run with ``log_wandb``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recbole_hns.errors import UserError
from recbole_hns.results import as_json

if TYPE_CHECKING:
    from recbole_hns.config import Config


@contextmanager
def wandb_run(config: Config) -> Iterator[None]:
    """Open a run of Weights & Biases, which ends as the body does; nothing without ``log_wandb``.

    RecBole's logger takes a run that is open. It would open one itself, of RecBole's config object
    in place of its keys, and never end it: a second run in the process would be logged as more
    epochs of the first.

    Raises:
        UserError: if Weights & Biases refuses, for want of an account for example.
    """
    if not config["log_wandb"]:
        yield
        return
    import wandb

    if wandb.run is not None:  # the user's own
        yield
        return
    try:
        opened = wandb.init(
            project=config["wandb_project"], config=as_json(config.final_config_dict)
        )
    except wandb.Error as error:
        hint = "WANDB_MODE=offline needs no account"
        raise UserError.of("log_wandb", True, f"{str(error).rstrip('.')}; {hint}") from None
    with opened:
        yield
