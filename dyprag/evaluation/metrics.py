"""The official scoring (§4.1): EM and token F1 with their alias maximum. What is scored of an output, and answer
presence, are `dyprag.corpora.text.answers`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.corpora.text.answers import YES_NO, aliases_of
from dyprag.corpora.text.answers import answer_presence as answer_presence
from dyprag.corpora.text.answers import extract_answer as extract_answer
from dyprag.corpora.text.answers import normalise as normalise


@dataclass(frozen=True)
class Score:
    """How one prediction compares with a question's answers: the part of it that was scored, and values from 0 to 1."""

    extracted: str
    em: float
    f1: float
    precision: float
    recall: float


def score(prediction: str, answers: str | Sequence[str], *, chain_of_thought: bool = False) -> Score:
    """Score a prediction against a question's answer, or answers: for each measure the best over the aliases.

    Args:
        answers: at least one.
    """
    extracted = extract_answer(prediction, chain_of_thought)
    words = normalise(extracted)
    scores = [_compared(words, normalise(answer)) for answer in aliases_of(answers)]
    f1, precision, recall = max((values for _, values in scores), key=lambda values: values[0])
    return Score(extracted, max(em for em, _ in scores), f1, precision, recall)


def _compared(prediction: str, answer: str) -> tuple[float, tuple[float, float, float]]:
    """EM, and (F1, precision, recall), of two normalised texts."""
    exact, nothing = float(prediction == answer), (0.0, 0.0, 0.0)
    if prediction != answer and {prediction, answer} & {*YES_NO, "noanswer"}:
        return exact, nothing
    predicted, wanted = prediction.split(), answer.split()
    common = sum((Counter(predicted) & Counter(wanted)).values())
    if common == 0:
        return exact, nothing
    precision, recall = common / len(predicted), common / len(wanted)
    return exact, (2 * precision * recall / (precision + recall), precision, recall)
