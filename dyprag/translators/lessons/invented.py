"""Thousands of invented short documents with facts, made from a seed: to train a translator, and to measure recall.

Not in the paper: its translator is trained on 4,800 questions of real data sets (§4.1). What a document here says can
be known from the document alone, since its subjects do not exist.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from dyprag.corpora.documents import Document, QAPair
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.names import Forms, Split, Subject, invent_subject, invent_value, subject_kinds
from dyprag.translators.lessons.wordings import Band, Fact, Style, facts, manners

TWO_SUBJECTS = 0.3  # share of documents about two of a kind, where it matters whose fact it is
UNASKED = 0.3  # share of documents with a fact of the other band, which nobody asks about


@dataclass(frozen=True)
class Told:
    """A fact about one subject, with its value."""

    fact: Fact
    subject: Subject
    value: str


def invented_lessons(
    band: Band,
    count: int,
    seed: int,
    split: Split = "train",
    kinds: Sequence[str] = (),
    only: frozenset[str] | None = None,
) -> list[Lesson]:
    """Documents with 3 to 6 asked facts each, about one subject or two of the same kind.

    Lesson i depends on i and the other arguments alone, so a longer list begins with the shorter one.

    Args:
        band: "closed" where the answers come from closed vocabularies (professions, cities, ...), "open" where they
            are new (names, dates, numbers, titles).
        split: the two share no subject's name and no invented name.
        kinds: of subjects; the more often one stands there, the likelier it is. None: all that there are.
        only: ask about facts with these keys alone; each kind has to have some of the band.
    """
    kinds = kinds or subject_kinds()
    return [_lesson(band, seed, split, index, kinds, only) for index in range(count)]


def _lesson(
    band: Band, seed: int, split: Split, index: int, kinds: Sequence[str], only: frozenset[str] | None
) -> Lesson:
    rng = Random(f"{band}/{seed}/{split}/{index}")
    kind = rng.choice(kinds)
    known = [fact for fact in facts(kind, band) if only is None or fact.key in only]
    taken: set[str] = set()
    subjects = [invent_subject(rng, kind, split, taken) for _ in range(2 if rng.random() < TWO_SUBJECTS else 1)]
    asked = _choose(rng, known, subjects, split, taken)
    unasked: list[Told] = []
    if rng.random() < UNASKED:
        asked_keys = {told.fact.key for told in asked}
        other = [fact for fact in facts(kind, "open" if band == "closed" else "closed") if fact.key not in asked_keys]
        fact, subject = rng.choice(other), rng.choice(subjects)
        unasked.append(Told(fact, subject, _value(rng, fact, subject, split, taken)))
    text = _write(rng, subjects, asked + unasked)
    title = _capital(subjects[0].name) if rng.random() < 0.3 else ""
    return Lesson(Document(f"{band}-{split}-{seed}-{index}", text, title), tuple(_pair(rng, told) for told in asked))


def _choose(
    rng: Random, known: Sequence[Fact], subjects: Sequence[Subject], split: Split, taken: set[str]
) -> list[Told]:
    """Facts to ask about: 3 to 6 of one subject; 2 or 3 of each of two, mostly the same of both."""
    number = rng.choice((3, 4, 4, 5, 5, 6)) if len(subjects) == 1 else rng.choice((2, 2, 3))
    chosen = rng.sample(known, min(number, len(known)))
    told = []
    for subject in subjects:
        if subject is not subjects[0] and rng.random() < 0.3:
            chosen = rng.sample(known, min(number, len(known)))
        told += [Told(fact, subject, _value(rng, fact, subject, split, taken)) for fact in chosen]
    return told


def _value(rng: Random, fact: Fact, subject: Subject, split: Split, taken: set[str]) -> str:
    """A value that no other fact of the document has and that at least one question does not give away."""
    while True:
        value = invent_value(rng, rng.choice(fact.vocabularies), split)
        if value not in taken and _askable(fact, subject, value):
            taken.add(value)
            return value


def _askable(fact: Fact, subject: Subject, value: str) -> list[str]:
    asked = [_named(question, subject) for question in fact.questions]
    return [question for question in asked if value.lower() not in question.lower()]


def _pair(rng: Random, told: Told) -> QAPair:
    question = rng.choice(_askable(told.fact, told.subject, told.value))
    full = _valued(_named(told.fact.full_answer, told.subject), told.value)
    return QAPair(_capital(question), told.value, _capital(full))


def _named(text: str, subject: Subject) -> str:
    return text.replace("{name}'s", subject.references[0][2]).replace("{name}", subject.name)


def _write(rng: Random, subjects: Sequence[Subject], told: Sequence[Told]) -> str:
    """The document: subject by subject, or with the two subjects' sentences mixed, and then always by their names."""
    style = rng.choice(manners().styles)
    mixed = len(subjects) == 2 and not style.labelled and rng.random() < 0.4
    passages: list[list[str]] = []
    for subject in subjects:
        own = [one for one in told if one.subject is subject]
        rng.shuffle(own)
        passages.append(_sentences(rng, style, subject, own, always_named=mixed))
    rng.shuffle(passages)
    sentences = [sentence for passage in passages for sentence in passage]
    if mixed:
        rng.shuffle(sentences)
    if rng.random() < 0.5:
        sentences.insert(0, rng.choice(style.openings).format(name=" and ".join(subject.name for subject in subjects)))
    return " ".join(_capital(sentence) for sentence in sentences)


def _sentences(rng: Random, style: Style, subject: Subject, told: list[Told], always_named: bool) -> list[str]:
    """Sentences about one subject; the first names it, later ones may use a pronoun or "the company"."""
    sentences: list[str] = []
    if rng.random() < style.labelled:
        number = rng.randint(2, 4)
        sentences.append(_labels(rng, subject, told[:number]))
        told = told[number:]
    while told:
        number = 2 if rng.random() < 0.35 else 1
        reference = subject.references[0] if always_named or not sentences else rng.choice(subject.references)
        sentences.append(_sentence(rng, style, subject, reference, told[:number], introduced=bool(sentences)))
        told = told[number:]
    fillers = manners().fillers_about_people if subject.kind == "person" else manners().fillers
    for filler in rng.sample(fillers, rng.choice((0, 0, 0, 1, 1, 2))):
        reference = subject.references[0] if always_named else rng.choice(subject.references)
        sentences.insert(rng.randint(1, len(sentences)), _referred(filler, reference) + ".")
    return sentences


def _labels(rng: Random, subject: Subject, told: Sequence[Told]) -> str:
    """A line of notes, such as "Orvale – seat: Oslo; founder: Ada Brun."."""
    labels = [f"{rng.choice(one.fact.labels)}: {one.value}" for one in told]
    after, between = rng.choice(((" – ", "; "), (": ", "; "), (" – ", ", "), (". ", ". "), (" | ", " | ")))
    if between != ". ":
        labels = [label[0].lower() + label[1:] for label in labels]
    return subject.name + after + between.join(labels) + "."


def _sentence(
    rng: Random, style: Style, subject: Subject, reference: Forms, told: Sequence[Told], introduced: bool
) -> str:
    """One sentence that states one fact or two; where the subject is not yet introduced, it may say what it is."""
    if len(told) == 1 and rng.random() < 0.4:
        body = _valued(rng.choice(told[0].fact.statements), told[0].value)
    else:
        said = [_valued(rng.choice(one.fact.predicates), one.value) for one in told]
        label = f"{rng.choice(told[0].fact.labels).lower()}: {told[0].value}"
        body = rng.choice(_frames(subject, reference, len(told), introduced))
        body = body.replace("{noun}", subject.noun).replace("{label}", label)
        body = body.replace("{0}", said[0]).replace("{1}", said[-1])
    return rng.choice(style.leads) + _referred(body, reference) + "."


def _frames(subject: Subject, reference: Forms, number: int, introduced: bool) -> tuple[str, ...]:
    """Frames of a sentence for one predicate or two."""
    person = subject.kind == "person"
    that, which = ("who", "who") if person else ("that", "which")
    if number == 1:
        described = ("{S} {0}", f"{{S}} is {{noun}} {that} {{0}}", "{S}, {noun}, {0}")
        return ("{S} {0}",) if introduced else ("{S} {0}", *described)
    frames = ["{S} {0} and {1}", "{S} {0} and {1}", "{S} {0} and, besides, {1}", "{S} {0} and, by the way, {1}"]
    if reference == subject.references[0]:
        frames += [f"{{S}}, {which} {{0}}, {{1}}", "{S} ({label}) {1}"]
    if not introduced:
        frames.append(f"{{S}} is {{noun}} {that} {{0}} and {{1}}")
    if not person:  # where two people are named, "she" could be either
        frames += ["{S} {0}, and it {1}", "{S} {0}; moreover, it {1}"]
    return tuple(frames)


def _referred(text: str, reference: Forms) -> str:
    for slot, form in zip(("{S}", "{O}", "{P}"), reference, strict=True):
        text = text.replace(slot, form)
    return text


def _valued(text: str, value: str) -> str:
    article = "an" if re.match("(?!eu|ukulele|un)[aeiou]", value, re.IGNORECASE) else "a"
    return text.replace("{a}", article).replace("{v}", value)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
