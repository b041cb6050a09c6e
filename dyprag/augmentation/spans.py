"""Answer candidates: spans of a passage that could be short answers, with first words of questions for them.

A model too small to invent sound question-answer pairs can still complete a question if it gets the answer and the
first words. The words around a name ("the curator, …", "founded by …") suggest what to ask.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dyprag.augmentation.cells import cell_spans, cells
from dyprag.corpora.text.english import (
    BREAKS,
    MONTHS,
    NUMBERS,
    ORDINALS,
    PLACE_KINDS,
    PLURALS,
    TIME_UNITS,
    is_past,
    past_of,
)
from dyprag.corpora.text.sentences import block_sentences
from dyprag.corpora.text.words import WORD

LEAST_WORDS = 3  # shorter sentences say nothing without those before them
_YEAR = re.compile(r"1[0-9]\d\d|20\d\d")
_OPENERS = frozenset("a an the of in with from by on at for its his her their into like over under as".split())
_PRONOUNS = frozenset("it he she they".split())
_AFTER_VERB = _OPENERS | frozenset("when if until after before up down out off only again".split())
_CLAUSE = re.compile(r"[,;:(]|\b(?:who|which|that|when|where|why|how|while|because|if|and|but)\b")
_NO_VERBS = _OPENERS | frozenset("one each every this that these those some any all both no other another".split())
_DETERMINERS = frozenset("the a an its his her their".split())
_COPULAS = frozenset("is are was were".split())
_WHERE = frozenset("in at on near below beneath under".split())
_PLACES = frozenset("in at near outside off from to".split())
_ARTICLE = r"\b(?:the|an?|its|his|her|their|our|my)\s"
_NOUN = r"((?:[a-z'-]+\s){0,2}?[a-z'-]+)"
_NAMED = re.compile(_ARTICLE + _NOUN + r",?\s(?:was\s|is\s)?(?:called|named|nicknamed)\s$", re.I)
_ROLE_BEFORE = re.compile(r"(?<!\bof )" + _ARTICLE + _NOUN + r"(?:,\s(?:an?\s|the\s)?|\s)$", re.I)
_PLACE_BEFORE = re.compile(_ARTICLE + r"((?:[a-z'-]+\s)?[a-z]+)\sof\s$", re.I)
_ROLE_AFTER = re.compile(
    r"^,?\s(?:an?|the|is an?|is the|was an?)\s([a-z-]+(?:\s[a-z-]+)?)(?=[,.;]|\s(?:of|who|from|in|at)\b)"
)
_DOER_BEFORE = re.compile(
    r"\b([a-z]+)(?:\s(?:in|around|on|at)\s[^,;:]{1,20}?)?\sby\s(?:the\s|an?\s)?((?:[a-z'-]+\s){0,3})$"
)
_DOER_AFTER = re.compile(r"^(,?\swho)?\s([a-z]+)\b")
_SUBJECT = r"(?<!\bof )\b(it|he|she|they|(?:the|an?|its|his|her|their)\s(?:[\w'-]+\s)?[\w'-]+?)"
_HEAD = rf"(?:{_SUBJECT}|^([A-Z][a-z]+(?:\s[a-z]+)?))"  # or the bare noun that a sentence begins with
# "It was founded … in", "the moat was drained in"; "the school, opened in"; or, of the title, at a sentence's head
# "Founded in"
_DONE = r"([a-z]+)\s(?:[^,;:]+\s)?(?:in|around)\s$"
_WAS_DONE = re.compile(_SUBJECT + r"(?:\s(?:was|were)\s|,\s)" + _DONE, re.I)
_HEAD_DONE = re.compile(r"^" + _DONE, re.I)
_DOES = re.compile(_SUBJECT + r"\s(?:now\s|only\s)?(has|[a-z]+[^s\W]s)\s(?:about\s|only\s)?$", re.I)
_IS = re.compile(_SUBJECT + r"\s(?:is|was)\s(?:about\s|only\s)?$", re.I)
_STATE = re.compile(_SUBJECT + r"\s(is|was|are|were)\s(?:an?\s|the\s)?$", re.I)
_DONE_WITH = re.compile(
    _HEAD + r"\s(is|was|are|were)\s(?:[a-z]+ly\s|often\s|now\s|only\s|always\s|still\s)?([a-z]+)\s"
    r"(with|from|of|in|at|on|near|below|beneath|under|into|to|for)\s(?:an?\s|the\s)?$",
    re.I,
)
_DIMENSION = re.compile(r"^\s(tall|long|wide|high|deep|thick|old)\b")


@dataclass(frozen=True)
class Candidate:
    """An answer span in its sentence.

    `starts` are first words of questions; those with a question mark are complete. Without any, only a gap in the
    sentence can ask for the answer.
    """

    sentence: str
    answer: str
    place: int  # index of the answer in the sentence
    starts: tuple[str, ...]

    @property
    def gap(self) -> str:
        """The sentence with a gap in place of the answer."""
        return f"{self.sentence[: self.place]}___{self.sentence[self.place + len(self.answer) :]}"


def candidates(title: str, text: str) -> list[Candidate]:
    """The distinct answer candidates of a passage.

    Numbers and names come before other spans, and spans of several words before single words, each in text order.
    """
    ranked: dict[str, tuple[int, Candidate]] = {}
    for sentence in block_sentences(text):
        row = cell_spans(inside(title), sentence)
        spans = [(*span, None) for span in _spans(sentence)] if not cells(sentence) else []
        for start, end, kind, asked in row or spans:
            answer = sentence[start:end]
            known = answer.lower() in title.lower() or (title and f" {title.lower()} " in f" {answer.lower()} ")
            if not known and sentence.count(answer) == 1 and (row or len(sentence.split()) > LEAST_WORDS):
                rank = 0 if kind != "noun" else 1 if " " in answer else 2
                starts = _starts(title, sentence, start, end, kind) if asked is None else asked
                candidate = Candidate(sentence, answer, start, starts)
                ranked.setdefault(answer, (rank, candidate))
    return [candidate for _, candidate in sorted(ranked.values(), key=lambda item: item[0])]


def key_terms(text: str) -> set[str]:
    """The numbers and names that a rewrite must keep: words with a digit, or capitalised within a sentence."""
    terms = set()
    for sentence in block_sentences(text):
        for position, match in enumerate(WORD.finditer(sentence)):
            word = match.group()
            if any(c.isdigit() for c in word) or (position > 0 and word[0].isupper() and word.lower() not in BREAKS):
                terms.add(word)
    return terms


def _spans(sentence: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, kind) of years, measures, names and noun phrases, from left to right."""
    words, index = list(WORD.finditer(sentence)), 0
    while index < len(words):
        last, kind = _span_at(sentence, words, index)
        start, end = words[index].start(), words[last].end()
        if kind == "name" and sentence[start:end].endswith(("'s", "’s")):
            end -= 2
        if kind and end - start > 2:
            yield start, end, kind
        index = last + 1


def _span_at(sentence: str, words: list[re.Match[str]], index: int) -> tuple[int, str]:
    """The last word of the span that starts at a word, and its kind; "" if no span starts there."""

    def word(position: int) -> str:
        """The word at an index if only whitespace separates it from the previous word, else ""."""
        beside = 0 < position < len(words) and sentence[words[position - 1].end() : words[position].start()].isspace()
        return words[position].group() if beside else ""

    def goes_on(position: int) -> bool:
        text = word(position)
        return text[:1].islower() and text not in BREAKS | NUMBERS and not text.endswith("ly")

    text, before, last = words[index].group(), word(index).lower() and words[index - 1].group().lower(), index
    if text[0].isdigit() or text in NUMBERS:
        if before in MONTHS | NUMBERS or before[:1].isdigit() or word(index + 1).lower() in MONTHS:
            return index, ""  # part of a date or of a larger number
        if _YEAR.fullmatch(text):
            return index, "year"
        unit = word(index + 1)
        if not goes_on(index + 1) or is_past(unit) or "'" in unit:
            return index, ""
        plural = unit.endswith("s") or unit in PLURALS or not goes_on(index + 2)
        return index + (1 if plural else 2), "measure"
    if text[0].isupper() and text.lower() not in BREAKS:
        last = _last_of_name(word, index)
        day = text.lower() in MONTHS or text.lower().removesuffix("s").endswith("day")
        return last, "name" if (last > index or index > 0) and not day else ""
    if before not in _OPENERS | _COPULAS or text in BREAKS or not text[0].islower():
        return index, ""
    while goes_on(last + 1):
        last += 1
    whole = last < index + 3 and not word(last + 1)[:1].isupper() and not is_past(words[last].group())
    phrase = [match.group() for match in words[index : last + 1]]
    odd = phrase[-1] in ORDINALS | TIME_UNITS or any(map(is_past, phrase[1:]))
    odd = odd or any("'" in part or "’" in part for part in phrase)
    whole = whole and not odd and not _ends_in_verb(sentence, words, index, last, word(last + 1))
    return last, "noun" if whole else ""


def _ends_in_verb(sentence: str, words: list[re.Match[str]], index: int, last: int, after: str) -> bool:
    """Whether the last word of a noun span is rather its verb ("the robot whistles when …").

    It looks like a verb, the clause has no verb before it, and none follows.
    """
    text = words[last].group()
    if last == index or not text.endswith("s") or text.endswith("ss") or after not in _AFTER_VERB:
        return False
    clause = _CLAUSE.split(sentence[: words[index].start()])[-1].lower().split()
    return not any(w in BREAKS - _NO_VERBS or is_past(w) or (w.endswith("s") and w not in _NO_VERBS) for w in clause)


def _last_of_name(word: Callable[[int], str], index: int) -> int:
    """The last word of a name, which may contain "of" and "of the"."""
    last = index
    while True:
        for link in ((), ("of",), ("of", "the")):
            after = last + 1 + len(link)
            if tuple(word(last + 1 + offset) for offset in range(len(link))) == link and word(after)[:1].isupper():
                last = after
                break
        else:
            return last


def _starts(title: str, sentence: str, start: int, end: int, kind: str) -> tuple[str, ...]:
    """The first words of questions for a span."""
    before, after = sentence[:start].rstrip("\"'“‘"), sentence[end:].lstrip("\"'”’")
    if title:
        before = before.replace(title, "it").replace(inside(title), "it")
    if kind == "year":
        starts = _year_starts(title, before)
    elif kind == "measure":
        starts = _measure_starts(title, sentence[start:end].split(maxsplit=1)[1], before, after)
    else:
        starts = _said_starts(title, before, after, kind == "name")
    return tuple(dict.fromkeys(starts))


def _year_starts(title: str, before: str) -> Iterator[str]:
    for pattern in (_WAS_DONE, _HEAD_DONE):
        if (done := pattern.search(before)) and past_of(done[done.lastindex or 1].lower()):
            subject = _subject(title, done[1]) if pattern is _WAS_DONE else inside(title)
            if subject:
                yield f"In which year was {subject} {done[done.lastindex or 1].lower()}?"
                return
    yield from ("In which year was", "In which year did")


def _measure_starts(title: str, unit: str, before: str, after: str) -> Iterator[str]:
    if dimension := _DIMENSION.search(after):
        owner = _IS.search(before)
        if owner and (subject := _subject(title, owner[1])):
            yield f"How many {unit} {dimension[1]} is {subject}?"
    elif (does := _DOES.search(before)) and (subject := _subject(title, does[1])):
        verb = "have" if does[2] == "has" else re.sub("ie$", "y", does[2].removesuffix("s"))
        yield f"How many {unit} does {subject} {verb}?"
    else:
        yield f"How many {unit}"
        if title:
            yield f"How many {unit} does {inside(title)}"


def _subject(title: str, words: str) -> str:
    """A sentence's subject as a question can name it: a pronoun becomes the title; "" if there is no subject."""
    if words.lower() in _PRONOUNS:
        return inside(title)
    first, *others = words.split()
    determined = first.lower() in _DETERMINERS
    content = others if determined else [first.lower(), *others]
    if not content or content[-1] in ORDINALS or any(word in BREAKS or is_past(word) for word in content):
        return ""
    if first.lower() in ("its", "his", "her", "their"):
        return f"the {' '.join(others)} of {inside(title)}" if title else ""
    return f"{first[0].lower()}{words[1:]}"


def _said_starts(title: str, before: str, after: str, name: bool) -> Iterator[str]:
    """Starts for a name or a noun by the verb before it, and for a name by what bears it or does something."""
    if not name and after.strip() and not re.match(r"[,.;:!?]|\s(?:and|but|at|in|on|by)\b", after):
        return  # more belongs to the noun
    if (state := _STATE.search(before)) and state[1].lower() not in _PRONOUNS:
        if subject := _subject(title, state[1]):
            yield f"{'Who' if name else 'What'} {state[2]} {subject}?"
    elif (done := _DONE_WITH.search(before)) and past_of(done[4]):
        subject = _subject(title, done[1] or done[2])
        place = done[5] in _WHERE and (name or done[5] != "in")
        if subject:
            yield f"Where {done[3]} {subject} {done[4]}?" if place else f"What {done[3]} {subject} {done[4]} {done[5]}?"
    if name:
        yield from _name_starts(before, after)


def _name_starts(before: str, after: str) -> Iterator[str]:
    for pattern, text in ((_NAMED, before), (_ROLE_BEFORE, before), (_PLACE_BEFORE, before), (_ROLE_AFTER, after)):
        if (match := pattern.search(text)) and _is_role(match[1].lower(), pattern is _PLACE_BEFORE):
            yield f"What is the name of the {match[1].lower()}?"
            break
    preposition = before.split()[-1].lower() if before.split() and before[-1:].isspace() else ""
    if preposition in _PLACES:
        yield "Where"
    match = _DOER_BEFORE.search(before)
    if match and past_of(match[1]) and not BREAKS & set(match[2].split()):
        yield f"Who {past_of(match[1])}"
    elif (match := _DOER_AFTER.search(after)) and is_past(match[2]) and (match[1] or preposition not in _OPENERS):
        yield f"Who {match[2]}"


def _is_role(noun: str, place: bool) -> bool:
    """Whether a noun phrase next to a name describes what has the name."""
    words = noun.split()
    role = words[-1] not in ORDINALS and not any(word in BREAKS or is_past(word) for word in words)
    return role and (not place or words[-1] in PLACE_KINDS)


def inside(title: str) -> str:
    """A title as written inside a sentence."""
    return f"the {title[4:]}" if title.startswith("The ") else title
