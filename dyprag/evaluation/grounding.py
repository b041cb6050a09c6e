"""How much of an answer the passages bear out, without a judge: its words, and its names and numbers, that occur in
neither the passages nor the question. A cheap measure of RAG hallucination (§1, §4), for English.

It finds what is made up, not what is put together wrongly; and words of the model's own knowledge count as made up.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dyprag.corpora.text.english import BREAKS, LIGHT, is_past, same_root
from dyprag.corpora.text.sentences import block_sentences
from dyprag.corpora.text.words import WORD

# Beside the light words: what joins, points and asks.
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
    """How many words and entities an answer has, each as often as it stands there, and how many are borne out by
    nothing; the shares are 0 where there are none."""

    tokens: int
    unsupported_tokens: int
    token_share: float
    entities: int
    unsupported_entities: int
    entity_share: float


@dataclass(frozen=True)
class _Word:
    """A word as it is compared, as it stands, and whether it begins a sentence or follows another by mere space."""

    form: str
    text: str
    first: bool
    beside: bool

    @property
    def number(self) -> bool:
        return any(character.isdigit() for character in self.form)

    @property
    def capital(self) -> bool:
        """Whether it could be part of a name."""
        return self.text[0].isupper() and not self.number


def unsupported(answer: str, passages: Sequence[str], question: str = "") -> Grounding:
    """Measure what of an answer occurs in neither the passages nor the question.

    A word of a name and a number must occur as they are, a name also in one piece; another word may occur in another
    form (opened, opening). Words without content of their own do not count.
    """
    words = list(_words(answer))
    sources = _Sources([*passages, question])
    entities = list(_entities(words))
    exact = {place for entity in entities for place in entity}
    content = [place for place, word in enumerate(words) if _has_content(word)]
    loose = sum(not sources.hold(words[place].form, place in exact) for place in content)
    alien = sum(not sources.hold_entity([words[place] for place in entity]) for entity in entities)
    return Grounding(
        len(content), loose, loose / max(1, len(content)), len(entities), alien, alien / max(1, len(entities))
    )


class _Sources:
    """What may bear an answer out: the words of some texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        read = [list(_words(text)) for text in texts]
        running = (" ".join(word.form for word in words) for words in read)
        self._running = "|".join(f" {forms} " for forms in running)  # no name reaches from text to text
        self._forms = {word.form for words in read for word in words}
        self._common = {word.form for words in read for word in words if word.text[0].islower()}
        self._by_letter: dict[str, set[str]] = defaultdict(set)
        for form in self._forms:
            self._by_letter[form[0]].add(form)

    def hold(self, form: str, exactly: bool) -> bool:
        """Whether a word occurs, as it is or else in another form."""
        if form in self._forms or exactly:
            return form in self._forms
        return any(same_root(form, known) for known in self._by_letter[form[0]])

    def hold_entity(self, entity: Sequence[_Word]) -> bool:
        """Whether a name occurs in one piece. A word that begins a sentence may be no part of it: one that the texts
        have without a capital."""
        forms = [word.form for word in entity]
        rest = forms[1:] if entity[0].first and forms[0] in self._common else []
        return any(f" {' '.join(piece)} " in self._running for piece in (forms, rest) if piece)


def _words(text: str) -> Iterator[_Word]:
    """The words of a text, those joined by a hyphen apart."""
    for line in unicodedata.normalize("NFKC", text).replace("’", "'").replace("-", " ").splitlines():
        for sentence in block_sentences(line):
            end = None
            for match in WORD.finditer(sentence):
                beside = end is not None and sentence[end : match.start()].isspace()
                yield _Word(_form(match.group()), match.group(), end is None, beside)
                end = match.end()


def _form(word: str) -> str:
    """A word as it is compared: 1,911 is 1911, U.S is us, Olmsted's is olmsted."""
    form = word.casefold().removesuffix("'s")
    return form.replace(",", "") if form[0].isdigit() else form.replace(".", "")


def _has_content(word: _Word) -> bool:
    lower = word.text.lower()
    return lower not in _STOP and (len(lower) > 1 or word.number or word.capital)


def _entities(words: Sequence[_Word]) -> Iterator[range]:
    """The places of each number and of each name: words with a capital in a row, "of" and the like between them."""
    place = 0
    while place < len(words):
        end = place + 1
        if _begins_name(words[place]):
            end = _end_of_name(words, place)
            if end > place + 1 or _is_name(words, place):
                yield range(place, end)
        elif words[place].number:
            yield range(place, end)
        place = end


def _begins_name(word: _Word) -> bool:
    return word.capital and word.text.lower() not in (_STOP | BREAKS if word.first else _STOP)


def _end_of_name(words: Sequence[_Word], place: int) -> int:
    """The place behind a name that begins here."""
    end = place + 1
    while not words[end - 1].text.endswith("'s"):
        texts = [word.text for word in words[end : end + 2]]
        after = end + max(size for size in (0, 1, 2) if size == 0 or " ".join(texts[:size]) in _LINKS)
        if after >= len(words) or not all(word.beside for word in words[end : after + 1]) or not words[after].capital:
            break
        end = after + 1
    return end


def _is_name(words: Sequence[_Word], place: int) -> bool:
    """Whether a single word with a capital is a name."""
    word, after = words[place], words[place + 1].text if words[place + 1 : place + 2] else ""
    if len(word.form) == 1:
        return False
    if not word.first or not (_NO_NAME.search(word.form) or is_past(word.form)):
        return True
    # Opened in 1911, Surely not; but Italy by itself, Olmsted's, Beijing was, Olmsted built
    alone = not after or words[place + 1].first
    return alone or word.text.endswith("'s") or after in _DOES or is_past(after)
