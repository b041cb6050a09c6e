"""Tables as sentences, one a row, each cell with the name of its column: 'Bridge: Old Bridge; Built: 1399.'

A column's name alone says nothing, and a cell without it is a riddle. A row stays one sentence, so that no value is
parted from what it is a value of.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dyprag.corpora.reading.blocks import Block, Kind

TABLE_LEVEL = 7  # of headings inside of tables: below all others
_DIGIT = re.compile(r"\d")
_END = re.compile(r"[.!?…。！？][\"'”’)\]]?$")


@dataclass(frozen=True)
class Cell:
    """A cell's text, whether it is a heading, and whether it is the first place of a cell that spans several."""

    text: str
    heading: bool = False
    own: bool = True


Row = Sequence[Cell]


def row_blocks(rows: Sequence[Row], linked: float = 0.0) -> Iterator[Block]:
    """A table's rows as sentences; rows that only name columns become the names of the cells below them, and a cell
    over the whole width a heading of the rows below it.

    Args:
        linked: the share of the table's letters that lead elsewhere.
    """
    filled = [row for row in rows if any(cell.text for cell in row)]
    names, begin = _names(filled)
    unused: Row = ()  # names of columns below which nothing has come yet
    for row in filled[begin:]:
        own = [cell for cell in row if cell.own and cell.text]
        if _only_names(row):
            if unused:
                yield Block(Kind.ROW, _sentence(unused, []), linked=linked)
            names, unused = [_joined(cell.text) for cell in row], row  # the columns have other names from here on
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
    """The columns' names, and the number of the rows that they stand in."""
    width = max(map(len, rows), default=0)
    count = 0
    while count < len(rows) and _only_names(rows[count]):
        count += 1
    if count == len(rows):  # nothing but headings: they are what there is
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
    """Whether a row has headings alone; the corner above a column of them may be empty."""
    return sum(cell.own for cell in row) > 1 and all(cell.heading for cell in row if cell.text)


def _seems_named(rows: Sequence[Row], width: int) -> bool:
    """Whether the first row names columns though it is not marked: it has no number where all below it have one."""
    if len(rows[0]) < width or width < 2 or any(not c.text or _DIGIT.search(c.text) for c in rows[0]):
        return False
    return any(all(c < len(row) and _DIGIT.search(row[c].text) for row in rows[1:]) for c in range(width))


def _is_value(row: Row, cell: Cell) -> bool:
    """Whether the only cell with text is one of several, the others of which are empty."""
    return not cell.heading and sum(other.own for other in row) > 1


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
    """A cell's text on one line, its final colon or full stop taken off: the sentence has its own."""
    return re.sub(r"(?<=\w)[.:]$", "", " ".join(text.split()))
