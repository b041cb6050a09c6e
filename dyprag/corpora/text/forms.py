"""The normal forms of text: one for storage and display (`written`), and one for all comparisons (`folded`).

Stored text keeps its spelling: characters are composed (NFC), ligatures are replaced by letters, and invisible
characters are removed. Text for comparison also ignores case and typographic variants. ASCII text is stored unchanged
and compared in lower case.
"""

import unicodedata

import regex

# Thai, Lao, Burmese and Khmer, which separate words by zero-width spaces, if at all.
_SOUTH_EAST = r"\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
_INVISIBLE = regex.compile(
    rf"[\u00ad\u2060\ufeff]+|(?<![{_SOUTH_EAST}\p{{M}}])\u200b+|\u200b+(?![{_SOUTH_EAST}])", regex.V1
)
# Presentation forms, as in PDF files: ligatures, Arabic and Hebrew letter forms, radicals in place of characters.
_LOOKS = regex.compile("[\u2e80-\u2fdf\ufb00-\ufdff\ufe70-\ufefc]+")
_APOSTROPHES = "‘’‚‛ʼʹʻ′´`＇׳"
_HYPHENS = "\u2010\u2011\u2012\u2212﹣－\u058a\u05be"
SPELLED_AS_ASCII = frozenset(_APOSTROPHES + _HYPHENS)  # marks inside words, typed as ' or - on a keyboard
_MARKS = (
    dict.fromkeys(_APOSTROPHES, "'") | dict.fromkeys(_HYPHENS, "-") | dict.fromkeys("“”„‟«»″״", '"')
    | dict.fromkeys("™℠©®", " ")  # not part of the word before them
)  # fmt: skip
_BEFORE = str.maketrans(_MARKS)
_AFTER = str.maketrans(_MARKS | {
    "ı": "i", "\u2044": "/", "٫": ".", "٬": ",",
    "ى": "ي", "ی": "ي", "ې": "ي", "ک": "ك", "ة": "ه", "ہ": "ه", "ھ": "ه", "ە": "ه",
})  # fmt: skip
# Format characters, variation selectors, and the Arabic tatweel.
_UNSEEN = regex.compile(
    r"[\p{Cf}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\U000e0100-\U000e01ef\u0640]+"
)
# Optional marks: Greek accents (capitals lack them), Arabic and Hebrew vowels, the seats of hamza, the dots of ё, and
# the dot that a Turkish capital keeps in lower case.
_OPTIONAL = regex.compile(r"(?<=[\p{Greek}\p{Arabic}\p{Hebrew}]\p{M}*)\p{Mn}+|(?<=i\p{M}*)\u0307|(?<=е\p{M}*)\u0308")
# The dash in a range of numbers, typed as a hyphen on a keyboard.
RANGE = regex.compile(r"(?<=\d)[\u2013\u2014](?=\d)")
_DIGIT = regex.compile(r"[^\P{Nd}0-9]")


def written(text: str) -> str:
    """Return a text in the form for storage: composed, with ligatures as letters, without invisible characters.

    Joiners that change the look of letters (in Persian, Hindi and emoji) and the zero-width spaces between words in
    South-East Asian scripts are kept.
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    text = _LOOKS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return unicodedata.normalize("NFC", text)


def encodable(text: str) -> str:
    """Replace lone surrogates by '?'. They come from cut emoji in JSON, or from file names that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()


def folded(text: str) -> str:
    """Return a text in the form for comparison, in which all spellings of a word are equal.

    Case, composition, width, ligatures, digits of other scripts, typographic quotes, apostrophes and hyphens,
    non-breaking and invisible characters, and optional marks make no difference. Accents of Latin letters do.
    """
    if text.isascii():
        return text.lower()
    text = _UNSEEN.sub("", unicodedata.normalize("NFKC", text.translate(_BEFORE)))
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text.casefold()))
    text = unicodedata.normalize("NFC", _OPTIONAL.sub("", text.translate(_AFTER)))
    return RANGE.sub("-", _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0], digit[0])), text))
