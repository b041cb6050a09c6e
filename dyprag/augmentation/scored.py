"""A question-answer pair with its marks, as the local model's augmentation makes it."""

from dataclasses import dataclass

from dyprag.corpora.documents import QAPair


@dataclass(frozen=True)
class ScoredPair:
    """A question-answer pair with its marks.

    The mark "how" says who made the question: "writer" for a question writer, "written" if the model completed the
    first words of a rule (perhaps only by a question mark), "rule" if they stand alone, "gap" for a sentence's gap.
    All but the last also have "likelihood" and "question": the mean log-likelihood of the answer given the passage, and
    of the question, or of its end that the model wrote.
    """

    pair: QAPair
    marks: dict[str, float | str]
