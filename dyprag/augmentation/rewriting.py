"""Rewrites of sentences: whether they are faithful, how much they differ, and rule-based reordering."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from dyprag.augmentation.spans import key_terms
from dyprag.corpora.text.english import LIGHT, NUMBERS, same_root
from dyprag.corpora.text.words import WORD

SHARED = 0.75  # minimum share of content words in common between a rewrite and its sentence, both ways
_NEGATIONS = frozenset("no not never none nobody nothing without nor neither cannot".split())
_UNIT = re.compile(r"\d ([^\W\d_]+)")
_LEAD = re.compile(r"((?:In|At|On|After|Before|Since|For|From|During|By|Until|Around) [^,;:]+), ([^,;:]+)([.!])")
_POINTS_BACK = re.compile(
    r"(?:\S+ ){0,3}(?:it|its|he|his|him|she|her|they|their|them|this|that|these|those|there|both|another|also|then|"
    r"however|later|since then|the other|the same|one|each)\b",
    re.I,
)
_ENDED = re.compile(r"[.!?:;,][\"'”’)]*$")
_DATED = re.compile(r"([^,;:]+) (in (?:1\d|20)\d\d)([.!])")


def faithful(sentence: str, rewrite: str) -> str:
    """The rewrite if it says the same as the sentence, judged by its words; else the sentence.

    It must keep the names, numbers and negations and add none, have a similar length, and share most content words,
    because a small model that deviates from them invents facts.
    """
    words = rewrite.split()
    invented = {term for term in key_terms(rewrite) if term not in sentence}
    lost = {term for term in key_terms(sentence) if term not in rewrite}
    like_length = 0.5 <= len(words) / max(1, len(sentence.split())) <= 1.6
    other_unit = any(unit.lower() not in sentence.lower() for unit in _UNIT.findall(rewrite))
    sound = like_length and not (invented or lost or other_unit) and _weights(rewrite) == _weights(sentence)
    return rewrite if sound and min(_shared(rewrite, sentence), _shared(sentence, rewrite)) >= SHARED else sentence


def likeness(one: str, other: str) -> float:
    """The similarity of two texts by characters, from 0 to 1, ignoring case."""
    return SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False).ratio()


def turned(sentence: str) -> str:
    """Move an introduction to the end of a sentence, or a year to its beginning, if that is safe."""
    if lead := _LEAD.fullmatch(sentence):
        return f"{lead[2][0].upper()}{lead[2][1:]} {lead[1][0].lower()}{lead[1][1:]}{lead[3]}"
    if (dated := _DATED.fullmatch(sentence)) and dated[1].split()[0] in ("The", "A", "An", "It", "He", "She", "They"):
        return f"{dated[2][0].upper()}{dated[2][1:]} {dated[1][0].lower()}{dated[1][1:]}{dated[3]}"
    return sentence


def reordered(originals: Sequence[str], rewrites: Sequence[str], turn: float) -> str:
    """Reorder the sentences of a rewrite: the part after a position comes first.

    A sentence that refers back stays behind the one that it refers to.

    Args:
        originals: the document's sentences, which show which ones refer back.
        turn: the position, as a share of the document.
    """
    blocks: list[list[str]] = []
    for original, rewrite in zip(originals, rewrites, strict=True):
        if blocks and _POINTS_BACK.match(original):
            blocks[-1].append(rewrite)
        else:
            blocks.append([rewrite])
    position = min(max(1, round(turn * len(blocks))), len(blocks) - 1)
    parts = [sentence for block in (*blocks[position:], *blocks[:position]) for sentence in block]
    # headings and list items without final punctuation stay on their own line
    separators = ["" if n == 0 else " " if _ENDED.search(parts[n - 1]) else "\n" for n in range(len(parts))]
    return "".join(space + part for space, part in zip(separators, parts, strict=True))


def _shared(one: str, other: str) -> float:
    """The share of one text's content words that the other contains in some form."""
    words, others = ([m.group().lower() for m in WORD.finditer(text)] for text in (one, other))
    content = [word for word in words if word not in LIGHT]
    return sum(any(same_root(word, other) for other in others) for word in content) / max(1, len(content))


def _weights(text: str) -> tuple[set[str], bool]:
    """The number words of a text, and whether it contains a negation."""
    words = {match.group().lower() for match in WORD.finditer(text)}
    return words & NUMBERS, bool(words & _NEGATIONS) or "n't" in text
