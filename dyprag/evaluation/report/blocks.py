"""The building blocks of reports, and their rendering as Markdown, HTML or plain text."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SHORT = 32  # cells up to this many characters are not wrapped


@dataclass(frozen=True)
class Heading:
    """A heading. Level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Table:
    """A table. Its first `left` columns contain text, the others numbers.

    groups: titles of groups of rows, by the index of the group's first row.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int
    groups: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A PNG file in the report's folder, with its alternative text."""

    file: Path
    words: str


@dataclass(frozen=True)
class Code:
    """Preformatted text."""

    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that are collapsed until opened, in formats that support it."""

    title: str
    blocks: "Sequence[Block]"


Block = Heading | Table | Picture | Code | Details | str  # a string is a paragraph


def markdown(blocks: Sequence[Block]) -> str:
    """Render blocks as Markdown without HTML."""
    return "\n\n".join(map(_markdown, blocks))


def page(blocks: Sequence[Block]) -> str:
    """Render blocks as HTML with embedded pictures. Headings of level 2 have anchors, which `contents` links to."""
    return "\n".join(_html(block) for block in blocks)


def contents(blocks: Sequence[Block]) -> str:
    """Render links to the sections of a page."""
    titles = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    return "<nav>" + " ".join(f'<a href="#{_anchor(t)}">{html.escape(t)}</a>' for t in titles) + "</nav>"


def plain(table: Table) -> str:
    """Render a table as plain text in columns of fixed width."""
    lines = [list(table.header), *map(list, table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    formatted = [
        "  ".join(
            cell.ljust(width) if index < table.left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    for index in sorted(table.groups, reverse=True):
        formatted.insert(index + 1, f"- {table.groups[index]} ".ljust(len(rule), "-"))
    return "\n".join([formatted[0], rule, *formatted[1:]])


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return "#" * level + " " + _escaped(text)
        case Picture(file, words):
            return f"![{words}]({file.name})"
        case Code(text):
            return f"~~~~\n{text}\n~~~~"
        case Details(title, blocks):
            return f"**{_escaped(title)}**\n\n{markdown(blocks)}"
        case Table(header, rows, left, groups):
            rule = [":---" if index < left else "---:" for index in range(len(header))]
            lines = [[_escaped(cell) for cell in header], rule]
            for index, row in enumerate(rows):
                if index in groups:
                    lines.append([f"**{_escaped(groups[index])}**", *[""] * (len(header) - 1)])
                lines.append([_escaped(cell) for cell in row])
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return _escaped(block)


def _escaped(text: str) -> str:
    """Escape text for a single line in a Markdown table, without HTML tags."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            anchor = f' id="{_anchor(text)}"' if level == 2 else ""
            return f"<h{level}{anchor}>{html.escape(text)}</h{level}>"
        case Picture(file, words):
            content = base64.b64encode(file.read_bytes()).decode("ascii")
            return f'<p><img alt="{html.escape(words)}" src="data:image/png;base64,{content}"></p>'
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Details(title, blocks):
            return f"<details><summary>{html.escape(title)}</summary>\n{page(blocks)}\n</details>"
        case Table(header, rows, left, groups):
            lines = [_row(header, "th", left)]
            for index, row in enumerate(rows):
                if index in groups:
                    lines.append(
                        f'<tr class="group"><th colspan="{len(header)}">{html.escape(groups[index])}</th></tr>'
                    )
                lines.append(_row(row, "td", left))
            return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"
    return f"<p>{html.escape(block)}</p>"


def _row(cells: Sequence[str], tag: str, left: int) -> str:
    classes = ["number" if index >= left else "short" if len(cell) <= SHORT else "" for index, cell in enumerate(cells)]
    opening_tags = [f'<{tag} class="{css_class}">' if css_class else f"<{tag}>" for css_class in classes]
    return (
        "<tr>"
        + "".join(opening + html.escape(cell) + f"</{tag}>" for opening, cell in zip(opening_tags, cells, strict=True))
        + "</tr>"
    )


def _anchor(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())
