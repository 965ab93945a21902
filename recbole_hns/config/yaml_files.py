"""Reading YAML files and strings as values, without running code from them."""

from __future__ import annotations

import ast
import copy
import itertools
import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from recbole_hns.errors import UserError
from recbole_hns.files import properties_path

#: Values that a YAML file may hold, those behind an alias counted wherever it stands.
MOST_VALUES = 10**5


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader that reads ``1e-3`` as a number, as RecBole's does, and ``None``.

    Aliases of aliases could make a few lines take all memory, or hold themselves; such a file is
    refused.
    """

    def get_single_node(self) -> yaml.Node | None:
        """The document, before it becomes Python's values."""
        node = super().get_single_node()
        if node is not None and _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES} values")
        return node


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)

# as on the command line, and never meant as a word
YamlLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^None$"), ["N"])


def _values(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """How many nodes there are from ``node`` on; infinitely many in one that holds itself."""
    if node not in known:
        known[node] = math.inf
        inner: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = itertools.chain.from_iterable(node.value)
        known[node] = 1 + sum(_values(part, known) for part in inner)
    return known[node]


def literal(value: Any) -> Any:
    """A string as the Python literal that it spells, ``true`` and ``false`` too, else unchanged."""
    if not isinstance(value, str):
        return copy.deepcopy(value)
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def read_config_files(paths: Sequence[str | os.PathLike[str]] | None) -> dict[str, Any]:
    """The keys and values of YAML files, the later ones over the earlier.

    A file that does not exist is looked for among the packaged ones, such as
    ``paper/ahns/common.yaml``.

    Raises:
        UserError: if one cannot be read.
    """
    values: dict[str, Any] = {}
    for path in paths or ():
        packaged = properties_path(os.fspath(path))
        use_packaged = packaged.is_file() and not os.path.exists(path)
        values.update(read_yaml(packaged if use_packaged else path))
    return values


def read_yaml(path: str | os.PathLike[str], key: str = "config_files") -> dict[str, Any]:
    """The keys and values of a YAML file; none for an empty one.

    Args:
        path: the file.
        key: what named the file, for the error message.

    Raises:
        UserError: if it cannot be read, does not parse or holds no mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, Loader=YamlLoader)
    except OSError as error:
        raise UserError.of(key, path, f"cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError.of(key, path, f"is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError.of(key, path, "must hold keys and values")
    return values
