"""The console script ``recbole-hns``, one module a subcommand."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

#: Subcommands and what they do. Each is a module here with ``main(arguments)``.
COMMANDS = {
    "run": "train and test a RecBole model with a sampler",
    "tune": "search hyperparameters, such as a sampler's hardness, with Ray Tune",
    "compare": "samplers over several seeds, with a table and a test of significance",
    "recommend": "lists of items for users, or items similar to one, from a checkpoint",
    "evaluate": "metrics of a checkpoint, without training",
    "export": "vectors, names and a model card, to serve a checkpoint without RecBole",
    "convert": "the field's data formats to RecBole's, with a ready split",
    "benchmark": "what training with samplers costs, beside RecBole's own",
    "simulate": "correlation of OPAUC with top-K metrics over random rankings",
    "plot": "figures from result files",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status.

    Args:
        arguments: those after the program's name; default those of the process.

    Returns:
        0 on success, 2 for a mistake of the user's, which is reported in one line on stderr, 130 if
        interrupted, 143 if terminated, 1 if what a job ran on failed. A failure of the program
        raises, which exits with 1.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments.pop(0) if arguments else "--help"
    if command in ("-h", "--help"):
        print("usage: recbole-hns COMMAND [options]\n")
        for name, summary in COMMANDS.items():
            print(f"  {name:<10} {summary}")
        print("\nrecbole-hns COMMAND --help lists the options of a command.")
        return 0
    if command not in COMMANDS:
        return _tell(f"{command}: no such command; known: {', '.join(COMMANDS)}")
    # a user's own sampler, module:Class, lies where the user is
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = importlib.import_module(f"recbole_hns.cli.{command}")

    from recbole_hns.errors import Interrupted, JobError, UserError

    try:
        return module.main(arguments)
    except UserError as error:
        return _tell(str(error))
    except OSError as error:
        # in whatever library it is: nothing is wrong with the program
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        return _tell(f"{error.filename or 'a file'}: cannot be written ({error.strerror})")
    except JobError as error:
        _tell(str(error))
        return 1
    except KeyboardInterrupt as error:
        how = str(error) or f"interrupted{getattr(module, 'WHEN_INTERRUPTED', '')}"
        print(f"recbole-hns: {how}", file=sys.stderr)
        return error.status if isinstance(error, Interrupted) else 130


def _tell(message: str) -> int:
    print(f"recbole-hns: error: {message}", file=sys.stderr)
    return 2
