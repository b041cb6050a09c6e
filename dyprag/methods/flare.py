"""FLARE (Jiang et al. 2023, arXiv 2305.06983), the direct form: a sentence that the model is not sure of is thrown
away and written again with passages that were retrieved for it. A baseline of §4."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from dyprag.adapters.generation import Sampling
from dyprag.corpora.retrieval import Retriever
from dyprag.methods.protocol import Answer, Asked
from dyprag.methods.rounds import Doubt, Draft, answer_in_rounds, sentence_ranges
from dyprag.methods.spec import MethodSpec, Resources
from dyprag.model.base import BaseModel


@dataclass(frozen=True)
class FLARE:
    """Retrieves where a sentence's confidence is below the threshold; the first look-ahead is without passages, later
    ones keep those of the last retrieval.

    threshold: a sentence is written again below it, and tokens below it are left out of the query.
    passages: of one retrieval; they take the place of the last one's.
    rounds: the most retrievals for one question.
    confidence: of a sentence, from its tokens' probabilities: the least, as FLARE's paper has it. DRAGIN's authors,
        whose 0.08 and 0.10 are those published, take the mean of 1 - p above the threshold instead: that is
        `statistics.fmean` with thresholds of 0.92 and 0.90.
    """

    retriever: Retriever
    threshold: float = 0.08
    passages: int = 3
    rounds: int = 10
    confidence: Callable[[Sequence[float]], float] = min
    name: str = "flare"
    doubts_above: bool = False

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answers in rounds; the questions' own retrieved documents are not used."""
        return answer_in_rounds(base, self, asked, sampling, batch_size)

    def examine(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[Doubt | None]:
        """The first sentence of each draft with too little confidence."""
        return [self._examine(base, draft) for draft in drafts]

    def extremes(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[float]:
        """The confidence of each draft's least sure sentence; 1 for an empty draft."""
        return [
            min((self._confidence(draft, sentence) for sentence in sentence_ranges(base, draft.text, draft.free)),
                default=1.0)
            for draft in drafts
        ]  # fmt: skip

    def _examine(self, base: BaseModel, draft: Draft) -> Doubt | None:
        for sentence in sentence_ranges(base, draft.text, draft.free):
            if self._confidence(draft, sentence) < self.threshold:
                return Doubt(sentence.start, self._query(base, draft, sentence))
        return None

    def _confidence(self, draft: Draft, sentence: range) -> float:
        return self.confidence([draft.probabilities[place - len(draft.kept)] for place in sentence])

    def _query(self, base: BaseModel, draft: Draft, sentence: range) -> str:
        """The sentence without its unsure tokens; the question where no word is left of it."""

        def sure(place: int) -> bool:
            return draft.probabilities[place - len(draft.kept)] >= self.threshold

        ids = draft.text
        runs = [[ids[place] for place in run] for kept, run in groupby(sentence, sure) if kept]
        pieces = [base.tokenizer.decode(run, skip_special_tokens=True).strip() for run in runs]
        query = " ".join(piece for piece in pieces if piece)
        return query if re.search(r"\w", query) else draft.question


def build(spec: MethodSpec, resources: Resources) -> FLARE:
    """By a threshold of its own, or by its authors' rule and threshold."""
    retriever, passages = resources.retriever(), resources.settings.passages
    if resources.threshold is None:
        assert spec.threshold is not None
        return FLARE(retriever, 1 - spec.threshold, passages, confidence=fmean)
    return FLARE(retriever, resources.threshold, passages)
