"""Table rows as the reader writes them, "Bridge: Old Bridge; Built: 1399.".

Questions use the names of the columns, which are never answers.
"""

import re

from dyprag.corpora.text.english import is_past

# The column name before a cell.
_LABEL = re.compile(r"(?:^|(?<=;\s))[^\W\d_][^:;.!?]{1,40}?:(?=\s\S)")
_MOST_LABEL_WORDS = 4
_MOST_CELL_WORDS = 8
_PROSE = frozenset("the a an is are was were be been has have had do does did can may must should will would".split())
_YEAR = re.compile(r"1[0-9]\d\d|20\d\d")


def cells(sentence: str) -> list[tuple[str, int, int]]:
    """The cells of a table row ("Bridge: Old Bridge; Built: 1399.") as (column name, start, end).

    Empty for any other sentence.
    """
    labels = [match.span() for match in _LABEL.finditer(sentence)]
    labels = [(start, end) for start, end in labels if len(sentence[start:end].split()) <= _MOST_LABEL_WORDS]
    if not labels or labels[0][0] != 0 or sentence.endswith("?"):
        return []
    if _PROSE & set(sentence[: labels[0][1] - 1].lower().split()):
        return []
    row = []
    for (start, end), until in zip(labels, [*(start for start, _ in labels[1:]), len(sentence)], strict=True):
        value = sentence[end:until].strip().rstrip(";").removesuffix(".").strip()
        position = sentence.index(value, end)
        row.append((sentence[start : end - 1].strip(), position, position + len(value)))
    words = sentence[row[0][1] : row[0][2]].split()
    if len(row) == 1 and (len(words) > _MOST_CELL_WORDS or _PROSE & {word.lower() for word in words}):
        return []  # a sentence with a colon
    return row


def cell_spans(about: str, sentence: str) -> list[tuple[int, int, str, tuple[str, ...]]]:
    """The cells of a table row as answer spans: (start, end, kind, ways to begin a question).

    A question names a cell's column and the row's first cell. In a row of one cell it names `about` instead.
    """
    row = cells(sentence)
    asked = row if len(row) == 1 else row[1:]
    if len(row) > 1:
        about = sentence[row[0][1] : row[0][2]]
    return [
        (start, end, "cell", _cell_starts(label, sentence[start:end], about))
        for label, start, end in asked
        if about and 0 < len(sentence[start:end].split()) <= _MOST_CELL_WORDS
    ]


def _cell_starts(label: str, value: str, about: str) -> tuple[str, ...]:
    label = f"{label[0].lower()}{label[1:]}" if label[1:].islower() else label
    if not is_past(label.split()[-1].lower()):
        return (f"What is the {label} of {about}?",)
    return (f"In which year was {about} {label}?",) if _YEAR.fullmatch(value) else ()
