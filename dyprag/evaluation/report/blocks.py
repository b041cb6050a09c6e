"""The parts that a report is put together from, and how each is written as Markdown, HTML or plain text."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SHORT = 32  # characters that stay on one line


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Table:
    """A table whose first `left` columns hold words and the others numbers. groups: titles that set rows apart, by the
    place of the row that they stand before."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int
    groups: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A PNG file in the report's folder, with the words for those who cannot see it."""

    file: Path
    words: str


@dataclass(frozen=True)
class Code:
    """Text that keeps its lines."""

    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that a reader opens on demand, where the page can fold."""

    title: str
    blocks: "Sequence[Block]"


Block = Heading | Table | Picture | Code | Details | str  # a plain text is a paragraph


def markdown(blocks: Sequence[Block]) -> str:
    """The blocks as Markdown without any HTML."""
    return "\n\n".join(map(_markdown, blocks))


def page(blocks: Sequence[Block]) -> str:
    """The blocks as HTML, pictures included; headings of level 2 can be linked to, as `contents` does."""
    return "\n".join(_html(block) for block in blocks)


def contents(blocks: Sequence[Block]) -> str:
    """Links to the page's parts."""
    titles = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    return "<nav>" + " ".join(f'<a href="#{_anchor(t)}">{html.escape(t)}</a>' for t in titles) + "</nav>"


def plain(table: Table) -> str:
    """A table for a terminal, in columns of fixed width."""
    lines = [list(table.header), *map(list, table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    written = [
        "  ".join(
            cell.ljust(width) if place < table.left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    for place in sorted(table.groups, reverse=True):
        written.insert(place + 1, f"- {table.groups[place]} ".ljust(len(rule), "-"))
    return "\n".join([written[0], rule, *written[1:]])


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
            rule = [":---" if place < left else "---:" for place in range(len(header))]
            lines = [[_escaped(cell) for cell in header], rule]
            for place, row in enumerate(rows):
                if place in groups:
                    lines.append([f"**{_escaped(groups[place])}**", *[""] * (len(header) - 1)])
                lines.append([_escaped(cell) for cell in row])
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return _escaped(block)


def _escaped(text: str) -> str:
    """Text on one line that neither ends a table's cell nor starts an HTML tag."""
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
            for place, row in enumerate(rows):
                if place in groups:
                    lines.append(
                        f'<tr class="group"><th colspan="{len(header)}">{html.escape(groups[place])}</th></tr>'
                    )
                lines.append(_row(row, "td", left))
            return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"
    return f"<p>{html.escape(block)}</p>"


def _row(cells: Sequence[str], tag: str, left: int) -> str:
    kinds = ["number" if place >= left else "short" if len(cell) <= SHORT else "" for place, cell in enumerate(cells)]
    opening = [f'<{tag} class="{kind}">' if kind else f"<{tag}>" for kind in kinds]
    return "<tr>" + "".join(o + html.escape(c) + f"</{tag}>" for o, c in zip(opening, cells, strict=True)) + "</tr>"


def _anchor(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())
