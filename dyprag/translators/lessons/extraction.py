"""Extracts question-answer pairs from encyclopedia paragraphs by rules, as training data of translators.

They replace the pairs of §3.1, which a language model writes. The rules prefer missing a fact to stating a wrong one.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dyprag.corpora.documents import Document, QAPair
from dyprag.translators.lessons.cloze import cloze_pairs
from dyprag.translators.lessons.wording import (
    COUNTRIES,
    DATE,
    NATIONALITIES,
    NOT_A_NAME,
    OCCUPATIONS,
    PERSON,
    PLACE,
    ask,
    one_of,
    sentences,
    without_parentheses,
)

MOST_FACTS = 6  # maximum pairs per passage besides cloze pairs

_FOLLOWS = (
    r"(?=\s*(?:[,.;&]|\b(?:and|or|who|whose|from|of|in|best|known|born|active|based|for|at|with|during|under|as|"
    r"specializing|working|notable|noted|famous|that|currently|primarily|mainly|mostly|to)\b))"
)
_BEFORE = (
    r"(?:(?!(?:of|by|about|for|in|from|to|with|on|who|film|series|that|which|at)\b)[\w'’-]+(?:,? and |, | )){0,5}?"
)
_OCCUPATION = re.compile(rf"\b(?:is|was) an? {_BEFORE}(?<![-\w])({one_of(OCCUPATIONS)}){_FOLLOWS}")
_NATIONALITY = re.compile(
    r"\b(?:is|was) an? (?:former |retired |noted |late |contemporary |professional |prominent )?"
    rf"({one_of(NATIONALITIES)})"
    rf"(?![-\w])(?! (?:of|{one_of(NATIONALITIES)})\b)"
)
_SCREEN = re.compile(r"\b(?:is|was) an? (?:[^.]{0,80}? )?(film|documentary|television series|miniseries|sitcom)\b")
_RECORD = re.compile(r"\b(?:is|was) (?:an?|the) (?:[^.]{0,60}? )?(song|single|album|EP)\b")
_RECORDED = re.compile(
    rf"\b(song|single|album|EP)\b(?:(?!\b(?:written|composed)\b)[^.]){{0,40}}? by (?:the )?"
    r"(?:(?:[\w/-]+ ){0,6}?"
    r"(?:singer|artist|band|group|duo|trio|rapper|musician|singer-songwriter|songwriter|producer) )?"
    rf"({PERSON})(?! and [a-z])"
)
_PLACE_NOUN = re.compile(
    r"\b(?:is|was) an? (?:[a-z-]+ ){0,4}"
    r"(village|town|city|municipality|commune|hamlet|suburb|river|mountain|lake|district|island|settlement)\b"
)
_GENRE = re.compile(
    rf"\b(?:is|was) an? (?:\d{{4}} )?(?:(?:{one_of(NATIONALITIES)})(?:[- ]language)? )?"
    r"(?:lost |silent |black-and-white )*"
    r"((?:romantic |black |epic |crime |action |science fiction |historical |war |musical |biographical |spy )*"
    r"(?:comedy-drama|comedy|drama|horror|thriller|western|musical|action|adventure|crime|war|science fiction|fantasy"
    r"|romance|mystery|animated|biographical|documentary|swashbuckler)) film\b",
    re.IGNORECASE,
)
_NO_CITY = frozenset(
    "Castle Palace House Manor County Province Island Islands District Hospital Kingdom Empire".split()
)
_SCHOOL = re.compile(
    r"(?:\w+ )?(?:attended|graduated from|was educated at|studied at) (?:the )?"
    r"((?:[A-Z][\w.'’-]+ )*(?:University|College|School|Institute|Academy|Conservatory|Conservatoire)"
    r"(?: (?:of|for|in|at) (?:the )?[A-Z][\w'’-]+(?: (?:of |and )?[A-Z][\w'’-]+)*)?)"
)
_BORN_IN = rf"born(?: and (?:raised|brought up))?(?: on)?(?: {DATE},?)?(?: and raised)? (?:in|at)"
_BORN = re.compile(rf"\b{_BORN_IN}(?: the (?:city|town|village) of)? ({PLACE})")
_BORN_ASIDE = (
    re.compile(rf"^(?:[^,;()\d]+; )?({PLACE})(?:, [A-Z][\w. ]+){{0,2}}, {DATE} ?[–—-]"),
    re.compile(rf"^(?:[^,;()\d]*\bborn )?(?:[^;()\d]+[;,] )?{DATE}(?:,| in| at) ({PLACE})"),
)
_BORN_STATED = (
    re.compile(rf"(?:was|is) (?:\w+ )?{_BORN_IN}(?: the (?:city|town|village) of)? ({PLACE})"),
    re.compile(rf"(?:was|is) (?:born [^,.;]{{0,50}}? in|a native of) ({PLACE})"),
)
_BORN_OPENING = re.compile(
    rf"^Born(?: on)?(?: {DATE})?,?(?: (?:as|into|to) [^,.;\d]{{1,50}}?)? (?:in|at)(?: the city of)? ({PLACE})"
)
_SOMEONE = rf"({PERSON})(?=\s*(?:[,.;(]|$|(?:and|by|in|on|from|who|at)\b))"
_CHILD = re.compile(rf"(?:is|was) (?:[^,.]{{0,40}} )?(son|daughter) of {_SOMEONE}")
_WED = re.compile(
    r"(?:(?:later |then |first )?married|"
    rf"(?:is|was) the (?:(?:first|second|third|last|only) )?(?:wife|husband|widow|spouse) of) {_SOMEONE}"
)


@dataclass(frozen=True)
class Subject:
    """The subject of a paragraph.

    name: the title without a parenthesis.
    lead: the first sentence, without parentheses.
    aside: the content of the first sentence's first parenthesis.
    rest: the following sentences.
    """

    name: str
    lead: str
    aside: str
    rest: tuple[str, ...]

    @property
    def is_person(self) -> bool:
        born = re.search(r"\bborn\b|\bdied\b|\d{4} ?[–-] ?(?:\d|[A-Z])", self.aside)
        return not self.is_work and bool(_OCCUPATION.search(self.lead) or born or self._gendered())

    @property
    def is_work(self) -> bool:
        return bool(_SCREEN.search(self.lead) or _RECORD.search(self.lead))

    @property
    def verb(self) -> str:
        return "was" if re.search(r"\bwas\b", self.lead[:160]) else "is"

    @property
    def statements(self) -> tuple[str, ...]:
        """Sentences of `rest` that begin with the subject, without their first words."""
        last = self.name.split()[-1]
        names = ("He", "She", self.name, *((last,) if len(last) > 3 and last.isalpha() else ()))
        starts = tuple(f"{name} " for name in names)
        return tuple(sentence[len(start) :] for sentence in self.rest for start in starts if sentence.startswith(start))

    def _gendered(self) -> bool:
        return any(re.match(r"(?:He|She|His|Her)\b", sentence) for sentence in self.rest)


def extracted_pairs(document: Document, draw: random.Random, blanks: int = 1) -> list[tuple[str, QAPair]]:
    """Extract pairs about a titled document, each with the name of its rule. Every answer occurs in the text.

    Args:
        document: a paragraph whose first sentence defines its title.
        draw: random generator for wordings and blanks.
        blanks: maximum number of cloze pairs. Their questions are three times as long as others.
    """
    subject = _subject(document)
    pairs: dict[str, tuple[str, QAPair]] = {}
    for rule, answer in _facts(subject):
        if len(pairs) >= MOST_FACTS:
            break
        if answer not in document.text or answer.casefold() in subject.name.casefold() or answer in NOT_A_NAME:
            continue
        for pair in ask(rule, subject.name, answer, subject.verb, draw):
            if answer.casefold() not in pair.question.casefold():
                pairs.setdefault(pair.question, (rule, pair))
    known = {pair.answer for _, pair in pairs.values()}
    clozes = cloze_pairs(document, subject.name, known, blanks, draw)
    return [*pairs.values(), *(("cloze", pair) for pair in clozes)]


def _subject(document: Document) -> Subject:
    parts = sentences(document.text)
    aside = re.search(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)", parts[0][:300])
    name = re.sub(r"\s*\([^)]*\)$", "", document.title)
    return Subject(name, without_parentheses(parts[0]), aside[1] if aside else "", tuple(parts[1:]))


def _facts(subject: Subject) -> Iterator[tuple[str, str]]:
    """Iterate over rule and answer of each fact, the most important first."""
    if subject.is_person:
        yield from _person(subject)
        yield from _family(subject)
    elif subject.is_work:
        yield from _work(subject)
    elif place := _PLACE_NOUN.search(subject.lead):
        yield from _location(subject, place[1])


def _person(subject: Subject) -> Iterator[tuple[str, str]]:
    if match := _OCCUPATION.search(subject.lead):
        yield "occupation", match[1]
    if place := _birthplace(subject):
        yield ("birth country" if place in COUNTRIES else "birthplace"), place
    born = re.search(rf"\bborn\b[^()–]{{0,60}}?({DATE})", subject.aside) or re.search(
        rf"(?:^|[,;] ?)(?:c\. )?({DATE})[^()–\d]{{0,30}}[–—-]", subject.aside
    )
    if born:
        yield "birth date", born[1]
    died = re.search(rf"\bdied\b[^()]{{0,30}}?({DATE})\s*$", subject.aside) or re.search(
        rf"\d{{4}}[^()]{{0,40}}[–—-](?:[^()\d]{{0,40}}[, ])?\s*({DATE})\s*$", subject.aside
    )
    if died:
        yield "death date", died[1]
    if match := _NATIONALITY.search(subject.lead):
        yield "nationality", match[1]
    if school := next(filter(None, map(_SCHOOL.match, subject.statements)), None):
        yield "school", school[1]


def _birthplace(subject: Subject) -> str | None:
    statements = [(pattern, words) for words in subject.statements for pattern in _BORN_STATED]
    openings = [(_BORN_OPENING, sentence) for sentence in subject.rest]
    aside = [(pattern, subject.aside) for pattern in (_BORN, *_BORN_ASIDE)]
    for pattern, text in (*aside, (_BORN, subject.lead), *statements, *openings):
        match = pattern.search(text)
        if match and not set(match[1].split()) & (NOT_A_NAME | _NO_CITY):
            return match[1]
    return None


def _family(subject: Subject) -> Iterator[tuple[str, str]]:
    lead = re.match(r"[^,]{0,60}?\b(?=(?:is|was) )", subject.lead)
    for words in (*([subject.lead[lead.end() :]] if lead else []), *subject.statements):
        if match := _CHILD.match(words):
            yield f"parent of a {match[1]}", match[2]
        if match := _WED.match(words):
            yield "spouse", match[1]


def _work(subject: Subject) -> Iterator[tuple[str, str]]:
    text = " ".join((subject.lead, *subject.rest[:2]))
    if _SCREEN.search(subject.lead):
        for rule, pattern in (
            ("director", rf"(?<![-\w])directed(?:,? (?:and )?[a-z-]+){{0,4}} by ({PERSON})"),
            ("writer", rf"(?<![-\w])written(?:,? (?:and )?[a-z-]+){{0,4}} by ({PERSON})"),
            ("star", rf"\b(?:[Ss]tarring|stars) ({PERSON})"),
            ("producer", rf"(?<![-\w])produced by ({PERSON})"),
            ("composer", rf"\b[Mm]usic (?:was |is )?(?:composed |scored )?by ({PERSON})"),
        ):
            if match := re.search(pattern, text):
                yield rule, match[1]
    elif match := _RECORDED.search(subject.lead):
        yield "musician", match[2]
    dated = rf"\breleased (?:[^.,]{{0,40}} )?(?:on|in) ((?:[A-Z][a-z]+ )?\d{{4}}|{DATE})"
    if match := re.search(dated, text) or re.search(r"\b(?:is|was) an? (\d{4})\b", subject.lead):
        yield "release", match[1]
    if match := _GENRE.search(subject.lead):
        yield "genre", match[1]


def _location(subject: Subject, kind: str) -> Iterator[tuple[str, str]]:
    if match := re.search(rf"\bin (?:[^.]*, )?(?:the )?({one_of(COUNTRIES)})\s*(?:[.,]|$)", subject.lead):
        yield "country", match[1]
    areas = "County|Province|District|Department|Voivodeship|Region|Prefecture"
    if match := re.search(rf"\b(?:in|of) (?:the )?((?:[A-Z][\w'’-]+ ){{1,3}}(?:{areas}))\b", subject.lead):
        yield "area", match[1]
    if kind not in ("river", "mountain", "lake"):
        text = " ".join((subject.lead, *subject.rest))
        if match := re.search(r"\bpopulation (?:was|of|is)(?: about| approximately| around)? (\d[\d,]*\d)", text):
            yield "population", match[1]
