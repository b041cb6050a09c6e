"""The official metrics (§4.1): EM and token F1, each the maximum over answer aliases.

Answer extraction and answer presence are in `dyprag.corpora.text.answers`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.corpora.text.answers import YES_NO, aliases_of
from dyprag.corpora.text.answers import answer_presence as answer_presence
from dyprag.corpora.text.answers import extract_answer as extract_answer
from dyprag.corpora.text.answers import normalise as normalise


@dataclass(frozen=True)
class Score:
    """The scores of a prediction, from 0 to 1.

    extracted: the part of the prediction that was scored.
    """

    extracted: str
    em: float
    f1: float
    precision: float
    recall: float


def score(prediction: str, answers: str | Sequence[str], *, chain_of_thought: bool = False) -> Score:
    """Score a prediction against a question's answers. Each metric is the maximum over all aliases.

    Args:
        answers: the accepted answers, at least one.
    """
    extracted = extract_answer(prediction, chain_of_thought)
    words = normalise(extracted)
    scores = [_compare(words, normalise(answer)) for answer in aliases_of(answers)]
    f1, precision, recall = max((values for _, values in scores), key=lambda values: values[0])
    return Score(extracted, max(em for em, _ in scores), f1, precision, recall)


def _compare(prediction: str, answer: str) -> tuple[float, tuple[float, float, float]]:
    """Return EM and (F1, precision, recall) of two normalised texts."""
    exact, no_overlap = float(prediction == answer), (0.0, 0.0, 0.0)
    if prediction != answer and {prediction, answer} & {*YES_NO, "noanswer"}:
        return exact, no_overlap
    predicted, reference = prediction.split(), answer.split()
    common = sum((Counter(predicted) & Counter(reference)).values())
    if common == 0:
        return exact, no_overlap
    precision, recall = common / len(predicted), common / len(reference)
    return exact, (2 * precision * recall / (precision + recall), precision, recall)
