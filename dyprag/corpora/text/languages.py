"""Detect whether a text is English. Code that supports only English checks this first."""

from functools import cache
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_WORD = regex.compile(r"\p{Latin}+")
_LETTER = regex.compile(r"\p{L}")
_LATIN = regex.compile(r"\p{Latin}")
# Words that occur in nearly every English text and rarely in other languages.
_ENGLISH = frozenset("the and with by from which who his her were has its this that it to of".split())
_COMMON = _ENGLISH | frozenset("a an in on at for is was are as be or not but their they he she one had have".split())
_LEAST_WORDS = 5  # minimum number of words for a decision
_MOST_ENGLISH, _MOST_COMMON = 0.03, 0.17  # a text with a higher share of these words is English
_LEAST_LIKELY = 0.05
# Candidate languages in Latin script. Creoles and small languages are left out, as English names look like them.
_LANGUAGES = """en de fr es it pt nl da sv no nn fi pl cs sk sl hr hu ro tr vi id ms ca lt lv et sq eu gl is ga cy af
sw tl""".split()


def is_english(text: str) -> bool:
    """Whether a text could be English: mostly Latin script, and its words do not indicate another language.

    A text of few words counts as English.
    """
    if not is_latin(text):
        return False
    words = _WORD.findall(text.lower())
    if len(words) < _LEAST_WORDS or _share(words, _ENGLISH) > _MOST_ENGLISH or _share(words, _COMMON) > _MOST_COMMON:
        return True
    ranked = {language: float(share) for language, share in _identifier().rank(" ".join(words))}
    return ranked["en"] > _LEAST_LIKELY


def is_latin(text: str) -> bool:
    """Whether at least half of a text's letters are Latin. A text without letters counts as Latin."""
    return text.isascii() or 2 * len(_LATIN.findall(text)) >= len(_LETTER.findall(text))


def _share(words: list[str], vocabulary: frozenset[str]) -> float:
    return sum(word in vocabulary for word in words) / len(words)


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_LANGUAGES)
    return identifier
