"""The wordings of invented documents: how facts are stated and asked about, and the styles of writing.

They are in facts/: people.yaml, organisations.yaml and things.yaml have one entry per kind of fact, styles.yaml has the
styles. The first lines of people.yaml explain how to add a kind of fact.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from dyprag.translators.lessons.fact_files import (
    FOLDER,
    STRICT,
    read_facts_file,
    slots,
    without_repetition,
    wrong_entry,
)
from dyprag.translators.lessons.names import OPEN, read_subject_kinds
from dyprag.translators.lessons.words import Words, read_words

Band = Literal["closed", "open"]
FACT_FILES = ("people.yaml", "organisations.yaml", "things.yaml")  # their order affects what a seed draws
FEWEST_FACTS = 4  # per band and kind of subject, so that documents about it differ

Predicate = Annotated[str, slots(needed="v", allowed="a")]
Statement = Annotated[str, slots(needed="v", allowed="a", one_of="S O P")]
Label = Annotated[str, Field(min_length=1), slots()]
Question = Annotated[str, slots(needed="name")]
FullAnswer = Annotated[str, slots(needed="name v", allowed="a")]
Opening = Annotated[str, slots(needed="name")]
Filler = Annotated[str, slots(one_of="S O P")]
Names = Annotated[Words, AfterValidator(without_repetition)]


@dataclass(frozen=True)
class FactEntry:
    """An entry of a facts file.

    about: the kinds of subject that can have the fact.
    answers: the vocabularies of its answer.
    The other fields say how the fact is stated and asked about.
    """

    __pydantic_config__ = STRICT
    about: Names
    answers: Names
    predicates: Annotated[tuple[Predicate, ...], Field(min_length=1)]
    statements: Annotated[tuple[Statement, ...], Field(min_length=1)]
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    questions: Annotated[tuple[Question, ...], Field(min_length=2)]
    full_answer: FullAnswer


@dataclass(frozen=True)
class Fact:
    """A kind of fact: the vocabularies of its answer, and how it is stated and asked about."""

    key: str
    vocabularies: tuple[str, ...]
    predicates: tuple[str, ...]
    statements: tuple[str, ...]
    labels: tuple[str, ...]
    questions: tuple[str, ...]
    full_answer: str


@dataclass(frozen=True)
class Style:
    """A style of writing: opening sentences, words before a statement, and the share of documents with labels."""

    __pydantic_config__ = STRICT
    openings: Annotated[tuple[Opening, ...], Field(min_length=1)]
    leads: Annotated[tuple[str, ...], Field(min_length=1)]
    labelled: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Manners:
    """The content of styles.yaml. Fillers state no fact that is asked about."""

    __pydantic_config__ = STRICT
    styles: Annotated[tuple[Style, ...], Field(min_length=1)]
    fillers_about_people: Annotated[tuple[Filler, ...], Field(min_length=2)]
    fillers: Annotated[tuple[Filler, ...], Field(min_length=2)]


@cache
def facts(kind: str, band: Band) -> tuple[Fact, ...]:
    """Return the facts about a kind of subject, each with its vocabularies of the band."""
    return read_facts(FOLDER)[kind, band]


@cache
def manners() -> Manners:
    """Return the styles and fillers."""
    return read_manners(FOLDER)


def read_manners(folder: Path) -> Manners:
    """Read the styles and fillers of a folder of facts.

    Raises:
        ConfigError: the file cannot be read, or an entry is invalid.
    """
    return read_facts_file(folder / "styles.yaml", TypeAdapter(Manners))


@cache
def read_facts(folder: Path) -> dict[tuple[str, Band], tuple[Fact, ...]]:
    """Read the facts of a folder, by kind of subject and band, in the order of the files.

    Raises:
        ConfigError: a file cannot be read, an entry is invalid, or a kind of subject has too few facts.
    """
    closed = read_words(folder).answers
    by_kind: dict[tuple[str, Band], list[Fact]] = {}
    for kind in ("person", *read_subject_kinds(folder)):
        by_kind[kind, "closed"], by_kind[kind, "open"] = [], []
    for key, entry in _read_entries(folder, {kind for kind, _ in by_kind}, {*closed, *OPEN}).items():
        wording = (entry.predicates, entry.statements, entry.labels, entry.questions, entry.full_answer)
        for kind, band in by_kind:
            vocabularies = tuple(name for name in entry.answers if (name in closed) == (band == "closed"))
            if kind in entry.about and vocabularies:
                by_kind[kind, band].append(Fact(key, vocabularies, *wording))
    for (kind, band), listed in by_kind.items():
        if len(listed) < FEWEST_FACTS:
            reason = f"it has {len(listed)} facts with {band} answers but needs {FEWEST_FACTS}"
            raise wrong_entry(folder / "subjects.yaml", kind, reason)
    return {kind_and_band: tuple(listed) for kind_and_band, listed in by_kind.items()}


def _read_entries(folder: Path, kinds: set[str], vocabularies: set[str]) -> dict[str, FactEntry]:
    entries: dict[str, FactEntry] = {}
    for path in (folder / name for name in FACT_FILES):
        for key, entry in read_facts_file(path, TypeAdapter(dict[str, FactEntry])).items():
            if key in entries:
                raise wrong_entry(path, key, "another file has an entry of this name")
            for field, names, known in (("about", entry.about, kinds), ("answers", entry.answers, vocabularies)):
                if unknown := sorted({*names} - known):
                    raise wrong_entry(path, key, f"{field}: {unknown[0]!r} is not one of {', '.join(sorted(known))}")
            entries[key] = entry
    return entries
