"""Split texts into sentences: `sentences` for plain text, `block_sentences` for text with paragraphs and lists.

Many scripts have marks that are used only at the end of a sentence (。 । ۔ ። ។). The full stop of Latin, Greek,
Cyrillic and Arabic also marks abbreviations. It ends a sentence only before a space and a capital letter, or a letter
of a script without capitals.
"""

import re
from collections import Counter

import regex

# Ends of blocks: empty lines, the start of a list item, and line breaks after the end of a sentence.
BLOCK_END = re.compile(r"\n[^\S\n]*\n\s*|\n(?=[^\S\n]*(?:[-*•–]|\d{1,3}[.)])[^\S\n])|(?<=[.!?])[^\S\n]*\n")
_ITEM_MARK = re.compile(r"\s*(?:[-*•–]|\d{1,3}[.)])\s+(?=\S)")
_SIGN = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
# Closing quotation marks, which belong to the sentence before them.
_CLOSERS = r"[\"'”’»」』】》〉›]"
# A sentence continues after a quotation 「…。」と言った, and before a comma or a lower-case letter.
_NATIVE = regex.compile(
    r"(?:[。！？｡︒]|(?<!\d)．|．(?!\d)|[।॥۔؟։።፧፨។៕᠃᠉᙮⳹꓿။༎]|།(?!།))+[。！？!?｡]*"
    rf"{_CLOSERS}*(?!と|って|\s*[,;:،，、；：\p{{Ll}}])"
    rf"|(?<={_SIGN}[」』）]?)[!?]+{_CLOSERS}*(?={_SIGN}|[「『])"
)
_FULL_STOP = regex.compile(r"(?:[.!?][\"”»)]*|(?<=\p{Greek}\p{M}*);)(?=\s+[\"“‘„«(¿¡]?[\p{Lu}\p{Lt}\p{Lo}0-9])")
_NO_SPACE = regex.compile(r"\S")
_OPENER = {")": "(", "）": "（", "」": "「", "』": "『"}  # no sentence ends inside brackets
_BRACKET = regex.compile(r"[()（）「」『』]")
_LONGEST = 40  # maximum characters of an abbreviation with its context
_ABBREVIATED = regex.compile(
    r"(?:(?<!\w)(?:\p{Lu}|Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|No|Lt|Gen|Col|Capt|Rev|Hon|Prof|Sgt|Maj|Adm|Bros|Inc|Co|Ltd|"
    r"Ave|Mt|ca?|b|d|fl|feat|approx|est|r"
    r"|Nr|bzw|vgl|ggf|evtl|Jh|Chr|geb|gest|Mio|Mrd|Hrsg|z|Sra|Dra|núm|им|ул|проф|акад|св|тыс|млн|млрд)|\.\p{L})\.$"
    # German ordinals
    r"|\b(?:[Vv]om|[Zz]um|[Dd]en|[Dd]er|[Ii]m|[Bb]eim|[Aa]b|[Bb]is|[Ss]eit|(?<!\bI )[Aa]m) \d{1,2}\.$"
)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, in order; at least one. Only the space between them is removed.

    Initials, abbreviations, and text in parentheses or quotation brackets do not end a sentence.
    """
    parts: list[str] = []
    begin = scanned = 0
    depth: Counter[str] = Counter()
    unclosed = _unclosed(text)
    for end in _ends(text):
        for bracket in _BRACKET.finditer(text, scanned, end):
            if bracket.start() not in unclosed:
                depth[_OPENER.get(bracket[0], bracket[0])] += -1 if bracket[0] in _OPENER else 1
        scanned = end
        if max(depth.values(), default=0) > 0 or _ABBREVIATED.search(text[max(begin, end - _LONGEST) : end]):
            continue
        parts.append(text[begin:end])
        following = _NO_SPACE.search(text, end)
        begin = scanned = following.start() if following else len(text)
        depth.clear()
    return [*parts, text[begin:]] if text[begin:].strip() or not parts else parts


def _unclosed(text: str) -> set[int]:
    """The positions of opening brackets that nothing closes."""
    opened: dict[str, list[int]] = {opener: [] for opener in _OPENER.values()}
    for bracket in _BRACKET.finditer(text):
        if bracket[0] in opened:
            opened[bracket[0]].append(bracket.start())
        elif opened[_OPENER[bracket[0]]]:
            opened[_OPENER[bracket[0]]].pop()
    return {position for positions in opened.values() for position in positions}


def block_sentences(text: str) -> list[str]:
    """Return the sentences of a text with blocks. Paragraphs, headings and list items also end a sentence.

    The marks of list items are removed.
    """
    if "\n" not in text:
        return [part.strip() for part in sentences(text) if part.strip()]
    blocks = [
        _ITEM_MARK.sub("", block, count=1) if _ITEM_MARK.match(block) else block for block in BLOCK_END.split(text)
    ]
    return [part.strip() for block in blocks for part in sentences(block) if part.strip()]


def _ends(text: str) -> list[int]:
    """Return the positions after the marks that may end a sentence."""
    ends = [mark.end() for mark in _FULL_STOP.finditer(text)]
    if text.isascii():
        return ends
    return sorted({*ends, *(mark.end() for mark in _NATIVE.finditer(text))})
