"""Split texts of every script into words, or into character n-grams for scripts without spaces.

Chinese, Japanese, Thai, Lao, Burmese and Khmer are written without spaces, and Korean attaches particles to words.
These scripts are indexed by single characters and n-grams, as in Lucene's analysers. This needs no dictionary, and a
word in a question matches the same word in a text whatever surrounds it.
"""

import re
from collections.abc import Iterator

import regex

from dyprag.corpora.text.forms import folded

# A number, or a word of a script with spaces, including the marks inside it.
WORD = re.compile(r"\d[\d.,:]*\d|[^\W_](?:[\w'’.-]*[^\W_])?")

_SIGNS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Yi}ー"
_CLUSTERS = r"\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Javanese}\p{Balinese}\p{Tai_Tham}"
# A run of East Asian characters; a run of South-East Asian letters and their marks; a word of any other script.
_RUN = regex.compile(rf"([{_SIGNS}][{_SIGNS}\p{{M}}]*)|([{_CLUSTERS}]+)|(?:(?![{_SIGNS}{_CLUSTERS}])[\w\p{{M}}])+")
_UNIT = regex.compile(rf"[{_SIGNS}]\p{{M}}*|(?=[{_CLUSTERS}])\X|(?:(?![{_SIGNS}{_CLUSTERS}])\S)+")
# Characters between which a line break does not mean a space.
_NO_SPACE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}ー、。，．：；！？「」『』（）《》〈〉【】]"
_UNSPACED = regex.compile(rf"[{_SIGNS}{_CLUSTERS}]")
_LETTER = regex.compile(r"\p{L}")
_PAIRS, _TRIPLES = 2, 3  # n-gram sizes; a Thai letter carries less information than a Chinese character


def search_words(text: str) -> list[str]:
    """Return the words of a text for retrieval, folded, without stemming or stop-word removal."""
    text = folded(text)
    if text.isascii():
        return re.findall(r"\w+", text)
    return [word for run in _RUN.finditer(unwrapped(text)) for word in _words_of(run)]


def _words_of(match: "regex.Match[str]") -> Iterator[str]:
    """Yield the word that a run is or, for scripts without spaces, its n-grams."""
    run, signs, clusters = match[0], match[1], match[2]
    if not (signs or clusters):
        yield run
        return
    units = regex.findall(r"\X", run)
    for size in range(1, (_PAIRS if signs else _TRIPLES) + 1):
        yield from ("".join(units[start : start + size]) for start in range(len(units) - size + 1))


def units(text: str) -> list[str]:
    """Return the units for comparing a text: words in scripts with spaces, single characters in others.

    Mixed text gives both, as in the evaluations of MLQA and CMRC 2018; Korean is handled as in KorQuAD.
    """
    words = text.split()
    if text.isascii():
        return words
    return [unit for word in words for unit in (_UNIT.findall(word) if _UNSPACED.search(word) else [word])]


def is_unspaced(text: str) -> bool:
    """Whether most letters of a text belong to scripts that are compared by characters rather than by words."""
    letters = len(_LETTER.findall(text))
    return 2 * len(_UNSPACED.findall(text)) > letters > 0


def word_count(text: str) -> int:
    """Estimate the number of words of a text; in scripts without spaces, two characters count as a word."""
    if text.isascii():
        return len(text.split())
    unspaced = len(_UNSPACED.findall(text))
    return len(_UNSPACED.sub(" ", text).split()) + (unspaced + 1) // 2


def unwrapped(text: str, line_end: str = "\n") -> str:
    """Remove a paragraph's line breaks between characters that are written without spaces; keep all others."""
    return text if text.isascii() else regex.sub(rf"(?<={_NO_SPACE})\s*{line_end}\s*(?={_NO_SPACE})", "", text)
