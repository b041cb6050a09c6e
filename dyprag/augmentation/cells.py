"""Rows of tables as the reader writes them, "Bridge: Old Bridge; Built: 1399.": the names of columns are what is asked
by, never an answer."""

import re

from dyprag.corpora.text.english import is_past

# The name of what stands behind it, as rows of tables have them.
_LABEL = re.compile(r"(?:^|(?<=;\s))[^\W\d_][^:;.!?]{1,40}?:(?=\s\S)")
_MOST_LABEL_WORDS = 4
_MOST_CELL_WORDS = 8
_PROSE = frozenset("the a an is are was were be been has have had do does did can may must should will would".split())
_YEAR = re.compile(r"1[0-9]\d\d|20\d\d")


def cells(sentence: str) -> list[tuple[str, int, int]]:
    """Of a row of a table, as the reader writes it ("Bridge: Old Bridge; Built: 1399."), the name of each cell and
    where the cell stands; nothing for any other sentence."""
    named = [match.span() for match in _LABEL.finditer(sentence)]
    named = [(start, end) for start, end in named if len(sentence[start:end].split()) <= _MOST_LABEL_WORDS]
    if not named or named[0][0] != 0 or sentence.endswith("?"):
        return []
    if _PROSE & set(sentence[: named[0][1] - 1].lower().split()):
        return []
    found = []
    for (start, end), until in zip(named, [*(start for start, _ in named[1:]), len(sentence)], strict=True):
        value = sentence[end:until].strip().rstrip(";").removesuffix(".").strip()
        place = sentence.index(value, end)
        found.append((sentence[start : end - 1].strip(), place, place + len(value)))
    words = sentence[found[0][1] : found[0][2]].split()
    if len(found) == 1 and (len(words) > _MOST_CELL_WORDS or _PROSE & {word.lower() for word in words}):
        return []  # a sentence with a colon
    return found


def cell_spans(about: str, sentence: str) -> list[tuple[int, int, str, tuple[str, ...]]]:
    """Of a row of a table (start, end, kind, how a question may begin) of each cell: it is asked for by its name, of
    what the row's first cell says or, where there is but one, of the document (`about`)."""
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
