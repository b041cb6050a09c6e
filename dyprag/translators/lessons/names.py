"""Invents names, dates and numbers: the subjects of invented documents, and the answers of open vocabularies.

A hash assigns each invented name to the training or the test documents, so that they share none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from dyprag.translators.lessons.fact_files import FOLDER, STRICT, read_facts_file, slots
from dyprag.translators.lessons.words import Words, closed, name_parts

Split = Literal["train", "test"]
Forms = tuple[str, str, str]  # subject, object, possessive
NameShape = Annotated[str, slots(one_of="word place company phrase", allowed="number")]


@dataclass(frozen=True)
class SubjectKind:
    """A kind of subject: the nouns that refer to it, and the shapes of its name."""

    __pydantic_config__ = STRICT
    nouns: Words
    names: Annotated[tuple[NameShape, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Subject:
    """The subject of a document. `references` are its full name, then phrases such as "the company", and a pronoun."""

    kind: str
    name: str
    noun: str  # with its article
    references: tuple[Forms, ...]


def belongs(name: str, split: Split) -> bool:
    """Whether a name belongs to a split. A tenth of all names are test names."""
    return (blake2b(name.encode(), digest_size=2).digest()[0] % 10 == 0) == (split == "test")


def word(rng: Random, split: Split, ends: tuple[str, ...] = ("",)) -> str:
    """Invent a capitalised word of two to four syllables that belongs to the split."""
    parts = name_parts()
    while True:
        syllables = [rng.choice(parts.onsets) + rng.choice(parts.vowels) for _ in range(1 if rng.random() < 0.6 else 2)]
        last = rng.choice(parts.onsets) + rng.choice(parts.vowels) if ends == ("",) else ""
        candidate = ("".join(syllables) + last + rng.choice(parts.codas) + rng.choice(ends)).capitalize()
        if belongs(candidate, split):
            return candidate


def phrase(rng: Random, split: Split) -> str:
    """Invent a title of ordinary or invented words that belongs to the split as a whole."""
    parts = name_parts()
    while True:
        (a, b), (n, m), w = rng.sample(parts.adjectives, 2), rng.sample(parts.nouns, 2), word(rng, split)
        shapes = (f"The {a} {n}", f"{a} {n}", f"The {n} of {w}", f"{a} {n} and {b} {m}", f"{w}'s {n}", w,
                  f"The {n} and the {m}", f"One {n} for {w}", f"The {a} {n} of {w}", f"{n} without {m}")  # fmt: skip
        if belongs(candidate := rng.choice(shapes), split):
            return candidate


def person(rng: Random, split: Split) -> str:
    return _person(rng, split, rng.choice((name_parts().his_names, name_parts().her_names)))


def _person(rng: Random, split: Split, firsts: tuple[str, ...]) -> str:
    surname = word(rng, split, name_parts().surname_ends if rng.random() < 0.7 else ("",))
    middle = f" {rng.choice('ABCDEFGHIJKLMNOPRSTVW')}." if rng.random() < 0.1 else ""
    first = rng.choice(firsts) if rng.random() < 0.8 else word(rng, split)
    return f"{first}{middle} {surname}"


def place(rng: Random, split: Split) -> str:
    prefix = rng.choice(("", "", "", "", "", "", "Upper ", "New ", "Port ", "Saint ", "Mount ", "Lower "))
    return prefix + word(rng, split, name_parts().place_ends)


def company(rng: Random, split: Split) -> str:
    parts = name_parts()
    core = word(rng, split)
    shapes = (f"{core} {rng.choice(parts.trades)}", f"{core} {rng.choice(parts.company_forms)}",
              f"{core} & {word(rng, split)}",
              f"{core} {rng.choice(parts.trades)} {rng.choice(parts.company_forms)}", core)  # fmt: skip
    return rng.choice(shapes)


def _date(rng: Random, split: Split) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(closed()['month'])} {rng.randint(1702, 2023)}"


def _count(rng: Random, split: Split) -> str:
    return f"{int(10 ** rng.uniform(1.5, 5.5)):,}"


def _metres(rng: Random, split: Split) -> str:
    unit = rng.choice(("metres", "feet", "yards", "centimetres", "paces"))
    return (
        f"{rng.randint(11, 989)} {unit}" if rng.random() < 0.7 else f"{rng.randint(11, 98)}.{rng.randint(1, 9)} {unit}"
    )


def _money(rng: Random, split: Split) -> str:
    amount = f"{int(10 ** rng.uniform(2, 6)):,}"
    return rng.choice((f"${amount}", f"£{amount}", f"€{amount}", f"{amount} crowns", f"{amount} francs"))


def _code(rng: Random, split: Split) -> str:
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    return letters + rng.choice(("-", "-", "/", " ")) + str(rng.randint(11, 9989))


def _address(rng: Random, split: Split) -> str:
    return f"{rng.randint(1, 289)} {word(rng, split)} {rng.choice(name_parts().streets)}"


OPEN: dict[str, Callable[[Random, Split], str]] = {
    "person": person,
    "place": place,
    "company": company,
    "title": phrase,
    "date": _date,
    "year": lambda rng, split: str(rng.randint(1604, 2023)),
    "count": _count,
    "metres": _metres,
    "centimetres": lambda rng, split: f"{rng.randint(141, 209)} centimetres",
    "money": _money,
    "code": _code,
    "address": _address,
}


def invent_value(rng: Random, vocabulary: str, split: Split) -> str:
    """Draw from a closed vocabulary, or invent a value of an open one."""
    return rng.choice(closed()[vocabulary]) if vocabulary in closed() else OPEN[vocabulary](rng, split)


def read_subject_kinds(folder: Path) -> dict[str, SubjectKind]:
    """Read the kinds of subject, except people, of a folder of facts.

    Raises:
        ConfigError: the file cannot be read, or an entry is invalid.
    """
    return read_facts_file(folder / "subjects.yaml", TypeAdapter(dict[str, SubjectKind]))


@cache
def subject_kinds() -> tuple[str, ...]:
    """Return the kinds of subject to draw from. People are listed three times, so that they are drawn more often."""
    return ("person", "person", "person", *_subject_kinds())


@cache
def _subject_kinds() -> dict[str, SubjectKind]:
    return read_subject_kinds(FOLDER)


def invent_subject(rng: Random, kind: str, split: Split, taken: set[str]) -> Subject:
    """Invent a subject whose name is not in `taken`, and add the name to it."""
    while True:
        subject = _human(rng, split) if kind == "person" else _thing(rng, kind, split)
        if subject.name not in taken:
            taken.add(subject.name)
            return subject


def _human(rng: Random, split: Split) -> Subject:
    hers = rng.random() < 0.5
    name = _person(rng, split, name_parts().her_names if hers else name_parts().his_names)
    surname = name.split()[-1]
    pronouns = ("she", "her", "her") if hers else ("he", "him", "his")
    forms = (name, name, _possessive(name)), (surname, surname, _possessive(surname))
    return Subject("person", name, "a woman" if hers else "a man", (*forms, pronouns, pronouns))


def _thing(rng: Random, kind: str, split: Split) -> Subject:
    subject_kind = _subject_kinds()[kind]
    while True:
        parts = {"word": word(rng, split), "place": place(rng, split), "company": company(rng, split),
                 "phrase": phrase(rng, split), "number": str(rng.randint(2, 990))}  # fmt: skip
        name = rng.choice(subject_kind.names).format(**parts)
        if not any(name == value for values in closed().values() for value in values):
            break
    noun = rng.choice(subject_kind.nouns)
    article = "an" if noun[0] in "aeiou" else "a"
    forms = (name, name, _possessive(name)), (f"the {noun}", f"the {noun}", f"the {noun}'s"), ("it", "it", "its")
    return Subject(kind, name, f"{article} {noun}", forms)


def _possessive(name: str) -> str:
    return f"{name}'" if name.endswith("s") else f"{name}'s"
