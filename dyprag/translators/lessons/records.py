"""Generates documents as people keep them: sheets, lists and tables with headings, about invented subjects.

Prose alone does not teach a translator to read them. The facts and their wordings are those of `invented`.
"""

from collections.abc import Callable, Sequence
from random import Random

from dyprag.corpora.documents import Document, QAPair
from dyprag.translators.lessons.invented import StatedFact, capital, pair_of, prose_of, value_of
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.names import Split, Subject, invent_subject, subject_kinds
from dyprag.translators.lessons.wordings import facts

MOST_PAIRS = 6
BY_LABEL = 0.2  # share of questions that quote the label instead of asking in words


def record_lessons(count: int, seed: int, split: Split = "train") -> list[Lesson]:
    """Generate records, each with up to `MOST_PAIRS` questions.

    Lesson i depends only on i and the other arguments, so a longer list begins with the shorter one.

    Args:
        split: "train" or "test". The two share no names of subjects and no invented names.
    """
    return [_lesson(seed, split, index) for index in range(count)]


def _lesson(seed: int, split: Split, index: int) -> Lesson:
    rng = Random(f"records/{seed}/{split}/{index}")
    kind, taken = rng.choice(subject_kinds()), set[str]()
    subjects = [invent_subject(rng, kind, split, taken) for _ in range(rng.choice((1, 1, 1, 2, 3, 4)))]
    known = list({fact.key: fact for fact in (*facts(kind, "closed"), *facts(kind, "open"))}.values())
    number = rng.choice((4, 5, 6, 7) if len(subjects) == 1 else (2, 3, 4))
    chosen = rng.sample(known, min(number, len(known)))
    stated = [
        StatedFact(fact, subject, value_of(rng, fact, subject, split, taken)) for subject in subjects for fact in chosen
    ]
    labels = {fact.key: rng.choice(fact.labels) for fact in chosen}
    layout = rng.choice(_LAYOUTS if len(subjects) == 1 else _LAYOUTS_OF_SEVERAL)
    text = layout(rng, subjects, stated, labels)
    heading = " and ".join(subject.name for subject in subjects) if len(subjects) < 3 else f"{kind.capitalize()} list"
    title = capital(heading) if rng.random() < 0.5 else ""
    if not title and (len(subjects) == 1 or rng.random() < 0.5):
        text = f"{rng.choice(('# ', '', '## '))}{capital(heading)}\n\n{text}"
    asked = rng.sample(stated, min(MOST_PAIRS, len(stated)))
    return Lesson(
        Document(f"record-{split}-{seed}-{index}", text, title),
        tuple(_pair(rng, statement, labels[statement.fact.key]) for statement in asked),
    )


def _sheet(rng: Random, subjects: Sequence[Subject], stated: Sequence[StatedFact], labels: dict[str, str]) -> str:
    """One line for each fact, with a sentence or two before or after them."""
    bullet, colon = rng.choice(("", "", "- ", "* ")), rng.choice((": ", ": ", " – ", "\t"))
    in_prose = rng.randint(0, 2)
    lines = [f"{bullet}{labels[each.fact.key]}{colon}{each.value}" for each in stated[in_prose:]]
    if not in_prose:
        return "\n".join(lines)
    if not lines:
        return prose_of(rng, subjects[0], stated)
    parts = ["\n".join(lines), prose_of(rng, subjects[0], stated[:in_prose])]
    rng.shuffle(parts)
    return "\n\n".join(parts)


def _sections(rng: Random, subjects: Sequence[Subject], stated: Sequence[StatedFact], labels: dict[str, str]) -> str:
    """A heading for each subject, and its facts below."""
    mark = rng.choice(("## ", "", "**"))
    parts = []
    for subject in subjects:
        own = [each for each in stated if each.subject is subject]
        closing = mark if mark == "**" else ""
        parts.append(f"{mark}{capital(subject.name)}{closing}\n" + _sheet(rng, [subject], own, labels))
    return "\n\n".join(parts)


def _table(rng: Random, subjects: Sequence[Subject], stated: Sequence[StatedFact], labels: dict[str, str]) -> str:
    """A row for each subject, or for each fact of a single one."""
    rows: list[tuple[str, ...]]
    header: tuple[str, ...]
    if len(subjects) == 1:
        rows = [(labels[each.fact.key], each.value) for each in stated]
        header = rng.choice((("Field", "Value"), ("Item", "Entry"), ("", capital(subjects[0].name))))
    else:
        header = ("Name", *labels.values())
        rows = [
            (capital(subject.name), *(each.value for each in stated if each.subject is subject)) for subject in subjects
        ]
    if rng.random() < 0.5:
        lines = [header, ("---",) * len(header), *rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in lines)
    comma = rng.choice(("; ", "\t", ", "))
    return "\n".join(comma.join(row) for row in (header, *rows))


def _lines(rng: Random, subjects: Sequence[Subject], stated: Sequence[StatedFact], labels: dict[str, str]) -> str:
    """One line for each subject, with its facts in brackets or after a dash."""
    front, back = rng.choice(((" (", ")"), (" – ", ""), (": ", ".")))
    lines = []
    for number, subject in enumerate(subjects, start=1):
        own = ", ".join(f"{labels[s.fact.key].lower()} {s.value}" for s in stated if s.subject is subject)
        lines.append(f"{number}. {capital(subject.name)}{front}{own}{back}")
    return "\n".join(lines)


Layout = Callable[[Random, Sequence[Subject], Sequence[StatedFact], dict[str, str]], str]
_LAYOUTS: tuple[Layout, ...] = (_sheet, _sheet, _sheet, _table)
_LAYOUTS_OF_SEVERAL: tuple[Layout, ...] = (_sections, _table, _table, _lines)


def _pair(rng: Random, stated: StatedFact, label: str) -> QAPair:
    pair = pair_of(rng, stated)
    question = f"What is given as '{label}' for {stated.subject.name}?"
    quoted = rng.random() < BY_LABEL and stated.value.lower() not in question.lower()
    return QAPair(question, pair.answer, pair.full_answer) if quoted else pair
