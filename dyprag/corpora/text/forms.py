"""One word, one form: how a text is stored and shown, and how words are compared wherever they are compared.

Stored text keeps its spelling: letters are composed (NFC), ligatures are letters again, and what cannot be seen is
gone. Compared text has no case and no variants either. ASCII text stays as it is; compared, it is in lower case.
"""

import unicodedata

import regex

# Thai, Lao, Burmese and Khmer, whose writers part words by a zero-width space where they part them at all.
_SOUTH_EAST = r"\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
_INVISIBLE = regex.compile(
    rf"[\u00ad\u2060\ufeff]+|(?<![{_SOUTH_EAST}\p{{M}}])\u200b+|\u200b+(?![{_SOUTH_EAST}])", regex.V1
)
# Letters that fonts and PDF files have for the look of others: ligatures, Arabic and Hebrew forms, radicals for signs.
_LOOKS = regex.compile("[\u2e80-\u2fdf\ufb00-\ufdff\ufe70-\ufefc]+")
_APOSTROPHES = "‘’‚‛ʼʹʻ′´`＇׳"
_HYPHENS = "\u2010\u2011\u2012\u2212﹣－\u058a\u05be"
SPELLED_AS_ASCII = frozenset(_APOSTROPHES + _HYPHENS)  # marks inside words, of which a keyboard has one
_MARKS = (
    dict.fromkeys(_APOSTROPHES, "'") | dict.fromkeys(_HYPHENS, "-") | dict.fromkeys("“”„‟«»″״", '"')
    | dict.fromkeys("™℠©®", " ")  # no letters of the word that they stand behind
)  # fmt: skip
_BEFORE = str.maketrans(_MARKS)
_AFTER = str.maketrans(_MARKS | {
    "ı": "i", "\u2044": "/", "ى": "ي", "ی": "ي", "ې": "ي", "ک": "ك", "ة": "ه", "ہ": "ه", "ھ": "ه", "ە": "ه",
})  # fmt: skip
# Format characters, selectors of a sign's look, and the lengthened line of Arabic.
_UNSEEN = regex.compile(
    r"[\p{Cf}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\U000e0100-\U000e01ef\u0640]+"
)
# Marks that a writer may leave out: the accents that Greek capitals lack, the vowels of Arabic and Hebrew and the seats
# of hamza, the dots of ё; and the dot that a Turkish capital keeps in lower case.
_OPTIONAL = regex.compile(r"(?<=[\p{Greek}\p{Arabic}\p{Hebrew}]\p{M}*)\p{Mn}+|(?<=i\p{M}*)\u0307|(?<=е\p{M}*)\u0308")
# The dash of a range, which a keyboard has as a hyphen.
RANGE = regex.compile(r"(?<=\d)[\u2013\u2014](?=\d)")
_DIGIT = regex.compile(r"[^\P{Nd}0-9]")


def written(text: str) -> str:
    """A text as it is stored and shown: composed, its ligatures as letters, without what cannot be seen.

    Joiners that change how letters look (in Persian, Hindi and emoji) and the breaks that South-East Asian writers
    put between words stay.
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    text = _LOOKS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """A text as it is compared: two spellings of one word give one form.

    Case, composition, width, ligatures, digits of other scripts, typographic quotes, apostrophes and hyphens,
    non-breaking and invisible characters make no difference, nor do optional marks. Accents of Latin letters do.
    """
    if text.isascii():
        return text.lower()
    text = _UNSEEN.sub("", unicodedata.normalize("NFKC", text.translate(_BEFORE)))
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text.casefold()))
    text = unicodedata.normalize("NFC", _OPTIONAL.sub("", text.translate(_AFTER)))
    return RANGE.sub("-", _DIGIT.sub(lambda found: str(unicodedata.decimal(found[0], found[0])), text))
