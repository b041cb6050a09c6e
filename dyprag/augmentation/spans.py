"""Answer candidates: spans of a passage that a short answer could be, and how a question for each may begin.

A model too small to invent sound question-answer pairs can still ask for an answer that is given to it.
"""

import re
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_](?:[\w'’.-]*[^\W_])?")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]?\s+(?=[\"'“‘(]?[^\W\d_a-zà-öø-ÿ])")
_YEAR = re.compile(r"1[0-9]\d\d|20\d\d")
_MEASURE = re.compile(r"(\d[\d.,]*)\s+([^\W\d_]+)")
# Function words and common verbs end a span, so that what is left are names and noun phrases.
_BREAKS = frozenset(
    """
    a an the and or but nor so yet of in on at by for to from with without into onto over under after before between
    above below behind beside beneath across along around inside outside within upon toward towards beyond among
    through during until since as than that which who whom whose what when where why how this these those it its he
    she they them his her their him i you we our us your my me is are was were be been being am do does did done has
    have had having will would can could shall should may might must not no only also very too more most much many
    any all each every some such own other another one there here then now once still never always ever again just
    even both either neither if because while although though up down out off about against per via like near called
    named known nicknamed made makes make built build builds founded found opened open began begin begins become
    became won sold sells said says took take takes gave give gives came come comes went goes run runs ran keep
    keeps kept held holds carries carry wrote write writes born employ employs employed weighs weigh measures leave
    leaves left bring brings brought lies lie stands stand hangs remains remain seen use uses used serve served
    serves start started starts destroyed sets commanded remembered reports learned spent invented designed
    discovered launched elected introduced directed published lives lived works worked painted carved played plays
    """.split()
)


@dataclass(frozen=True)
class Candidate:
    """An answer span, the sentence it stands in, and the words a question for it could begin with."""

    sentence: str
    answer: str
    start: str


def sentences(text: str) -> list[str]:
    """Split a text into sentences, roughly: behind a full stop, question or exclamation mark before a capital."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def candidates(title: str, text: str) -> list[Candidate]:
    """Every (answer, question start) worth trying in a passage, without repetition: numbers and names before other
    spans, each in the order of the text."""
    found: dict[tuple[str, str], Candidate] = {}
    for sentence in sentences(text):
        for position, span in _spans(sentence):
            if span.lower() in title.lower():
                continue
            answer, starts = _question_starts(span, first=position == 0)
            for start in starts:
                found.setdefault((answer, start), Candidate(sentence, answer, start))
    return sorted(found.values(), key=lambda candidate: candidate.start == "What")


def key_terms(text: str) -> set[str]:
    """Numbers and names of a text (words with a digit or a capital inside a sentence): what a rewrite must keep."""
    terms = set()
    for sentence in sentences(text):
        for position, match in enumerate(_WORD.finditer(sentence)):
            word = match.group()
            if any(c.isdigit() for c in word) or (position > 0 and word[0].isupper() and word.lower() not in _BREAKS):
                terms.add(word)
    return terms


def _spans(sentence: str) -> list[tuple[int, str]]:
    """(position in the sentence, text) of runs of up to four content words."""
    runs: list[list[re.Match[str]]] = [[]]
    for match in _WORD.finditer(sentence):
        run = runs[-1]
        if run and re.search(r"[^\s]", sentence[run[-1].end() : match.start()]):
            runs.append([])
        word = match.group().lower()
        if word in _BREAKS or (word.endswith("ly") and len(word) > 4):
            runs.append([])
        else:
            runs[-1].append(match)
    return [
        (run[0].start(), sentence[run[0].start() : run[-1].end()])
        for run in runs
        if run and len(run) <= 4 and run[-1].end() - run[0].start() > 2
    ]


def _question_starts(span: str, first: bool) -> tuple[str, tuple[str, ...]]:
    """The answer that a span stands for, and how a question for it may begin."""
    if _YEAR.fullmatch(span):
        return span, ("In which year",)
    if measure := _MEASURE.search(span):
        return f"{measure[1]} {measure[2]}", (f"How many {measure[2]}",)
    if span[0].isdigit():
        return span, ("What number",)
    words = span.split()
    if span[0].isupper() and len(words) > 1:
        return span, ("Who", "Which")
    if span[0].isupper():
        return span, () if first else ("Where", "Who")
    return span, ("What",) if len(words) > 1 else ()
