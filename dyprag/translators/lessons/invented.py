"""Generates short documents about invented subjects from a seed, to train translators and to measure recall.

The paper instead trains on 4,800 questions of real data sets (§4.1). Invented subjects do not exist, so their facts can
only be known from the documents.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from dyprag.corpora.documents import Document, QAPair
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.names import Forms, Split, Subject, invent_subject, invent_value, subject_kinds
from dyprag.translators.lessons.wordings import Band, Fact, Style, facts, manners

TWO_SUBJECTS = 0.3  # share of documents about two subjects of a kind, where facts can be confused
UNASKED = 0.3  # share of documents with a fact of the other band that is not asked about


@dataclass(frozen=True)
class StatedFact:
    """A fact about a subject, with its value."""

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
    """Generate documents with 3 to 6 facts that are asked about, about one subject or two of the same kind.

    Lesson i depends only on i and the other arguments, so a longer list begins with the shorter one.

    Args:
        band: "closed" for answers from closed vocabularies (professions, cities, …), "open" for new ones (names, dates,
            numbers, titles).
        split: "train" or "test". The two share no names of subjects and no invented names.
        kinds: kinds of subject; repeat a kind to draw it more often. Empty for all kinds.
        only: ask only about facts with these keys. Each kind must have some of the band.
    """
    kinds = kinds or subject_kinds()
    return [_lesson(band, seed, split, index, kinds, only) for index in range(count)]


def _lesson(
    band: Band, seed: int, split: Split, index: int, kinds: Sequence[str], only: frozenset[str] | None
) -> Lesson:
    rng = Random(f"{band}/{seed}/{split}/{index}")
    kind = rng.choice(kinds)
    available = [fact for fact in facts(kind, band) if only is None or fact.key in only]
    taken: set[str] = set()
    subjects = [invent_subject(rng, kind, split, taken) for _ in range(2 if rng.random() < TWO_SUBJECTS else 1)]
    asked_facts = _choose(rng, available, subjects, split, taken)
    unasked_facts: list[StatedFact] = []
    if rng.random() < UNASKED:
        asked_keys = {statement.fact.key for statement in asked_facts}
        other_facts = [
            fact for fact in facts(kind, "open" if band == "closed" else "closed") if fact.key not in asked_keys
        ]
        fact, subject = rng.choice(other_facts), rng.choice(subjects)
        unasked_facts.append(StatedFact(fact, subject, value_of(rng, fact, subject, split, taken)))
    text = _write(rng, subjects, asked_facts + unasked_facts)
    title = capital(subjects[0].name) if rng.random() < 0.3 else ""
    return Lesson(
        Document(f"{band}-{split}-{seed}-{index}", text, title),
        tuple(pair_of(rng, statement) for statement in asked_facts),
    )


def _choose(
    rng: Random, known: Sequence[Fact], subjects: Sequence[Subject], split: Split, taken: set[str]
) -> list[StatedFact]:
    """Choose the facts to ask about: 3 to 6 of a single subject, or 2 to 3 of each of two, mostly the same kinds."""
    number = rng.choice((3, 4, 4, 5, 5, 6)) if len(subjects) == 1 else rng.choice((2, 2, 3))
    chosen = rng.sample(known, min(number, len(known)))
    stated = []
    for subject in subjects:
        if subject is not subjects[0] and rng.random() < 0.3:
            chosen = rng.sample(known, min(number, len(known)))
        stated += [StatedFact(fact, subject, value_of(rng, fact, subject, split, taken)) for fact in chosen]
    return stated


def value_of(rng: Random, fact: Fact, subject: Subject, split: Split, taken: set[str]) -> str:
    """Draw a value that no other fact of the document has and that not every question gives away."""
    while True:
        value = invent_value(rng, rng.choice(fact.vocabularies), split)
        if value not in taken and _askable(fact, subject, value):
            taken.add(value)
            return value


def _askable(fact: Fact, subject: Subject, value: str) -> list[str]:
    questions = [_named(question, subject) for question in fact.questions]
    return [question for question in questions if value.lower() not in question.lower()]


def pair_of(rng: Random, stated: StatedFact) -> QAPair:
    """Ask about a fact in one of its wordings."""
    question = rng.choice(_askable(stated.fact, stated.subject, stated.value))
    full = _valued(_named(stated.fact.full_answer, stated.subject), stated.value)
    return QAPair(capital(question), stated.value, capital(full))


def _named(text: str, subject: Subject) -> str:
    return text.replace("{name}'s", subject.references[0][2]).replace("{name}", subject.name)


def _write(rng: Random, subjects: Sequence[Subject], stated: Sequence[StatedFact]) -> str:
    """Write the document: subject by subject, or with both subjects' sentences mixed and always named."""
    style = rng.choice(manners().styles)
    mixed = len(subjects) == 2 and not style.labelled and rng.random() < 0.4
    passages: list[list[str]] = []
    for subject in subjects:
        subject_facts = [stated_fact for stated_fact in stated if stated_fact.subject is subject]
        rng.shuffle(subject_facts)
        passages.append(_sentences(rng, style, subject, subject_facts, always_named=mixed))
    rng.shuffle(passages)
    sentences = [sentence for passage in passages for sentence in passage]
    if mixed:
        rng.shuffle(sentences)
    if rng.random() < 0.5:
        sentences.insert(0, rng.choice(style.openings).format(name=" and ".join(subject.name for subject in subjects)))
    return " ".join(capital(sentence) for sentence in sentences)


def prose_of(rng: Random, subject: Subject, stated: Sequence[StatedFact]) -> str:
    """Write sentences about one subject, in one of the styles."""
    sentences = _sentences(rng, rng.choice(manners().styles), subject, list(stated), always_named=False)
    return " ".join(capital(sentence) for sentence in sentences)


def _sentences(rng: Random, style: Style, subject: Subject, stated: list[StatedFact], always_named: bool) -> list[str]:
    """Write sentences about one subject. The first names it; later ones may use a pronoun or "the company"."""
    sentences: list[str] = []
    if rng.random() < style.labelled:
        number = rng.randint(2, 4)
        sentences.append(_labels(rng, subject, stated[:number]))
        stated = stated[number:]
    while stated:
        number = 2 if rng.random() < 0.35 else 1
        reference = subject.references[0] if always_named or not sentences else rng.choice(subject.references)
        sentences.append(_sentence(rng, style, subject, reference, stated[:number], introduced=bool(sentences)))
        stated = stated[number:]
    fillers = manners().fillers_about_people if subject.kind == "person" else manners().fillers
    for filler in rng.sample(fillers, rng.choice((0, 0, 0, 1, 1, 2))):
        reference = subject.references[0] if always_named else rng.choice(subject.references)
        sentences.insert(rng.randint(1, len(sentences)), _referred(filler, reference) + ".")
    return sentences


def _labels(rng: Random, subject: Subject, stated: Sequence[StatedFact]) -> str:
    """Write a line of notes, such as "Orvale – seat: Oslo; founder: Ada Brun."."""
    labels = [f"{rng.choice(fact.fact.labels)}: {fact.value}" for fact in stated]
    separator, between = rng.choice(((" – ", "; "), (": ", "; "), (" – ", ", "), (". ", ". "), (" | ", " | ")))
    if between != ". ":
        labels = [label[0].lower() + label[1:] for label in labels]
    return subject.name + separator + between.join(labels) + "."


def _sentence(
    rng: Random, style: Style, subject: Subject, reference: Forms, stated: Sequence[StatedFact], introduced: bool
) -> str:
    """Write a sentence with one or two facts. Before the subject is introduced, it may also say what it is."""
    if len(stated) == 1 and rng.random() < 0.4:
        body = _valued(rng.choice(stated[0].fact.statements), stated[0].value)
    else:
        predicates = [_valued(rng.choice(fact.fact.predicates), fact.value) for fact in stated]
        label = f"{rng.choice(stated[0].fact.labels).lower()}: {stated[0].value}"
        body = rng.choice(_frames(subject, reference, len(stated), introduced))
        body = body.replace("{noun}", subject.noun).replace("{label}", label)
        body = body.replace("{0}", predicates[0]).replace("{1}", predicates[-1])
    return rng.choice(style.leads) + _referred(body, reference) + "."


def _frames(subject: Subject, reference: Forms, number: int, introduced: bool) -> tuple[str, ...]:
    """Return the sentence frames for one or two predicates."""
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
    if not person:  # "she" would be ambiguous if the document names two people
        frames += ["{S} {0}, and it {1}", "{S} {0}; moreover, it {1}"]
    return tuple(frames)


def _referred(text: str, reference: Forms) -> str:
    for slot, form in zip(("{S}", "{O}", "{P}"), reference, strict=True):
        text = text.replace(slot, form)
    return text


def _valued(text: str, value: str) -> str:
    article = "an" if re.match("(?!eu|ukulele|un)[aeiou]", value, re.IGNORECASE) else "a"
    return text.replace("{a}", article).replace("{v}", value)


def capital(sentence: str) -> str:
    """Return a text whose first letter is a capital."""
    return sentence[:1].upper() + sentence[1:]
