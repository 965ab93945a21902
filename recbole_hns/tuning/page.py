"""Pages that a person reads first, as Markdown and as one HTML file that holds its pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_hns.files import replace_file

STYLE = """
body {font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em}
table {border-collapse: collapse; display: block; overflow-x: auto; margin: 1em 0}
th, td {padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: right}
th:first-child, td:first-child {text-align: left}
pre {background: #f4f4f4; padding: .8em; overflow-x: auto}
img {max-width: 100%}
"""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: of its columns.
        rows: as many cells each.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Commands:
    """Command lines."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """A picture in a file beside the page, and what it shows."""

    file: str
    shows: str


Part = str | Table | Commands | Picture


@dataclass
class Page:
    """A page.

    Attributes:
        title: its first heading.
        sections: heading and parts of each; a part that is a string is a paragraph.
    """

    title: str
    sections: list[tuple[str, list[Part]]] = field(default_factory=list)

    def write(self, folder: Path, name: str) -> None:
        """Write ``name.md`` and ``name.html`` into the folder of the pictures."""
        text, pictured = self.markdown(), self.html(folder)
        replace_file(folder / f"{name}.md", lambda file: file.write(text))
        replace_file(folder / f"{name}.html", lambda file: file.write(pictured))

    def markdown(self) -> bytes:
        """The page as Markdown."""
        parts = [f"# {self.title}"]
        for heading, content in self.sections:
            parts += [f"## {heading}"] if heading else []
            parts += [_markdown(part) for part in content]
        return ("\n\n".join(parts) + "\n").encode()

    def html(self, folder: Path) -> bytes:
        """The page as HTML with the pictures of a folder in it."""
        title = html.escape(self.title)
        start = f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>'
        parts = [start, f"<style>{STYLE}</style>", f"<h1>{title}</h1>"]
        for heading, content in self.sections:
            parts += [f"<h2>{html.escape(heading)}</h2>"] if heading else []
            parts += [_html(part, folder) for part in content]
        return ("\n".join([*parts, "</html>"]) + "\n").encode()


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is of text, the others of numbers."""
    ruler = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ruler, *rows))


def _markdown(part: Part) -> str:
    if isinstance(part, Table):
        rows = [[cell.replace("|", r"\|") for cell in row] for row in (part.header, *part.rows)]
        return pipe_table(rows[0], rows[1:])
    if isinstance(part, Commands):
        return "\n".join(["```bash", *part.lines, "```"])
    if isinstance(part, Picture):
        return f"![{part.shows}]({part.file})\n\n{part.shows}"
    return part


def _html(part: Part, folder: Path) -> str:
    if isinstance(part, Table):
        rows = [("th", part.header), *(("td", row) for row in part.rows)]
        lines = [
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) for tag, cells in rows
        ]
        return "\n".join(["<table>", *(f"<tr>{line}</tr>" for line in lines), "</table>"])
    if isinstance(part, Commands):
        return f"<pre>{html.escape(chr(10).join(part.lines))}</pre>"
    if isinstance(part, Picture):
        content = base64.b64encode((folder / part.file).read_bytes()).decode()
        shows = html.escape(part.shows)
        return f'<p><img alt="{shows}" src="data:image/png;base64,{content}"></p>\n<p>{shows}</p>'
    return f"<p>{html.escape(part)}</p>"
