"""README and docs say what there is: commands, keys, defaults, names, and tables of charts."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import charts
import matplotlib.pyplot as plt
import pytest

from recbole_hns.cli import NAMES, run_command
from recbole_hns.config.known import check_early
from recbole_hns.config.specs import parse_specs
from recbole_hns.config.yaml_files import literal
from recbole_hns.files import properties_path
from recbole_hns.loss import LOSSES, Loss
from recbole_hns.sampler import SAMPLERS, HardNegativeSampler

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(language):
    """The code blocks of a language, each with its page."""
    return [
        (page, code)
        for page, text in PAGES.items()
        for found, code in BLOCK.findall(text)
        if found == language
    ]


def command_lines():
    """This package's command lines, in blocks and in running text, without their program."""
    found = set()
    for page, text in PAGES.items():
        lines = [line for at, code in blocks("bash") if at == page for line in code.splitlines()]
        lines += re.findall(r"`((?:recbole-hns|python run_recbole_hns\.py) [^`]*--[^`]*)`", text)
        for line in lines:
            for part in line.split(" && "):
                part = part.replace("uv run run_recbole_hns.py", "python run_recbole_hns.py")
                if part.startswith("python run_recbole_hns.py"):
                    part = part.replace("python run_recbole_hns.py", "recbole-hns run")
                if part.startswith("recbole-hns ") and " COMMAND" not in part:
                    found.add((page, part.removeprefix("recbole-hns ")))
    return sorted(found)


LINES = command_lines()


def test_there_are_lines_of_every_command():
    assert {line.split()[0] for _, line in LINES} >= set(NAMES)


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line}" for page, line in LINES])
def test_a_line_of_a_command_has_options_and_keys_that_there_are(page, line, monkeypatch, capsys):
    name, *arguments = shlex.split(line, comments=True)
    if name.startswith("-"):
        assert name in ("--help", "--version")
        return
    given = []
    command = importlib.import_module(f"recbole_hns.cli.{name}").COMMAND
    monkeypatch.setattr(command, "_run", given.append)
    assert run_command(command, arguments, name) == 0, capsys.readouterr().err
    if not given:
        assert "--help" in line
        return
    (call,) = given
    values = {key: call.values[key] for key in call.named}
    keys = {key: values[key] for key in ("model", "dataset", "sampler", "loss") if key in values}
    keys.update(call.keys)
    named = [*values.get("config_files", "").split(), *keys.pop("config_files", "").split()]
    packaged = [file for file in named if file.startswith(("paper/", "recommended/"))]
    assert all(properties_path(file).is_file() for file in packaged)
    specs = parse_specs("samplers", values["samplers"]) if "samplers" in values else []
    check_early(packaged, keys, specs)
    for spec in specs:
        check_early(packaged, {**keys, **spec[1]}, [spec])


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_is_python_and_imports_what_there_is(page, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "recbole_hns":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names)


def test_every_sampler_and_loss_is_there_with_its_keys_and_defaults():
    page = PAGES["docs/samplers.md"]
    for name, cls in SAMPLERS.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*", page, re.MULTILINE)
        own = cls.hyperparameters.keys() - HardNegativeSampler.hyperparameters.keys()
        see_defaults(row, {key: cls.hyperparameters[key] for key in own})
    (axis,) = re.findall(r"^\| `loss` \|.*", page, re.MULTILINE)
    for name, cls in LOSSES.items():
        # a row of its own has its authors
        (row,) = re.findall(rf"^\| `{name}` \(.*", page, re.MULTILINE) or [axis]
        assert f"`{name}`" in row
        own = cls.hyperparameters.keys() - Loss.hyperparameters.keys()
        see_defaults(row, {key: cls.hyperparameters[key] for key in own})


def see_defaults(row, parameters):
    """Each key stands in a row, with its default in the parentheses after it."""
    for key, parameter in parameters.items():
        assert f"`{key}`" in row, key
        found = re.search(rf"`{key}`(?: = \w+|, log[^:]*)? \(`?(\d[\d.,]*|[^`;:,) ]+)", row)
        if parameter.default is not None:
            assert parameter.check(literal(found[1].rstrip(","))) == parameter.default, key


def test_every_command_and_page_is_in_the_readme():
    readme = PAGES["README.md"]
    assert len(readme.splitlines()) <= 150
    for name in NAMES:
        assert f"`{name}`" in readme
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize(
    "draw", [charts.gain, charts.reproduction, charts.alternatives, charts.seconds]
)
def test_charts_find_their_tables(draw):
    figure = draw()
    assert figure.axes
    plt.close(figure)
