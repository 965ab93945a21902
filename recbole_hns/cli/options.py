"""Commands on click: options that are declared once, RecBole's free ``--key=value``, and help."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from pydantic import Field

from recbole_hns.config.yaml_files import literal
from recbole_hns.errors import UserError, nearest
from recbole_hns.parameters import Parameter

#: Options of commands whose keys are a run's.
Options = Mapping[str, Parameter]


def options(**declared: tuple[Any, Any]) -> dict[str, Parameter]:
    """The options of a command: the type of each and its ``Field``, with default and help."""
    return {name: Parameter(name, *how) for name, how in declared.items()}


#: Every command's.
QUIET = options(
    quiet=(bool, Field(False, description="nothing on stderr but an error: no log, no bars"))
)


@dataclass
class Given:
    """A command line, checked.

    Attributes:
        values: the value of every option of the command.
        named: the options that were given.
        keys: keys of the config, as they were given.
        files: arguments that belong to no option.
    """

    values: dict[str, Any]
    named: frozenset[str]
    keys: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


class Command(click.Command):
    r"""A command of this package.

    Args:
        usage: what may follow its name.
        help: what it does; a paragraph after a line with ``\b`` is shown as it is.
        options: its options, by the title that they have in the help.
        takes_keys: whether it takes keys of the config beside its options.
        takes_files: whether it takes arguments that belong to no option.
        when_interrupted: what is told beside that it was.
        more: makes further help: for ``--help`` what comes after the options, for ``--help=NAME``,
            which is given the name, all of it.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Given], int | None],
        usage: str,
        help: str,
        options: Mapping[str, Options],
        takes_keys: bool = False,
        takes_files: bool = False,
        when_interrupted: str = "",
        more: Callable[[str | None], str] | None = None,
    ) -> None:
        self._groups = {title: dict(group) for title, group in options.items()}
        first = next(iter(self._groups))
        self._groups[first] = {**self._groups[first], **QUIET}
        self._options = {
            name: one for group in self._groups.values() for name, one in group.items()
        }
        self._run, self._more, self._when_interrupted = run, more, when_interrupted
        self._takes_keys, self._takes_files = takes_keys, takes_files
        super().__init__(
            name,
            # what the command does not declare may be a key of the config
            context_settings={
                "ignore_unknown_options": True,
                "allow_extra_args": True,
                "max_content_width": 100,
            },
            params=[_declared(option) for option in self._options.values()],
            help=help,
            options_metavar=usage,
            add_help_option=False,
        )
        # first: it is shown whatever else there is
        self.params.insert(0, _help_option(self._show_help))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's, but that a flag does not take what follows it for its value."""
        flags = {
            text for one in self._options.values() if _flag(one) for text in _spellings(one.name)
        }
        return super().parse_args(ctx, [f"{text}=true" if text in flags else text for text in args])

    def invoke(self, ctx: click.Context) -> int:
        """Check the command line and run; returns the exit status."""
        texts = {name: _once(name, given) for name, given in ctx.params.items() if given}
        files: list[str] = []
        keys = parse(ctx.args, files if self._takes_files else None)
        if not self._takes_keys:
            refuse_unknown(keys, self._options)
        given = Given(typed(texts, self._options), frozenset(texts), keys, files)
        try:
            with _quiet(given.values.pop("quiet")):
                return self._run(given) or 0
        except KeyboardInterrupt as error:
            if str(error) or not self._when_interrupted:
                raise
            raise KeyboardInterrupt(f"interrupted; {self._when_interrupted}") from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of each group with default, meaning and what is allowed, then the rest."""
        for title, group in self._groups.items():
            with formatter.section(title):
                formatter.write_dl([_flag(one) or described(one) for one in group.values()], 34)
        if self._more is not None:
            formatter.write(f"\n{self._more(None)}\n")

    def _show_help(self, ctx: click.Context, name: str) -> None:
        if name != ALL and self._more is None:
            raise UserError.of("help", name, "this command has no help of a name; leave it out")
        shown = ctx.get_help() if name == ALL or self._more is None else self._more(name)
        click.echo(shown)
        ctx.exit()


#: ``--help`` without a name.
ALL = "all of it"


def parse(arguments: Sequence[str], positional: list[str] | None = None) -> dict[str, str]:
    """Keys and values of ``--key=value`` or ``--key value``, which no command can declare.

    Args:
        arguments: those of the command line.
        positional: takes the arguments that belong to no key; None allows none.

    Raises:
        UserError: for anything else, or a key with two values.
    """
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if positional is not None and not argument.startswith("--"):
            positional.append(argument)
            continue
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise UserError(f"{argument}: options have the form --key=value")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{key}: needs a value, --{key}=VALUE")
            value = rest.pop(0)
        values[key] = _once(key, [*([values[key]] if key in values else []), value])
    return values


def typed(texts: Mapping[str, str], known: Options) -> dict[str, Any]:
    """The value of every known option, checked; the default of one that is not given.

    Raises:
        UserError: for a value that is not allowed.
    """
    checked = {name: option.default for name, option in known.items()}
    for key, text in texts.items():
        if text.startswith("--"):
            raise UserError(f"--{key}: needs a value, --{key}=VALUE")
        value = text if known[key].field.annotation in (str, str | None) else literal(text)
        checked[key] = known[key].check(value)
    return checked


def refuse_unknown(keys: Mapping[str, str], known: Options) -> None:
    """See that a command that takes no keys of the config has options only.

    Raises:
        UserError: for a key.
    """
    for key, value in keys.items():
        close = nearest(key, known)
        hint = f"did you mean --{close}?" if close else f"known: {', '.join(known)}"
        raise UserError.of(key, value, f"no such option; {hint}")


def refuse_misspelt(keys: Mapping[str, str], known: Options) -> None:
    """See that no key of the config looks as if an option of the command were meant.

    Raises:
        UserError: for a key near an option that is no well-known key of the config's.
    """
    # takes some time
    from recbole_hns.config.known import INSTEAD, NAMES, recbole_keys

    for key, value in keys.items():
        close = nearest(key, known, cutoff=0.75)
        # --sampler is near --samplers, and a command that has this does without it
        readable = key in INSTEAD or key in recbole_keys().difference(NAMES)
        if close and not readable:
            raise UserError.of(key, value, f"no such option; did you mean --{close}?")


def described(option: Parameter) -> tuple[str, str]:
    """An option with its default, and what it means and allows."""
    value = option.default
    if value is None:
        value = "unset"
    elif isinstance(value, list):
        value = ",".join(map(str, value))
    # of text nothing is to be said
    allowed = "" if option.allowed.startswith("a string") else option.allowed
    return f"--{option.name}={value}", "; ".join(filter(None, (option.description, allowed)))


def _flag(option: Parameter) -> tuple[str, str] | None:
    """An option of a command that needs no value; a key of the config does."""
    return (f"--{option.name}", option.description) if option.field.annotation is bool else None


def option_help(known: Options) -> str:
    """Options as :func:`described`, each on lines of its own."""
    if not known:
        return "  none"
    formatter = click.HelpFormatter(width=100)
    with formatter.indentation():
        formatter.write_dl([described(option) for option in known.values()], col_max=34)
    return formatter.getvalue().rstrip()


def _declared(option: Parameter) -> click.Option:
    # click only takes the command line apart: values are checked as those of the config are, and
    # one that is given twice is told
    names = [option.name, *_spellings(option.name)]
    return click.Option(names, type=click.UNPROCESSED, multiple=True)


def _spellings(name: str) -> set[str]:
    # with dashes too, as other programs have them
    return {f"--{name}", f"--{name.replace('_', '-')}"}


def _help_option(show: Callable[[click.Context, str], None]) -> click.Option:
    def callback(ctx: click.Context, option: click.Parameter, names: Sequence[str]) -> None:
        if names and not ctx.resilient_parsing:
            show(ctx, _once("help", names))

    return click.Option(
        ["-h", "--help"],
        type=click.UNPROCESSED,
        is_flag=False,
        flag_value=ALL,
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=callback,
    )


def _once(key: str, texts: Sequence[str]) -> str:
    for text in texts[1:]:
        if text != texts[0]:
            raise UserError.of(key, text, f"given twice, before as {texts[0]}")
    return texts[0]


@contextlib.contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
