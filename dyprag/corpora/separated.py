"""Read CSV, TSV and similar files, so that a malformed row does not affect the others.

A quotation mark opens a cell only at the cell's beginning, and is doubled inside it. Lines are inspected one by one, so
that a mark that is never closed, or is closed only by a mark of another row, costs its own row and not the rows after
it.
"""

import csv
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator

from dyprag.corpora.reading.encodings import binary, lines_of, undecodable
from dyprag.corpora.text.forms import encodable
from dyprag.errors import DocumentError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
QUOTE = 'Put the cell in quotation marks, and double those inside it: "so ""called""".'
_SEPARATOR_LINE = re.compile(r'"?sep=([^"\w\r\n])"?')  # a first line that declares the delimiter, as Excel writes it
_LEAST_TRIED = 100  # minimum number of lines searched for the end of a quoted cell after others did not end
_NEVER = "its quotation mark is never closed"
csv.field_size_limit(sys.maxsize)

Row = list[str] | DocumentError


class _Lines:
    """A stream of lines with lookahead."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._rest = lines_of(stream)
        self._buffer: deque[str] = deque()
        self.number = 1  # of the next line

    def at(self, offset: int) -> str | None:
        """Return the line at an offset from the next one; None after the last line.

        Bytes that are not UTF-8 become lone surrogates.
        """
        while len(self._buffer) <= offset:
            line = next(self._rest, None)
            if line is None:
                return None
            self._buffer.append(line.decode("utf-8", "surrogateescape"))
        return self._buffer[offset]

    def drop(self, count: int) -> None:
        for _ in range(count):
            self._buffer.popleft()
        self.number += count


class SeparatedValues:
    """The rows of a file, whose header has been read.

    Args:
        stream: the lines of the file, in bytes.
        delimiter: the delimiter that the file's name implies. If the header has the wanted names only with another
            delimiter, that one is used.
        wanted: the names that the header must contain; the first of them is the id column.

    Raises:
        DocumentError: the header is not text.
    """

    def __init__(self, stream: Iterable[bytes], delimiter: str, wanted: tuple[str, ...]) -> None:
        self._lines = _Lines(stream)
        declared = self._begin()
        candidates = [declared] if declared else list(dict.fromkeys((delimiter, *DELIMITERS)))
        headers = {candidate: self._header(candidate) for candidate in candidates}
        chosen = next((key for key, header in headers.items() if set(wanted) <= set(header[0])), candidates[0])
        self.delimiter, self.guessed = chosen, chosen not in (delimiter, declared)
        self.names, used = headers[chosen]
        line = self._lines.at(0) or ""
        self._spaced = f"{chosen} " in line and not line.startswith(" ")  # ignore a space after each delimiter
        self._identity = self.names.index(wanted[0]) if wanted[0] in self.names else 0
        self.literal = 0  # number of rows whose quotation marks are part of the text
        self._lines.drop(used)

    def _begin(self) -> str | None:
        """Skip empty lines and a line that declares the delimiter; return that delimiter."""
        declared = None
        while (line := self._lines.at(0)) is not None:
            if "\0" in line:
                raise binary("".join(filter(None, map(self._lines.at, range(20)))).encode("utf-8", "surrogateescape"))
            match = _SEPARATOR_LINE.fullmatch(line.strip("\r\n")) if self._lines.number == 1 else None
            declared = match[1] if match else declared
            if match is None and line.strip():
                break
            self._lines.drop(1)
        return declared

    def _header(self, delimiter: str) -> tuple[list[str], int]:
        cells, used = self._record(delimiter, True, _LEAST_TRIED)
        line = self._lines.at(0) or ""
        if isinstance(cells, DocumentError):
            cells, used = _cut(line, delimiter), 1
        return _without_empty([_readable(cell).strip() for cell in cells], 0), used if line else 0

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Yield the number of each row's first line, and its cells, as many as in the header, or its error."""
        most = sys.maxsize
        while (line := self._lines.at(0)) is not None:
            number = self._lines.number
            cells, used = self._record(self.delimiter, self._spaced, most)
            if isinstance(cells, DocumentError) and cells.reason == _NEVER:
                most = max(_LEAST_TRIED, min(most, used) // 2)  # otherwise each such row would scan the whole file
            if isinstance(cells, list) and used > 1 and self._are_rows(used):
                cells = DocumentError("", "its quotation mark is not closed in this row", QUOTE)
            if isinstance(cells, DocumentError):
                used = 1
                plain = _cut(line, self.delimiter)
                if self.delimiter == "\t" and len(_without_empty(plain, len(self.names))) == len(self.names):
                    cells, self.literal = plain, self.literal + 1  # most TSV files do not use quoting
            self._lines.drop(used)
            if isinstance(cells, DocumentError) or any(cell.strip() for cell in cells):
                yield number, cells if isinstance(cells, DocumentError) else self._checked(cells)

    def _record(self, delimiter: str, spaced: bool, most: int) -> tuple[Row, int]:
        """Return the next row and the number of its lines, without dropping them."""
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
        """Whether each of the next lines is a complete row, so that they are not one multi-line quoted cell."""
        rows = [_without_empty(_cut(self._lines.at(n) or "", self.delimiter), len(self.names)) for n in range(count)]
        if any(len(row) != len(self.names) for row in rows):
            return False
        first, *ids = (row[self._identity].strip(' "\r\n') for row in rows)
        return all(ids) and (self.delimiter == "\t" or all(_are_similar(first, identity) for identity in ids))

    def _checked(self, cells: list[str]) -> Row:
        cells, width = _without_empty(cells, len(self.names)), len(self.names)
        if bad := next((cell for cell in cells if not _is_text(cell)), None):
            if "\0" in bad:
                return DocumentError("", "it contains a NUL character", "Remove it.")
            data = bad.encode("utf-8", "surrogateescape")
            try:
                data.decode("utf-8")
            except UnicodeDecodeError as error:
                return undecodable(error, data, " of the cell")
        if len(cells) == width:
            return cells
        reason = f"it has {len(cells)} cell{'s' * (len(cells) != 1)}, and the header has {width}"
        if len(cells) > width:
            delimiters = DELIMITERS.get(self.delimiter, "the delimiter")
            return DocumentError("", reason, f"Put cells that contain {delimiters} in quotes.")
        return DocumentError(
            "", reason, "Add the missing cells (they may be empty), and put a cell with line breaks in quotes."
        )


def _cut(line: str, delimiter: str) -> list[str]:
    """Split a line into cells, without interpreting quotation marks."""
    return line.rstrip("\r\n").split(delimiter)


def _without_empty(cells: list[str], least: int) -> list[str]:
    """Remove the empty cells at the end, which spreadsheets write, but keep at least `least` cells."""
    count = len(cells)
    while count > least and not cells[count - 1].strip():
        count -= 1
    return cells[:count]


def _are_similar(first: str, second: str) -> bool:
    """Whether two words could be ids of the same file: they have the same pattern, or the same length and digits."""

    def pattern(word: str) -> str:
        return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "0", word)))

    numbered = len(first) == len(second) and any(map(str.isdigit, first)) and any(map(str.isdigit, second))
    return not re.search(r"\s", second) and (pattern(first) == pattern(second) or numbered)


def _is_text(cell: str) -> bool:
    return "\0" not in cell and not any("\udc80" <= letter <= "\udcff" for letter in cell)


def _readable(cell: str) -> str:
    """Return a header's cell. Bytes of another encoding are replaced, because they may be in an unused column."""
    return encodable(cell)
