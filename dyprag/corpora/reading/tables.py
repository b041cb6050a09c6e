"""Convert tables to sentences, one per row, with the column's name before each cell: 'Bridge: Old Bridge; Built: 1399.'

A cell has no meaning without the name of its column. A row stays one sentence, so that splitting a document never
separates a value from its subject.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dyprag.corpora.reading.blocks import Block, Kind

TABLE_LEVEL = 7  # level of headings inside tables, below all other headings
_DIGIT = re.compile(r"\d")
_END = re.compile(r"[.!?…。！？][\"'”’)\]]?$")


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: the cell's text.
        heading: whether the cell is a heading.
        own: whether this is the first position of the cell; False for further positions of a cell that spans several.
    """

    text: str
    heading: bool = False
    own: bool = True


Row = Sequence[Cell]


def row_blocks(rows: Sequence[Row], linked: float = 0.0) -> Iterator[Block]:
    """Yield a table's rows as sentences.

    Rows of headings give the names of the columns below them. A cell over the whole width becomes a heading.

    Args:
        rows: the table's rows.
        linked: the share of the table's letters that are in links.
    """
    filled = [row for row in rows if any(cell.text for cell in row)]
    names, begin = _names(filled)
    unused: Row = ()  # a row of headings that no other row has followed yet
    for row in filled[begin:]:
        own = [cell for cell in row if cell.own and cell.text]
        if _only_names(row):
            if unused:
                yield Block(Kind.ROW, _sentence(unused, []), linked=linked)
            names, unused = [_joined(cell.text) for cell in row], row  # new names for the following rows
            continue
        if unused and len(own) > 1:
            unused = ()
        if len(own) == 1 and len(row) > 1 and not _is_value(row, own[0]):
            yield Block(Kind.HEADING, own[0].text, TABLE_LEVEL, linked)
        else:
            yield Block(Kind.ROW, _sentence(row, names), linked=linked)
    if unused:
        yield Block(Kind.ROW, _sentence(unused, []), linked=linked)


def _names(rows: Sequence[Row]) -> tuple[list[str], int]:
    """Return the columns' names and the number of rows that contain them."""
    width = max(map(len, rows), default=0)
    count = 0
    while count < len(rows) and _only_names(rows[count]):
        count += 1
    if count == len(rows):  # a table of headings only has no other content
        count = 0
    if not count and len(rows) > 2 and not any(c.heading for row in rows for c in row) and _seems_named(rows, width):
        count = 1
    if not count:
        return [], 0
    names = []
    for column in range(width):
        parts = [row[column].text for row in rows[:count] if column < len(row) and row[column].text]
        names.append(_joined(" ".join(dict.fromkeys(parts))))
    return names, count


def _only_names(row: Row) -> bool:
    """Whether a row contains only headings; empty cells are allowed."""
    return sum(cell.own for cell in row) > 1 and all(cell.heading for cell in row if cell.text)


def _seems_named(rows: Sequence[Row], width: int) -> bool:
    """Whether an unmarked first row names the columns: it has no numbers, and a column below it has only numbers."""
    if len(rows[0]) < width or width < 2 or any(not c.text or _DIGIT.search(c.text) for c in rows[0]):
        return False
    return any(all(c < len(row) and _DIGIT.search(row[c].text) for row in rows[1:]) for c in range(width))


def _is_value(row: Row, cell: Cell) -> bool:
    """Whether the only cell with text is one of several cells, the others being empty."""
    return not cell.heading and sum(each.own for each in row) > 1


def _sentence(row: Row, names: Sequence[str]) -> str:
    cells = [(names[i] if i < len(names) else "", c) for i, c in enumerate(row) if c.own and c.text]
    texts = [_joined(cell.text) for _, cell in cells]
    if any(name for name, _ in cells):
        parts = [f"{name}: {text}" if name else text for (name, _), text in zip(cells, texts, strict=True)]
        text = "; ".join(parts)
    elif len(texts) > 1 and (cells[0][1].heading or len(row) == 2):
        text = f"{texts[0].rstrip(':')}: {', '.join(texts[1:])}"
    else:
        text = "; ".join(texts)
    return text if _END.search(text) else f"{text}."


def _joined(text: str) -> str:
    """Return a cell's text on one line, without a final colon or full stop, since the sentence adds its own."""
    return re.sub(r"(?<=\w)[.:]$", "", " ".join(text.split()))
