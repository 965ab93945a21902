"""The console script ``recbole-hns``, one module a command."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import click

from recbole_hns.errors import Interrupted, JobError, UserError, did_you_mean, nearest

#: Commands and what they do, in groups. Each is a module here with a ``COMMAND``, which is imported
#: when it is called; only what it runs imports PyTorch and RecBole, which take seconds.
COMMANDS = {
    "Data": {"convert": "the field's data formats to RecBole's, with a ready split"},
    "Training": {
        "run": "train and test a RecBole model with a sampler",
        "tune": "find a recipe in a given time, or sweep over hyperparameters, with Ray Tune",
        "compare": "samplers over several seeds, with a table and a test of significance",
    },
    "Using": {
        "recommend": "lists of items for users, or items similar to one, from a checkpoint",
        "evaluate": "metrics of a checkpoint, without training",
        "export": "vectors, names and a model card, to serve a checkpoint without RecBole",
    },
    "Looking": {
        "plot": "figures from result files",
        "benchmark": "what training with samplers costs, beside RecBole's own",
        "simulate": "correlation of OPAUC with top-K metrics over random rankings",
    },
}

NAMES = [name for group in COMMANDS.values() for name in group]


class _Group(click.Group):
    """The commands, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return NAMES

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in NAMES:
            return None
        return importlib.import_module(f"recbole_hns.cli.{name}").COMMAND

    def resolve_command(
        self, ctx: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in NAMES:
            hint = did_you_mean(name, NAMES)
            raise UserError(f"{name}: no such command; known: {', '.join(NAMES)}{hint}")
        return super().resolve_command(ctx, arguments)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl(list(group.items()))


@click.group(
    cls=_Group,
    options_metavar="",
    subcommand_metavar="COMMAND [--KEY=VALUE ...]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="recbole-hns COMMAND --help lists the options of a command.",
    invoke_without_command=True,
    # called without anything, it shows its help and has not failed
    no_args_is_help=False,
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def group(ctx: click.Context, version: bool) -> int:
    """Hard negative sampling for RecBole."""
    if version:
        click.echo(f"recbole-hns {_version()}")
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    Args:
        arguments: those after the program's name; default those of the process.

    Returns:
        0 on success, 2 for a mistake of the user's, which is reported in one line on stderr, 130 if
        interrupted, 143 if terminated, 1 if what a job ran on failed or nobody reads its output. A
        failure of the program raises, which exits with 1.
    """
    # a user's own sampler, module:Class, lies where the user is
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return run_command(group, list(sys.argv[1:] if arguments is None else arguments), "recbole-hns")


def run_command(command: click.Command, arguments: list[str], program: str) -> int:
    """Run a command of click's; returns the exit status as :func:`main`.

    click's own ``main`` reports mistakes in several lines, and takes an interrupt for its own.
    """

    def tell(message: str) -> int:
        print(f"{program}: error: {message}", file=sys.stderr)
        return 2

    try:
        # which takes what it is given apart
        with command.make_context(program, [*arguments]) as ctx:
            status = command.invoke(ctx)
        sys.stdout.flush()
        return status
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except UserError as error:
        return 2 if error.told else tell(str(error))
    except click.BadOptionUsage as error:
        key = str(error.option_name).removeprefix("--")
        return tell(f"--{key}: needs a value, --{key}=VALUE")
    except click.NoSuchOption as error:
        close = nearest(error.option_name, ("--help", "--version"))
        first = f"a command comes first, such as {program} run {arguments[0]}"
        hint = f"did you mean {close}?" if close else first
        return tell(f"{error.option_name}: no such option; {hint}")
    except click.UsageError as error:
        return tell(" ".join(error.format_message().split()))
    except BrokenPipeError:
        # who reads, such as head, has enough; Python would say so again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # in whatever library it is: nothing is wrong with the program
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        return tell(f"{error.filename or 'a file'}: cannot be written ({error.strerror})")
    except JobError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt as error:
        print(f"{program}: {str(error) or 'interrupted'}", file=sys.stderr)
        return error.status if isinstance(error, Interrupted) else 130


def _version() -> str:
    try:
        return version("recbole-hns")
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"
