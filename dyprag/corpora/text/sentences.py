"""Where sentences end, by script: the one splitter for all who part a text into sentences, in a text without blocks
(`sentences`) and in one with paragraphs and lists (`block_sentences`).

Every script has marks that end a sentence by themselves (。 । ۔ ። ។), as nothing else uses them. The full stop of
Latin, Greek, Cyrillic and Arabic also shortens words, so that it needs a space and a capital behind it, or a letter of
a script that has none.
"""

import re
from collections import Counter

import regex

# Empty lines, the lines of a list, and lines that end like a sentence: what stands behind them is another one.
BLOCK_END = re.compile(r"\n[^\S\n]*\n\s*|\n(?=[^\S\n]*(?:[-*•–]|\d{1,3}[.)])[^\S\n])|(?<=[.!?])[^\S\n]*\n")
_ITEM_MARK = re.compile(r"\s*(?:[-*•–]|\d{1,3}[.)])\s+(?=\S)")
_SIGN = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
# What closes a quotation belongs to the sentence before it.
_CLOSERS = r"[\"'”’»」』】》〉›]"
# At the end of a quotation 「…。」と言った the sentence goes on, as it does before a comma or a small letter.
_NATIVE = regex.compile(
    r"(?:[。！？｡︒]|(?<!\d)．|．(?!\d)|[।॥۔؟։።፧፨។៕᠃᠉᙮⳹꓿။༎]|།(?!།))+[。！？!?｡]*"
    rf"{_CLOSERS}*(?!と|って|\s*[,;:،，、；：\p{{Ll}}])"
    rf"|(?<={_SIGN}[」』）]?)[!?]+{_CLOSERS}*(?={_SIGN}|[「『])"
)
_FULL_STOP = regex.compile(r"(?:[.!?][\"”»)]*|(?<=\p{Greek}\p{M}*);)(?=\s+[\"“‘„«(¿¡]?[\p{Lu}\p{Lt}\p{Lo}0-9])")
_NO_SPACE = regex.compile(r"\S")
_OPENER = {")": "(", "）": "（", "」": "「", "』": "『"}  # what stands open is not at its end
_BRACKET = regex.compile(r"[()（）「」『』]")
_LONGEST = 40  # characters of an abbreviation and what it is known by
_ABBREVIATED = regex.compile(
    r"(?:(?<!\w)(?:\p{Lu}|Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|No|Lt|Gen|Col|Capt|Rev|Hon|Prof|Sgt|Maj|Adm|Bros|Inc|Co|Ltd|"
    r"Ave|Mt|ca?|b|d|fl|feat|approx|est|r"
    r"|Nr|bzw|vgl|ggf|evtl|Jh|Chr|geb|gest|Mio|Mrd|Hrsg|z|Sra|Dra|núm|им|ул|проф|акад|св|тыс|млн|млрд)|\.\p{L})\.$"
    # the ordinals of German
    r"|\b(?:[Vv]om|[Zz]um|[Dd]en|[Dd]er|[Ii]m|[Bb]eim|[Aa]b|[Bb]is|[Ss]eit|(?<!\bI )[Aa]m) \d{1,2}\.$"
)


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order; at least one. Nothing is lost but the space between them.

    An initial or abbreviation ends none, nor does what stands in parentheses or in the brackets of a quotation.
    """
    parts: list[str] = []
    begin = looked = 0
    depth: Counter[str] = Counter()
    for end in _ends(text):
        for bracket in _BRACKET.findall(text, looked, end):
            depth[_OPENER.get(bracket, bracket)] += -1 if bracket in _OPENER else 1
        looked = end
        if max(depth.values(), default=0) > 0 or _ABBREVIATED.search(text[max(begin, end - _LONGEST) : end]):
            continue
        parts.append(text[begin:end])
        behind = _NO_SPACE.search(text, end)
        begin = looked = behind.start() if behind else len(text)
        depth.clear()
    return [*parts, text[begin:]] if text[begin:].strip() or not parts else parts


def block_sentences(text: str) -> list[str]:
    """The sentences of a text with blocks: a paragraph, a heading and a list item end one too. The marks of list items
    are no part of them."""
    if "\n" not in text:
        return [part.strip() for part in sentences(text) if part.strip()]
    blocks = [
        _ITEM_MARK.sub("", block, count=1) if _ITEM_MARK.match(block) else block for block in BLOCK_END.split(text)
    ]
    return [part.strip() for block in blocks for part in sentences(block) if part.strip()]


def _ends(text: str) -> list[int]:
    """The places behind the marks that may end a sentence."""
    ends = [found.end() for found in _FULL_STOP.finditer(text)]
    if text.isascii():
        return ends
    return sorted({*ends, *(found.end() for found in _NATIVE.finditer(text))})
