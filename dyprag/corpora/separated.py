"""CSV, TSV and their kin: rows of cells, of which each that cannot be read is its own fault and no other's.

A quotation mark opens a cell only where it begins one, and is doubled inside of it. Lines are looked at one by one: a
mark that is never closed, or only by that of another row, costs its own row and not those behind it.
"""

import csv
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator

from dyprag.corpora.reading.encodings import binary, lines_of, undecodable
from dyprag.errors import DocumentError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
QUOTE = 'Put the cell in quotation marks, and double those inside of it: "so ""called""".'
_SAID = re.compile(r'"?sep=([^"\w\r\n])"?')  # the first line that Excel writes, and reads
_LEAST_TRIED = 100  # lines in which a quoted cell must end once others have never ended
_NEVER = "its quotation mark is never closed"
csv.field_size_limit(sys.maxsize)

Row = list[str] | DocumentError


class _Lines:
    """Lines that can be looked at before they are taken."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._rest = lines_of(stream)
        self._held: deque[str] = deque()
        self.number = 1  # of the next

    def at(self, place: int) -> str | None:
        """A line from the next one on, bytes that are not UTF-8 as lone surrogates; None behind the last."""
        while len(self._held) <= place:
            line = next(self._rest, None)
            if line is None:
                return None
            self._held.append(line.decode("utf-8", "surrogateescape"))
        return self._held[place]

    def drop(self, count: int) -> None:
        for _ in range(count):
            self._held.popleft()
        self.number += count


class SeparatedValues:
    """The rows of a file, its header read.

    Args:
        stream: its lines, in bytes.
        delimiter: what its name says stands between cells. Where the header has the wanted names only with another,
            that is taken.
        wanted: names that the header must have for that; the first of them is the rows' identity.

    Raises:
        DocumentError: the header is no text.
    """

    def __init__(self, stream: Iterable[bytes], delimiter: str, wanted: tuple[str, ...]) -> None:
        self._lines = _Lines(stream)
        said = self._begin()
        tried = [said] if said else list(dict.fromkeys((delimiter, *DELIMITERS)))
        headers = {one: self._header(one) for one in tried}
        chosen = next((one for one, header in headers.items() if set(wanted) <= set(header[0])), tried[0])
        self.delimiter, self.guessed = chosen, chosen not in (delimiter, said)
        self.names, used = headers[chosen]
        line = self._lines.at(0) or ""
        self._spaced = f"{chosen} " in line and not line.startswith(" ")  # a space after each delimiter means nothing
        self._identity = self.names.index(wanted[0]) if wanted[0] in self.names else 0
        self.literal = 0  # rows whose quotation marks are taken as they stand
        self._lines.drop(used)

    def _begin(self) -> str | None:
        """Pass over empty lines, and over one that says what stands between cells."""
        said = None
        while (line := self._lines.at(0)) is not None:
            if "\0" in line:
                raise binary("".join(filter(None, map(self._lines.at, range(20)))).encode("utf-8", "surrogateescape"))
            found = _SAID.fullmatch(line.strip("\r\n")) if self._lines.number == 1 else None
            said = found[1] if found else said
            if found is None and line.strip():
                break
            self._lines.drop(1)
        return said

    def _header(self, delimiter: str) -> tuple[list[str], int]:
        cells, used = self._record(delimiter, True, _LEAST_TRIED)
        line = self._lines.at(0) or ""
        if isinstance(cells, DocumentError):
            cells, used = _cut(line, delimiter), 1
        return _without_empty([_readable(cell).strip() for cell in cells], 0), used if line else 0

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """The number of each row's first line, and its cells, as many as the header has; or why it cannot be read."""
        most = sys.maxsize
        while (line := self._lines.at(0)) is not None:
            number = self._lines.number
            cells, used = self._record(self.delimiter, self._spaced, most)
            if isinstance(cells, DocumentError) and cells.reason == _NEVER:
                most = max(_LEAST_TRIED, min(most, used) // 2)  # or a file of such rows would be read for each of them
            if isinstance(cells, list) and used > 1 and self._are_rows(used):
                cells = DocumentError("", "its quotation mark is not closed in this row", QUOTE)
            if isinstance(cells, DocumentError):
                used = 1
                plain = _cut(line, self.delimiter)
                if self.delimiter == "\t" and len(_without_empty(plain, len(self.names))) == len(self.names):
                    cells, self.literal = plain, self.literal + 1  # most of these files know no quoting
            self._lines.drop(used)
            if isinstance(cells, DocumentError) or any(cell.strip() for cell in cells):
                yield number, cells if isinstance(cells, DocumentError) else self._checked(cells)

    def _record(self, delimiter: str, spaced: bool, most: int) -> tuple[Row, int]:
        """The next row, and how many lines it takes; they are not dropped."""
        line = self._lines.at(0) or ""
        if '"' not in line:
            cells = _cut(line, delimiter)
            return ([cell.lstrip(" ") for cell in cells] if spaced else cells), 1
        used = 0

        def lines() -> Iterator[str]:
            nonlocal used
            while used < most and (line := self._lines.at(used)) is not None:
                used += 1
                yield line

        try:
            return next(csv.reader(lines(), delimiter=delimiter, strict=True, skipinitialspace=spaced)), used
        except csv.Error as error:
            ended = "end of data" in str(error)
            return DocumentError(
                "", _NEVER if ended else "there is text after a cell's closing quotation mark", QUOTE
            ), used

    def _are_rows(self, count: int) -> bool:
        """Whether each of the next lines is a row by itself, so that a quoted cell over all of them is none."""
        rows = [_without_empty(_cut(self._lines.at(n) or "", self.delimiter), len(self.names)) for n in range(count)]
        if any(len(row) != len(self.names) for row in rows):
            return False
        first, *ids = (row[self._identity].strip(' "\r\n') for row in rows)
        return all(ids) and (self.delimiter == "\t" or all(_are_alike(first, other) for other in ids))

    def _checked(self, cells: list[str]) -> Row:
        cells, width = _without_empty(cells, len(self.names)), len(self.names)
        if bad := next((cell for cell in cells if not _is_text(cell)), None):
            if "\0" in bad:
                return DocumentError("", "it contains a NUL character", "Remove it.")
            data = bad.encode("utf-8", "surrogateescape")
            try:
                data.decode("utf-8")
            except UnicodeDecodeError as error:
                return undecodable(error, data, " of its cell")
        if len(cells) == width:
            return cells
        counts = f"it has {len(cells)} cell{'s' * (len(cells) != 1)}, and the header has {width}"
        if len(cells) > width:
            return DocumentError(
                "", counts, f"Put a cell with {DELIMITERS.get(self.delimiter, 'one')} in it in quotes."
            )
        return DocumentError("", counts, "Write all its cells; one of several lines stands in quotes.")


def _cut(line: str, delimiter: str) -> list[str]:
    """A line's cells, if quotation marks mean nothing."""
    return line.rstrip("\r\n").split(delimiter)


def _without_empty(cells: list[str], least: int) -> list[str]:
    """Without the empty cells at the end, as spreadsheets write them; so many stay."""
    count = len(cells)
    while count > least and not cells[count - 1].strip():
        count -= 1
    return cells[:count]


def _are_alike(one: str, other: str) -> bool:
    """Whether two words could both be ids of one file: of the same make, or of one length and with digits."""

    def make(word: str) -> str:
        return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "0", word)))

    numbered = len(one) == len(other) and any(map(str.isdigit, one)) and any(map(str.isdigit, other))
    return not re.search(r"\s", other) and (make(one) == make(other) or numbered)


def _is_text(cell: str) -> bool:
    return "\0" not in cell and not any("\udc80" <= letter <= "\udcff" for letter in cell)


def _readable(cell: str) -> str:
    """A header's cell; letters of another encoding in a name that nobody wants are no fault."""
    return cell.encode("utf-8", "replace").decode()
