"""Grounding: the share of an English answer's words, names and numbers that neither passages nor question contain.

A cheap measure of RAG hallucination (§1, §4) that needs no judge. It detects fabricated words, not false combinations,
and correct words from the model's own knowledge count as unsupported.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dyprag.corpora.text.english import BREAKS, LIGHT, is_past, same_root
from dyprag.corpora.text.sentences import block_sentences
from dyprag.corpora.text.words import WORD

# In addition to the light words: conjunctions, pronouns and question words.
_STOP = LIGHT | frozenset(
    """
    yes but nor so yet if than then thus hence therefore however also too very just only even both either neither while
    although though because since until unless during before after between through over under up down out off upon
    within without against among per via i me my you your we us our me him them its itself himself herself themselves
    these those here such some any all each every other another same own no none more most am being having doing will
    would can could shall should may might must whose why answer question passage passages
    """.split()
)
_LINKS = frozenset("of,of the,de,de la,da,del,della,di,do,dos,du,la,le,van,van der,van den,von,von der".split(","))
_DOES = frozenset("is was are were has had have".split())

_NO_NAME = re.compile(r"(?:ly|ing)$")


@dataclass(frozen=True)
class Grounding:
    """Counts of an answer's words and entities, and of the unsupported ones. A share of none is 0."""

    tokens: int
    unsupported_tokens: int
    token_share: float
    entities: int
    unsupported_entities: int
    entity_share: float


@dataclass(frozen=True)
class _Word:
    """A word of a text.

    form: normalised for comparison.
    first: whether it begins a sentence.
    beside: whether only whitespace separates it from the previous word.
    """

    form: str
    text: str
    first: bool
    beside: bool

    @property
    def number(self) -> bool:
        return any(character.isdigit() for character in self.form)

    @property
    def capital(self) -> bool:
        """Whether it is capitalised, and so may be part of a name."""
        return self.text[0].isupper() and not self.number


def unsupported(answer: str, passages: Sequence[str], question: str = "") -> Grounding:
    """Count the words and entities of an answer that occur neither in the passages nor in the question.

    Numbers and words of names must occur literally, and a name in one piece. Other words may occur in another form
    (opened, opening). Function words do not count.
    """
    words = list(_words(answer))
    sources = _Sources([*passages, question])
    entities = list(_entities(words))
    entity_indices = {index for entity in entities for index in entity}
    content_indices = [index for index, word in enumerate(words) if _has_content(word)]
    unsupported_words = sum(not sources.hold(words[index].form, index in entity_indices) for index in content_indices)
    unsupported_names = sum(not sources.hold_entity([words[index] for index in entity]) for entity in entities)
    return Grounding(
        len(content_indices),
        unsupported_words,
        unsupported_words / max(1, len(content_indices)),
        len(entities),
        unsupported_names,
        unsupported_names / max(1, len(entities)),
    )


class _Sources:
    """The words of the texts that can support an answer."""

    def __init__(self, texts: Sequence[str]) -> None:
        text_words = [list(_words(text)) for text in texts]
        lines = (" ".join(word.form for word in words) for words in text_words)
        self._text = "|".join(f" {forms} " for forms in lines)  # the separator keeps names from spanning two texts
        self._forms = {word.form for words in text_words for word in words}
        self._common = {word.form for words in text_words for word in words if word.text[0].islower()}
        self._by_letter: dict[str, set[str]] = defaultdict(set)
        for form in self._forms:
            self._by_letter[form[0]].add(form)

    def hold(self, form: str, exactly: bool) -> bool:
        """Whether a word occurs, literally or (unless `exactly`) in another form."""
        if form in self._forms or exactly:
            return form in self._forms
        return any(same_root(form, known) for known in self._by_letter[form[0]])

    def hold_entity(self, entity: Sequence[_Word]) -> bool:
        """Whether a name occurs in one piece.

        The first word of a sentence is dropped if that helps and the texts also contain it in lower case.
        """
        forms = [word.form for word in entity]
        without_first = forms[1:] if entity[0].first and forms[0] in self._common else []
        return any(f" {' '.join(piece)} " in self._text for piece in (forms, without_first) if piece)


def _words(text: str) -> Iterator[_Word]:
    """Split a text into words. Hyphenated words are split as well."""
    for line in unicodedata.normalize("NFKC", text).replace("’", "'").replace("-", " ").splitlines():
        for sentence in block_sentences(line):
            previous_end = None
            for match in WORD.finditer(sentence):
                beside = previous_end is not None and sentence[previous_end : match.start()].isspace()
                yield _Word(_form(match.group()), match.group(), previous_end is None, beside)
                previous_end = match.end()


def _form(word: str) -> str:
    """Normalise a word for comparison: 1,911 to 1911, U.S to us, Olmsted's to olmsted."""
    form = word.casefold().removesuffix("'s")
    return form.replace(",", "") if form[0].isdigit() else form.replace(".", "")


def _has_content(word: _Word) -> bool:
    lower = word.text.lower()
    return lower not in _STOP and (len(lower) > 1 or word.number or word.capital)


def _entities(words: Sequence[_Word]) -> Iterator[range]:
    """Return the range of each number and name. A name is a run of capitalised words, joined by "of" and the like."""
    start = 0
    while start < len(words):
        end = start + 1
        if _begins_name(words[start]):
            end = _end_of_name(words, start)
            if end > start + 1 or _is_name(words, start):
                yield range(start, end)
        elif words[start].number:
            yield range(start, end)
        start = end


def _begins_name(word: _Word) -> bool:
    return word.capital and word.text.lower() not in (_STOP | BREAKS if word.first else _STOP)


def _end_of_name(words: Sequence[_Word], start: int) -> int:
    """Return the index after the name that begins at `start`."""
    end = start + 1
    while not words[end - 1].text.endswith("'s"):
        texts = [word.text for word in words[end : end + 2]]
        next_name = end + max(size for size in (0, 1, 2) if size == 0 or " ".join(texts[:size]) in _LINKS)
        if (
            next_name >= len(words)
            or not all(word.beside for word in words[end : next_name + 1])
            or not words[next_name].capital
        ):
            break
        end = next_name + 1
    return end


def _is_name(words: Sequence[_Word], index: int) -> bool:
    """Whether a single capitalised word is a name."""
    word, next_word = words[index], words[index + 1].text if words[index + 1 : index + 2] else ""
    if len(word.form) == 1:
        return False
    if not word.first or not (_NO_NAME.search(word.form) or is_past(word.form)):
        return True
    # not "Opened in 1911" or "Surely"; but "Italy.", "Olmsted's", "Beijing was", "Olmsted built"
    ends_sentence = not next_word or words[index + 1].first
    return ends_sentence or word.text.endswith("'s") or next_word in _DOES or is_past(next_word)
