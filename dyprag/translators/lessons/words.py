"""Word lists of the invented documents: closed vocabularies of answers, and the parts of invented names.

The lists are in facts/words.yaml. The paper has no such data.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter

from dyprag.translators.lessons.fact_files import FOLDER, STRICT, read_facts_file, without_repetition

Word = Annotated[str, Field(min_length=1)]
Words = Annotated[tuple[Word, ...], Field(min_length=1)]
Vocabulary = Annotated[Words, AfterValidator(without_repetition)]


@dataclass(frozen=True)
class NameParts:
    """The parts of invented names. A part that is listed several times is drawn more often."""

    __pydantic_config__ = STRICT
    his_names: Words
    her_names: Words
    onsets: Words
    vowels: Words
    codas: Words
    surname_ends: Words
    place_ends: Words
    adjectives: Annotated[Words, Field(min_length=2)]
    nouns: Annotated[Words, Field(min_length=2)]
    trades: Words
    company_forms: Words
    streets: Words


@dataclass(frozen=True)
class WordLists:
    """The content of words.yaml.

    answers: the closed vocabularies, by name.
    """

    __pydantic_config__ = STRICT
    answers: dict[str, Vocabulary]
    name_parts: NameParts


def read_words(folder: Path) -> WordLists:
    """Read the word lists of a folder of facts.

    Raises:
        ConfigError: the file cannot be read, or an entry is invalid.
    """
    return read_facts_file(folder / "words.yaml", TypeAdapter(WordLists))


@cache
def closed() -> dict[str, tuple[str, ...]]:
    """Return the closed vocabularies, by name."""
    return _word_lists().answers


@cache
def name_parts() -> NameParts:
    """Return the parts of invented names."""
    return _word_lists().name_parts


@cache
def _word_lists() -> WordLists:
    return read_words(FOLDER)
