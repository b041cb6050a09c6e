"""Extract the answer from an output, normalise answers, and check whether a text contains an answer.

Texts are compared by words, as in the official code (§4.1), after normalising their spelling (`folded`). Scripts
without spaces, and Korean, are compared by characters, as in the evaluations of MLQA, CMRC 2018 and KorQuAD.

Answer presence checks whether the answer occurs anywhere in the full output. The form of an answer affects it less
than F1.
"""

import re
import string
import unicodedata
from collections.abc import Sequence

import regex

from dyprag.corpora.text.forms import RANGE, SPELLED_AS_ASCII, folded
from dyprag.corpora.text.words import units

YES_NO = frozenset({"yes", "no"})
# The full stop, the comma and the line break, in every script.
_END_OF_ANSWER = regex.compile(r"[.,\n。．｡，､、،۔।॥։።፣។၊။།᠂᠃]")
# Punctuation that does not occur in Latin texts. Other punctuation is handled as in the official code.
_OTHER_MARKS = regex.compile(r"[^\P{P}\x00-\u036f\u2000-\u206f\u2e00-\u2e7f]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PRINTED_MARKS = regex.compile(r"[^\P{P}\x00-\x7f]|[^\P{S}\x00-\x7f]")


def extract_answer(prediction: str, chain_of_thought: bool = False) -> str:
    """Return the part of a prediction that is scored.

    With chain of thought, this is the text after the first 'the answer is' (in lower case, as in the official code). In
    both cases it ends at the first full stop, comma or line break.
    """
    text = prediction
    if chain_of_thought and "the answer is" in text:
        text = text[text.index("the answer is") + len("the answer is") :]
    return _END_OF_ANSWER.split(text.strip(), maxsplit=1)[0].strip()


def normalise(text: str) -> str:
    """Normalise a text for comparison: the SQuAD normalisation after `folded`.

    The result is in lower case, without punctuation and English articles, and with single spaces. Characters that are
    compared individually are separated by spaces.
    """
    text = folded(_OTHER_MARKS.sub(_as_typed, text)).translate(_PUNCTUATION)
    return " ".join(units(re.sub(r"\b(a|an|the)\b", " ", text)))


def _as_typed(mark: regex.Match[str]) -> str:
    """A mark inside a word or number as it is typed on a keyboard ("AT＆T", "צה״ל"); a space for any other mark."""
    typed = folded(mark[0])
    before, after = mark.string[mark.start() - 1 : mark.start()], mark.string[mark.end() : mark.end() + 1]
    inside = before.isalnum() and after.isalnum() and len(units(f"{before}{after}")) == 1
    in_numbers = typed in (".", ",", ":") and before.isnumeric() and after.isnumeric()
    return typed if inside and (in_numbers or typed in ("&", "/", "-", "'", '"')) else " "


def answer_presence(output: str, answers: str | Sequence[str]) -> bool:
    """Whether an answer, or one of its aliases, occurs in the output as whole words, after normalising both.

    For yes/no answers, the first "yes" or "no" in the output decides.
    """
    aliases = aliases_of(answers)
    if _is_present(output, aliases):
        return True
    ranges = RANGE.search(output) or any(RANGE.search(alias) for alias in aliases)
    return bool(ranges) and _is_present(RANGE.sub("-", output), [RANGE.sub("-", alias) for alias in aliases])


def _is_present(output: str, answers: Sequence[str]) -> bool:
    expected = {_spaced(answer) for answer in answers} - {""}
    words = _spaced(output)
    verdict = next((word for word in words.split() if word in YES_NO), None)
    return verdict in expected or any(f" {answer} " in f" {words} " for answer in expected - YES_NO)


def aliases_of(answers: str | Sequence[str]) -> Sequence[str]:
    """Return a single answer, or an answer with its aliases, as a sequence."""
    return [answers] if isinstance(answers, str) else answers


def _spaced(text: str) -> str:
    """Normalise a text, with typographic quotation marks and dashes as spaces; `normalise` keeps them in words."""
    return normalise(_PRINTED_MARKS.sub(_printed, text))


def _printed(mark: regex.Match[str]) -> str:
    """A mark as it counts for presence: letters that look like one ("№", "㎏", "℃") and marks in words are kept."""
    if mark[0] in SPELLED_AS_ASCII or any(letter.isalnum() for letter in unicodedata.normalize("NFKC", mark[0])):
        return mark[0]
    return _as_typed(mark)
