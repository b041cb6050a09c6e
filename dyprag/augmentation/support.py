"""Whether a text supports an answer, compared by whole words: numbers with their signs and units, and negations.

"19" is not found in "1911", "Greta Olm" not in "Greta Olmsted", "5 %" not in "5 kg", "granite" not in "not of granite".
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

from dyprag.corpora.text.answers import normalise
from dyprag.corpora.text.english import LIGHT

_NUMBER = re.compile(r"\d+(?:[.,\u00a0\u202f]\d+)*")
_MINUS = re.compile(r"(?:(?<![\w.,)\]%])[-\u2212]\s?|\bminus )(?=\d)")  # a minus, and not the dash of a range
# Units written as a symbol or as a word, and their normal form
_UNITS = [
    (re.compile(rf"(?<=\d)\s?(?:{forms})(?![a-z])"), f" {name}")
    for name, forms in (
        ("percent", "%|per ?cent|percent"), ("permille", "‰|per mille"), ("dollar", r"\$|dollars?|usd"),
        ("euro", "€|euros?|eur"), ("pound", "£|pounds?|gbp"), ("yen", "¥|yen|jpy"), ("degree", "°|degrees?"),
    )
]  # fmt: skip
_BEFORE = re.compile(r"([$€£¥])\s?(\d+(?:[.,\u00a0\u202f]\d+)*)")
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_UNIT_WORD, _TEN_WORD = "|".join(_SMALL[1:10]), "|".join(_TENS)
# without "one", which has other meanings, and not before a scale, where the number continues
_IN_WORDS = re.compile(
    rf"\b(?:({_TEN_WORD})[ -]({_UNIT_WORD})|({'|'.join([*_SMALL[2:], *_TENS])}))\b(?![ -](?:hundred|thousand|million))"
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_WORDS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * n for n, word in enumerate(_TENS, start=2)}
DENIALS = frozenset("not no never none nobody nothing without nor neither cannot".split())
_ENDINGS = ("s", "es", "n", "en", "e")
_LONG_ENOUGH = 5  # letters up to which similarity is meaningless


def numbers(text: str) -> set[str]:
    """The numbers of a text in digits of any script, without thousands separators: 1,000 is 1000."""
    return {_plain(number) for number in _NUMBER.findall(_in_ascii(text))}


def stated_numbers(text: str) -> set[str]:
    """The numbers of a text, including English number words: "six" is 6, "twenty-one" 21, "two hundred" 200."""
    found, value, last = numbers(text), None, 0
    for word in [*re.findall(r"[a-z]+|[^a-z\s-]", text.lower()), ""]:
        if word in _WORDS:
            joins = value is not None and last >= 20 and _WORDS[word] < 10 and last % 10 == 0
            found |= {str(value)} if value is not None and not joins else set()
            last = _WORDS[word]
            value = (value or 0) + last if joins else last
        elif word in _SCALES and value is not None:
            value, last = value * _SCALES[word], _SCALES[word]
        elif word != "and" and value is not None:
            found.add(str(value))
            value, last = None, 0
    return found


def holds(text: str, words: str) -> bool:
    """Whether a text contains an answer, word for word; in scripts without spaces, character for character."""
    spoken = [(_spoken(words), _spoken(text)), (_spoken(_apart(words)), _spoken(_apart(text)))]
    return any(within(inner, outer) for inner, outer in spoken)


def within(inner: str, outer: str) -> bool:
    """Whether a normalised text contains another as whole words."""
    return f" {inner} " in f" {outer} "


def likeness(text: str, words: str) -> float:
    """The similarity of an answer and the most similar words of a text, from 0 to 1.

    It is 0 if they differ in a number, a unit or a negation, or if a word is a different one or is truncated.
    """
    inner, outer = _spoken(words), _spoken(text)
    if len(inner) <= _LONG_ENOUGH:
        return 0.0
    aligned = fuzz.partial_ratio_alignment(inner, outer)
    if aligned is None or len(inner) > len(outer):
        return 0.0
    start = outer.rfind(" ", 0, aligned.dest_start + 1) + 1  # extend the match to whole words
    end = outer.find(" ", max(aligned.dest_end - 1, 0))
    nearest = outer[start : end if end >= 0 else len(outer)].split()
    words_of_answer = inner.split()
    alike = all(any(_same_word(word, other) for other in nearest) for word in words_of_answer)
    same = numbers(inner) <= numbers(" ".join(nearest)) and set(words_of_answer) & DENIALS == set(nearest) & DENIALS
    return aligned.score / 100 if alike and same else 0.0


def _same_word(one: str, other: str) -> bool:
    """Whether two words could be forms or spellings of one word: they differ by a letter or two, or by an ending."""
    if one == other or one in LIGHT:
        return True
    if len(one) <= 3 or any(map(str.isdigit, one + other)):
        return False
    most = 1 if min(len(one), len(other)) < 8 else 2
    cut = other.startswith(one) and other[len(one) :] not in _ENDINGS
    return not cut and OSA.distance(one, other, score_cutoff=most) <= most


def _spoken(text: str) -> str:
    """Normalise a text, with numbers in digits, signs attached, and units as words: "three %" is "3 percent"."""
    spoken = _IN_WORDS.sub(lambda match: str(sum(_WORDS[word] for word in match.groups() if word)), text.lower())
    spoken = re.sub(r"(\d)(?:st|nd|rd|th)\b", r"\1", spoken)
    spoken = _MINUS.sub("minus", _BEFORE.sub(r"\2 \1", spoken))
    for forms, name in _UNITS:
        spoken = forms.sub(name, spoken)
    return normalise(spoken)


def _apart(text: str) -> str:
    """Separate hyphenated words and ranges, such as 1914-1918 and violet-blue."""
    return re.sub(r"(?<=\w)[-\u2010-\u2014](?=\w)", " ", text)


def _plain(number: str) -> str:
    return re.sub(r"[,.\u00a0\u202f](?=\d{3}(?!\d))", "", number)


def _in_ascii(text: str) -> str:
    """Convert the digits of every script to ASCII."""
    return text if text.isascii() else "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def script(text: str) -> str:
    """The script of most letters. Japanese counts as CJK, like Chinese."""
    letters = [c for c in unicodedata.normalize("NFKC", text[:5000]) if c.isalpha()][:500]
    scripts = Counter(unicodedata.name(c, "UNKNOWN").split()[0] for c in letters)
    script_name = scripts.most_common(1)[0][0] if scripts else ""
    return "CJK" if script_name in ("HIRAGANA", "KATAKANA") else script_name


def denies(words: Iterable[str]) -> bool:
    """Whether any of these words is a negation."""
    return any(word in DENIALS or word.endswith(("n't", "n’t")) for word in words)
