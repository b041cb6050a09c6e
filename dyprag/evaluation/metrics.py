"""The official scoring: answer extraction, EM and token F1 with their alias maximum, and bootstrap intervals."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """How one prediction compares with a question's answers; each value between 0 and 1."""

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
    return re.split(r"[.,\n]", text.strip(), maxsplit=1)[0].strip()


def normalise(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces (the usual SQuAD normalisation)."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def score(prediction: str, answers: Sequence[str], chain_of_thought: bool = False) -> Score:
    """Score a prediction against a question's answers: for each measure the best over the aliases."""
    extracted = normalise(extract_answer(prediction, chain_of_thought))
    scores = [_score_one(extracted, normalise(answer)) for answer in answers]
    best = max(scores, key=lambda s: s.f1)
    return Score(max(s.em for s in scores), best.f1, best.precision, best.recall)


def _score_one(prediction: str, answer: str) -> Score:
    exact = float(prediction == answer)
    if prediction != answer and {prediction, answer} & {"yes", "no", "noanswer"}:
        return Score(exact, 0.0, 0.0, 0.0)
    predicted, wanted = prediction.split(), answer.split()
    common = sum((Counter(predicted) & Counter(wanted)).values())
    if common == 0:
        return Score(exact, 0.0, 0.0, 0.0)
    precision, recall = common / len(predicted), common / len(wanted)
    return Score(exact, 2 * precision * recall / (precision + recall), precision, recall)


def bootstrap_interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean over questions."""
    if not values:
        return (0.0, 0.0)
    data = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(data), (resamples, len(data)))
    low, high = np.percentile(data[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
