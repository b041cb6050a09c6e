"""The words of a text in every script: those that spaces part, and parts of those that nothing parts.

Chinese, Japanese, Thai, Lao, Burmese and Khmer are written without spaces, and in Korean a word carries its particles.
There a word is found by its letters and pairs of letters, as in Lucene's analysis of these scripts: no dictionary has
to know it, and a word in a question meets the same word in a text whatever stands around it.
"""

import re
from collections.abc import Iterator

import regex

from dyprag.corpora.text.forms import folded

# A number, or a word with what may stand inside it, of a script with spaces.
WORD = re.compile(r"\d[\d.,:]*\d|[^\W_](?:[\w'’.-]*[^\W_])?")

_SIGNS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Yi}ー"
_CLUSTERS = r"\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Javanese}\p{Balinese}\p{Tai_Tham}"
# A run of signs; a run of letters with what stands above and below them; a word of any other script.
_RUN = regex.compile(rf"([{_SIGNS}][{_SIGNS}\p{{M}}]*)|([{_CLUSTERS}]+)|(?:(?![{_SIGNS}{_CLUSTERS}])[\w\p{{M}}])+")
_UNIT = regex.compile(rf"[{_SIGNS}]\p{{M}}*|(?=[{_CLUSTERS}])\X|(?:(?![{_SIGNS}{_CLUSTERS}])\S)+")
# Signs between which the end of a line is no space.
_NO_SPACE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}ー、。，．：；！？「」『』（）《》〈〉【】]"
_UNSPACED = regex.compile(rf"[{_SIGNS}{_CLUSTERS}]")
_LETTER = regex.compile(r"\p{L}")
_PAIRS, _TRIPLES = 2, 3  # a letter of Thai says less than a sign of Chinese


def search_words(text: str) -> list[str]:
    """The words by which a text is found, in one form, neither stemmed nor sifted."""
    text = folded(text)
    if text.isascii():
        return re.findall(r"\w+", text)
    return [word for found in _RUN.finditer(unwrapped(text)) for word in _of_run(found)]


def _of_run(found: "regex.Match[str]") -> Iterator[str]:
    run, signs, clusters = found[0], found[1], found[2]
    if not (signs or clusters):
        yield run
        return
    units = regex.findall(r"\X", run)
    for size in range(1, (_PAIRS if signs else _TRIPLES) + 1):
        yield from ("".join(units[start : start + size]) for start in range(len(units) - size + 1))


def units(text: str) -> list[str]:
    """What a text is compared by: words where spaces part them, single letters where they do not.

    Of mixed text both, as the evaluations of MLQA and CMRC 2018 have it, and for Korean that of KorQuAD.
    """
    words = text.split()
    if text.isascii():
        return words
    return [unit for word in words for unit in (_UNIT.findall(word) if _UNSPACED.search(word) else [word])]


def is_unspaced(text: str) -> bool:
    """Whether most letters of a text are of scripts that part no words by spaces, or hardly any."""
    letters = len(_LETTER.findall(text))
    return 2 * len(_UNSPACED.findall(text)) > letters > 0


def word_count(text: str) -> int:
    """About how many words a text has; of scripts without spaces, two letters count as a word."""
    if text.isascii():
        return len(text.split())
    unspaced = len(_UNSPACED.findall(text))
    return len(_UNSPACED.sub(" ", text).split()) + (unspaced + 1) // 2


def unwrapped(text: str, line_end: str = "\n") -> str:
    """A paragraph without the ends of lines between signs that are written without a space; others stay."""
    return text if text.isascii() else regex.sub(rf"(?<={_NO_SPACE})\s*{line_end}\s*(?={_NO_SPACE})", "", text)
