"""Whether a text says what an answer says, by whole words: numbers as numbers, signs and units with them, denials kept.

"19" does not stand in "1911", nor "Greta Olm" in "Greta Olmsted", "5 %" in "5 kg", or "granite" in "not of granite".
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
# Units that are written as a sign or as a word, and how they are told here
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
# "one" stands for much else, and before a hundred a number goes on
_IN_WORDS = re.compile(
    rf"\b(?:({_TEN_WORD})[ -]({_UNIT_WORD})|({'|'.join([*_SMALL[2:], *_TENS])}))\b(?![ -](?:hundred|thousand|million))"
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_WORDS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * n for n, word in enumerate(_TENS, start=2)}
DENIALS = frozenset("not no never none nobody nothing without nor neither cannot".split())
_ENDINGS = ("s", "es", "n", "en", "e")
_LONG_ENOUGH = 5  # letters below which likeness says nothing


def numbers(text: str) -> set[str]:
    """Numbers of a text in digits of any script, without separators of thousands: 1,000 is 1000."""
    return {_plain(number) for number in _NUMBER.findall(_in_ascii(text))}


def told_numbers(text: str) -> set[str]:
    """The same, with those that English words tell: "six" is 6, "twenty-one" 21, "two hundred" 200."""
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
    """Whether an answer stands in a text, word for word; in scripts without spaces, sign for sign."""
    spoken = [(_spoken(words), _spoken(text)), (_spoken(_apart(words)), _spoken(_apart(text)))]
    return any(within(inner, outer) for inner, outer in spoken)


def within(inner: str, outer: str) -> bool:
    """Whether normalised words stand in others, as words; in scripts without spaces, as signs, numbers whole."""
    return f" {inner} " in f" {outer} "


def likeness(text: str, words: str) -> float:
    """How alike an answer and the nearest words of a text are, from 0 to 1.

    It is 0 where they differ in a number, a unit or a denial, or where one of the words is another or is cut short.
    """
    inner, outer = _spoken(words), _spoken(text)
    if len(inner) <= _LONG_ENOUGH:
        return 0.0
    aligned = fuzz.partial_ratio_alignment(inner, outer)
    if aligned is None or len(inner) > len(outer):
        return 0.0
    start = outer.rfind(" ", 0, aligned.dest_start + 1) + 1  # from the beginning of a word to the end of one
    end = outer.find(" ", max(aligned.dest_end - 1, 0))
    nearest = outer[start : end if end >= 0 else len(outer)].split()
    mine = inner.split()
    alike = all(any(_same_word(word, other) for other in nearest) for word in mine)
    same = numbers(inner) <= numbers(" ".join(nearest)) and set(mine) & DENIALS == set(nearest) & DENIALS
    return aligned.score / 100 if alike and same else 0.0


def _same_word(one: str, other: str) -> bool:
    """Whether two words could be forms or spellings of one: a letter or an ending apart, neither half the other."""
    if one == other or one in LIGHT:
        return True
    if len(one) <= 3 or any(map(str.isdigit, one + other)):
        return False
    most = 1 if min(len(one), len(other)) < 8 else 2
    cut = other.startswith(one) and other[len(one) :] not in _ENDINGS
    return not cut and OSA.distance(one, other, score_cutoff=most) <= most


def _spoken(text: str) -> str:
    """Normalised, with numbers in digits, their sign a part of them, and units as words: "three %" is "3 percent"."""
    told = _IN_WORDS.sub(lambda found: str(sum(_WORDS[word] for word in found.groups() if word)), text.lower())
    told = re.sub(r"(\d)(?:st|nd|rd|th)\b", r"\1", told)
    told = _MINUS.sub("minus", _BEFORE.sub(r"\2 \1", told))
    for forms, name in _UNITS:
        told = forms.sub(name, told)
    return normalise(told)


def _apart(text: str) -> str:
    """With the parts of 1914-1918 and violet-blue as words of their own."""
    return re.sub(r"(?<=\w)[-\u2010-\u2014](?=\w)", " ", text)


def _plain(number: str) -> str:
    return re.sub(r"[,.\u00a0\u202f](?=\d{3}(?!\d))", "", number)


def _in_ascii(text: str) -> str:
    """With the digits of every script as those of ASCII."""
    return text if text.isascii() else "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def script(text: str) -> str:
    """The script of most letters; Japanese counts as Chinese, with which it shares signs."""
    letters = [c for c in unicodedata.normalize("NFKC", text[:5000]) if c.isalpha()][:500]
    scripts = Counter(unicodedata.name(c, "UNKNOWN").split()[0] for c in letters)
    found = scripts.most_common(1)[0][0] if scripts else ""
    return "CJK" if found in ("HIRAGANA", "KATAKANA") else found


def denies(words: Iterable[str]) -> bool:
    """Whether any of these words denies something."""
    return any(word in DENIALS or word.endswith(("n't", "n’t")) for word in words)
