"""Check items: a rewrite must keep the facts, and a pair's answer must be in the passage.

The reasons for dropping items are stored, and they are shown to the model in later rounds, so they enter the keys of
requests: do not reword them.
"""

import re
from collections.abc import Iterable, Sequence

from rapidfuzz import fuzz

from dyprag.augmentation.spans import key_terms
from dyprag.augmentation.support import denies, holds, likeness, numbers, script, stated_numbers, within
from dyprag.config import AugmentSettings
from dyprag.corpora.documents import Document, QAPair
from dyprag.corpora.products import Accepted, Dropped, Item
from dyprag.corpora.text.answers import normalise
from dyprag.corpora.text.english import LIGHT, same_root
from dyprag.corpora.text.sentences import block_sentences
from dyprag.corpora.text.words import WORD, is_unspaced

# Part of every product's key. Raise it only if all products are worth writing, and paying for, again; a rule that drops
# a few more or fewer items is not enough.
CHECKS_VERSION = 1
_NAME_RUN = re.compile(r"[^\W\d_a-zß-öø-ÿ][\w'’-]+(?: [^\W\d_a-zß-öø-ÿ][\w'’-]+)+")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_GERMAN = frozenset("der die das den dem des und ist im ein eine einen wurde mit von nicht sich auf für zu".split())
_REFERS = re.compile(r"\b(according to|in|from|by|of) (the|this) (passage|text|document|article|excerpt)\b", re.I)
_SAME_QUESTION = 90  # similarity in percent above which two questions count as one
_LENGTHS = (0.4, 2.5)  # allowed lengths of a rewrite, relative to the document
_DENIALS = frozenset("not no never unknown neither nor or maybe perhaps".split())
_ASKS_NUMBER = re.compile(r"\bhow (?:many|old|tall|long|deep|high|wide|far|heavy)\b|\b(?:what|which) year\b", re.I)
_ASKS_NAME = re.compile(r"^(?:who|whom|whose|where)\b|\bname of\b", re.I)
_AMOUNTS = frozenset("one a an half quarter dozen once twice several few none no all both single pair".split())
_YES_NO = frozenset({"yes", "no"})


def check_item(
    document: Document, item: Item, accepted: Sequence[Accepted], settings: AugmentSettings
) -> Accepted | Dropped:
    """Check an item, given the items of its product that are already accepted."""
    others = [other.item for other in accepted]
    if isinstance(item, QAPair):
        return check_pair(document, item, [other for other in others if isinstance(other, QAPair)], settings)
    return check_rewrite(document, item, [other for other in others if isinstance(other, str)], settings)


def check_rewrite(
    document: Document, rewrite: str, others: Sequence[str], settings: AugmentSettings
) -> Accepted | Dropped:
    """Check that a rewrite keeps names, numbers and dates, adds none, keeps the language, and differs enough.

    Args:
        others: the rewrites that are already accepted.
    """
    kept = facts(document.passage)
    lost = {term for term in kept if not _holds(rewrite, term)}
    recall = 1 - len(lost) / len(kept) if kept else 1.0
    new_numbers = sorted(numbers(rewrite) - stated_numbers(document.passage))
    new_names = sorted(term for term in facts(rewrite) if not _holds(document.passage, term))
    change = min(1 - fuzz.ratio(rewrite, text) / 100 for text in (document.text, document.passage))
    length = len(rewrite) / max(1, len(document.text))
    if not same_language(document.text, rewrite):
        return Dropped(rewrite, "it is in another language than the document")
    if recall < settings.rewrite_recall:
        return Dropped(rewrite, f"it loses {_listed(lost)}")
    if new_numbers:
        return Dropped(rewrite, f"it adds {_listed(new_numbers)}")
    if len(new_names) > (1 - settings.rewrite_recall) * max(1, len(kept)):
        return Dropped(rewrite, f"it adds {_listed(new_names)}")
    if not _LENGTHS[0] <= length <= _LENGTHS[1]:
        return Dropped(rewrite, f"it is {length:.1f} times as long as the document")
    if change < settings.rewrite_change:
        return Dropped(rewrite, f"it is nearly the document itself ({change:.0%} of it differs)")
    if any(1 - fuzz.ratio(rewrite, other) / 100 < settings.rewrite_change for other in others):
        return Dropped(rewrite, "it is the same as another one")
    return Accepted(rewrite, {"recall": round(recall, 3), "change": round(change, 3)})


def check_pair(
    document: Document, pair: QAPair, others: Iterable[QAPair], settings: AugmentSettings
) -> Accepted | Dropped:
    """Check that a pair's answer is in the passage, its question does not reveal it, and it is not a duplicate.

    Returns:
        Dropped with the reason UNSUPPORTED if the only fault is that the passage lacks the answer's words. The model
        may then be asked to verify it.
    """
    question, answer = normalise(pair.question), normalise(pair.answer)
    yes_no = answer in _YES_NO
    if not question or not answer:
        return Dropped(pair, "its question or answer is empty")
    if not yes_no and within(answer, question):
        return Dropped(pair, "its question holds the answer")
    if _REFERS.search(pair.question):
        return Dropped(pair, "its question refers to the document, which is not there when it is asked")
    if any(_same_pair(pair, other) for other in others):
        return Dropped(pair, "it is the same as another one")
    if added := numbers(f"{pair.answer} {pair.full_answer}") - stated_numbers(document.passage):
        return Dropped(pair, f"its answer has {_listed(added)}, which the document has not")
    if not yes_no and not _held(pair.full_answer, pair.answer, settings):
        return Dropped(pair, "its full answer does not hold the short one")
    if yes_no:
        return Dropped(pair, UNSUPPORTED)
    if holds(document.passage, pair.answer):
        return Accepted(pair, {"support": 1.0, "by": "span"})
    support = likeness(document.passage, pair.answer)
    if support >= settings.answer_support:
        return Accepted(pair, {"support": round(support, 3), "by": "likeness"})
    return Dropped(pair, UNSUPPORTED)


def _held(text: str, words: str, settings: AugmentSettings) -> bool:
    return holds(text, words) or likeness(text, words) >= settings.answer_support


def doubt(document: Document, pair: QAPair) -> str:
    """Why a pair may be wrong although the passage contains its answer; empty if there is no reason.

    A number is doubtful if its sentence contains no word of the question. Any answer is doubtful if only its sentences,
    or only the full answer, contain a negation, or if it is of another kind than the question asks for.
    """
    sentences = [sentence for sentence in block_sentences(document.passage) if holds(sentence, pair.answer)]
    asked = _words(pair.question)
    nearby = [word for sentence in sentences for word in _words(sentence)]
    if (
        sentences
        and all(denies(_words(sentence)) for sentence in sentences)
        and not denies([*asked, *_words(pair.full_answer)])
    ):
        return "its answer stands where the document denies something"
    if denies(_words(pair.full_answer)) and not denies([*_words(document.passage), *asked]):
        return "its full answer denies what the document does not"
    if kind := _other_kind(pair):
        return kind
    if sentences and re.search(r"\d", pair.answer) and not is_unspaced(pair.question):
        title = {*_words(document.title), *_words(pair.answer)}
        content = [word for word in asked if word not in LIGHT and word not in title]
        if content and not any(same_root(word, other) for word in content for other in nearby):
            return "its answer stands in the document for something else"
    return ""


def _other_kind(pair: QAPair) -> str:
    """Why an answer does not fit an English question that asks for a number, or for a name; empty if it does."""
    if _ASKS_NUMBER.search(pair.question) and not stated_numbers(pair.answer) and not _AMOUNTS & {*_words(pair.answer)}:
        return "its question asks for a number, which its answer has not"
    if _ASKS_NAME.search(pair.question) and pair.answer.strip()[:1].isdigit():
        return "its answer is a number, for which its question does not ask"
    return ""


def _words(text: str) -> list[str]:
    return [match.group().lower().replace("’", "'").removesuffix("'s") for match in WORD.finditer(text)]


UNSUPPORTED = "its answer does not stand in the document"


def same_answer(one: str, other: str) -> bool:
    """Whether two short answers mean the same.

    They are equal except for case, articles and punctuation, or one contains the other with a few more words, none of
    which is a negation or leaves the answer open.
    """
    a, b = normalise(one), normalise(other)
    shorter, longer = sorted((a, b), key=len)
    if not shorter or a == b:
        return bool(shorter)
    open_ended = set(longer.split()) & _DENIALS or {shorter} & _YES_NO
    near = len(longer.split()) <= 2 * len(shorter.split()) + 2
    return not open_ended and near and within(shorter, longer)


def _same_pair(pair: QAPair, other: QAPair) -> bool:
    """Whether two pairs ask the same: equal questions, or similar ones with the same answer."""
    one, two = normalise(pair.question), normalise(other.question)
    return one == two or (fuzz.token_sort_ratio(one, two) >= _SAME_QUESTION and same_answer(pair.answer, other.answer))


def facts(text: str) -> set[str]:
    """The names, numbers and dates of a text.

    In German, where all nouns are capitalised, only names of several words; in scripts without capitals and spaces,
    only numbers.
    """
    if is_unspaced(text):
        return numbers(text)
    if not _is_german(text):
        names = {re.sub(r"['’]s$", "", term) for term in key_terms(text) if not term[0].isdigit()}
        return names | numbers(text)
    names = {
        word
        for s in block_sentences(text)
        for run in _NAME_RUN.findall(s.partition(" ")[2])
        for word in _WORD.findall(run)
    }
    return names | numbers(text)


def _is_german(text: str) -> bool:
    words = [word.lower() for word in _WORD.findall(text)]
    return sum(word in _GERMAN for word in words) > 0.1 * len(words)


def same_language(text: str, other: str) -> bool:
    """Whether two texts could be in the same language: the same script, and enough short words in common.

    Short words are mostly function words. Short texts always pass.
    """
    if script(text) != script(other):
        return False
    known = set(_short_words(text))
    words = _short_words(other)
    return len(words) < 12 or len(known) < 6 or sum(word in known for word in words) / len(words) >= 0.25


def _short_words(text: str) -> list[str]:
    return [word for word in re.findall(r"\b[^\W\d_]{1,4}\b", text) if word.islower()]


def _holds(text: str, term: str) -> bool:
    """Whether a text contains a fact: a number as a number, a name at the start of a word, a short name as a word."""
    if term[0].isdigit() and term in numbers(term):
        return term in stated_numbers(text)
    end = r"(?!\w)" if len(term) < 4 else ""
    return re.search(rf"(?<!\w){re.escape(term)}{end}", text, re.IGNORECASE) is not None


def _listed(terms: Iterable[str]) -> str:
    shown = sorted(terms)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
