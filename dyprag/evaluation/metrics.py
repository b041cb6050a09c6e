"""The official scoring (§4.1): answer extraction, EM and token F1 with their alias maximum; and answer presence.

Texts are compared by the words of the official code, and in one spelling (`folded`). Scripts without spaces, and
Korean, are compared by their letters, as in the evaluations of MLQA, CMRC 2018 and KorQuAD.

Presence asks whether the answer occurs anywhere in the uncut output, which the form of an answer cannot inflate as
easily as it does F1.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from dyprag.corpora.text.forms import RANGE, SPELLED_AS_ASCII, folded
from dyprag.corpora.text.words import units

_YES_NO = frozenset({"yes", "no"})
# The full stop, the comma and the end of a line, in the signs of every script.
_END_OF_ANSWER = regex.compile(r"[.,\n。．｡，､、،۔।॥։።፣។၊။།᠂᠃]")
# Marks that no Latin text has: those of the official code's languages stay with the words that they touch.
_OTHER_MARKS = regex.compile(r"[^\P{P}\x00-\u036f\u2000-\u206f\u2e00-\u2e7f]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PRINTED_MARKS = regex.compile(r"[^\P{P}\x00-\x7f]|[^\P{S}\x00-\x7f]")


@dataclass(frozen=True)
class Score:
    """How one prediction compares with a question's answers: the part of it that was scored, and values from 0 to 1."""

    extracted: str
    em: float
    f1: float
    precision: float
    recall: float


def extract_answer(prediction: str, chain_of_thought: bool = False) -> str:
    """The part of a prediction that is scored.

    With chain of thought, what follows the first 'the answer is' (in lower case, as the official code looks for it);
    then, in both cases, up to the first full stop, comma or line break.
    """
    text = prediction
    if chain_of_thought and "the answer is" in text:
        text = text[text.index("the answer is") + len("the answer is") :]
    return _END_OF_ANSWER.split(text.strip(), maxsplit=1)[0].strip()


def normalise(text: str) -> str:
    """Lower case, without punctuation and English articles, single spaces (the usual SQuAD normalisation); in one
    spelling, and letters that are compared by themselves parted by a space."""
    text = folded(_OTHER_MARKS.sub(" ", text)).translate(_PUNCTUATION)
    return " ".join(units(re.sub(r"\b(a|an|the)\b", " ", text)))


def score(prediction: str, answers: str | Sequence[str], *, chain_of_thought: bool = False) -> Score:
    """Score a prediction against a question's answer, or answers: for each measure the best over the aliases.

    Args:
        answers: at least one.
    """
    extracted = extract_answer(prediction, chain_of_thought)
    words = normalise(extracted)
    scores = [_compared(words, normalise(answer)) for answer in _aliases(answers)]
    f1, precision, recall = max((values for _, values in scores), key=lambda values: values[0])
    return Score(extracted, max(em for em, _ in scores), f1, precision, recall)


def answer_presence(output: str, answers: str | Sequence[str]) -> bool:
    """Whether an answer, or one of its aliases, occurs in the whole output, as whole words and both normalised.

    Of yes and no, whichever the output says first decides.
    """
    if _is_present(output, _aliases(answers)):
        return True
    ranges = RANGE.search(output) or any(RANGE.search(answer) for answer in _aliases(answers))
    return bool(ranges) and _is_present(RANGE.sub("-", output), [RANGE.sub("-", one) for one in _aliases(answers)])


def _is_present(output: str, answers: Sequence[str]) -> bool:
    wanted = {_spaced(answer) for answer in answers} - {""}
    found = _spaced(output)
    said = next((word for word in found.split() if word in _YES_NO), None)
    return said in wanted or any(f" {answer} " in f" {found} " for answer in wanted - _YES_NO)


def _aliases(answers: str | Sequence[str]) -> Sequence[str]:
    return [answers] if isinstance(answers, str) else answers


def _compared(prediction: str, answer: str) -> tuple[float, tuple[float, float, float]]:
    """EM, and (F1, precision, recall), of two normalised texts."""
    exact, nothing = float(prediction == answer), (0.0, 0.0, 0.0)
    if prediction != answer and {prediction, answer} & {*_YES_NO, "noanswer"}:
        return exact, nothing
    predicted, wanted = prediction.split(), answer.split()
    common = sum((Counter(predicted) & Counter(wanted)).values())
    if common == 0:
        return exact, nothing
    precision, recall = common / len(predicted), common / len(wanted)
    return exact, (2 * precision * recall / (precision + recall), precision, recall)


def _spaced(text: str) -> str:
    """Normalised; the quotation marks and dashes of print, which the usual normalisation leaves on the words that they
    touch, part words."""
    return normalise(_PRINTED_MARKS.sub(lambda found: found[0] if found[0] in SPELLED_AS_ASCII else " ", text))
