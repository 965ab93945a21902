"""The current stack of pip agrees with pyproject.toml and with RecBole's metadata."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

#: What the two stacks differ in.
DIFFERENT = {"numpy", "ray", "setuptools"}


def by_name(lines):
    """The version specifier of every requirement."""
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement.specifier for requirement in parsed}


def declared(section):
    """The requirements of a list in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(rf"^{section} = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE).group(1)
    return by_name(re.findall(r'^ *"(.*)",$', listed, re.MULTILINE))


@pytest.fixture
def current():
    return by_name((ROOT / "requirements-current.txt").read_text().splitlines())


def test_the_current_stack_has_what_this_package_needs(current):
    ours = declared("dependencies")
    assert "recbole" not in current
    for name in ours.keys() - DIFFERENT - {"recbole"}:
        assert current[name] == ours[name], name


def test_the_current_stack_has_what_recbole_needs(current):
    theirs = by_name(line for line in requires("recbole") if "extra ==" not in line)
    assert theirs.keys() <= current.keys()
    for name in theirs.keys() - declared("dependencies").keys() - DIFFERENT:
        exact = str(theirs[name]).startswith("==")
        assert not exact or current[name] == theirs[name], name


def test_uv_overrides_the_same(current):
    overridden = declared("override-dependencies")
    assert set(overridden) == DIFFERENT - {"setuptools"}
    for name, specifier in overridden.items():
        assert current[name] == specifier


def test_there_is_one_candidate_of_ray_where_pip_resolves_it():
    """With a range pip downloads each of its wheels, of some 60 MB, before it takes RecBole's."""
    text = (ROOT / "pyproject.toml").read_text()
    assert "\"ray[tune]==2.6.3; python_version < '3.12'\"" in text


def test_the_citation_has_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert str(citation["version"]) == version.group(1)


def test_type_checkers_are_told_that_there_are_types():
    assert (ROOT / "recbole_hns" / "py.typed").is_file()
