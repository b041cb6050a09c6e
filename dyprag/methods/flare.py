"""FLARE (Jiang et al. 2023, arXiv 2305.06983), direct form, a baseline of §4.

A sentence of low confidence is discarded, passages are retrieved for it, and it is written again.
"""

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
    """Retrieves for sentences whose confidence is below the threshold.

    The first draft is written without passages; later drafts have those of the last retrieval.

    threshold: sentences below it are written again, and tokens below it are left out of the query.
    passages: number of passages per retrieval. They replace those of the previous retrieval.
    rounds: maximum number of retrievals per question.
    confidence: computes a sentence's confidence from its tokens' probabilities: the minimum, as in FLARE's paper.
        DRAGIN's authors, who published the thresholds 0.08 and 0.10, compare the mean of 1 - p instead: that is
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
        """Answer in rounds. Documents retrieved for the questions beforehand are not used."""
        return answer_in_rounds(base, self, asked, sampling, batch_size)

    def examine(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[Doubt | None]:
        """Find the first sentence of each draft with too little confidence."""
        return [self._examine(base, draft) for draft in drafts]

    def extremes(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[float]:
        """Return the lowest confidence of a sentence of each draft; 1 for an empty draft."""
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
        return self.confidence([draft.probabilities[position - len(draft.kept)] for position in sentence])

    def _query(self, base: BaseModel, draft: Draft, sentence: range) -> str:
        """Build the query: the sentence without its uncertain tokens, or the question if no word is left."""

        def confident(position: int) -> bool:
            return draft.probabilities[position - len(draft.kept)] >= self.threshold

        ids = draft.text
        runs = [[ids[position] for position in run] for kept, run in groupby(sentence, confident) if kept]
        pieces = [base.tokenizer.decode(run, skip_special_tokens=True).strip() for run in runs]
        query = " ".join(piece for piece in pieces if piece)
        return query if re.search(r"\w", query) else draft.question


def build(spec: MethodSpec, resources: Resources) -> FLARE:
    """Build FLARE with the chosen threshold, or with the published rule and threshold if none was chosen."""
    retriever, passages = resources.retriever(), resources.settings.passages
    if resources.threshold is None:
        assert spec.threshold is not None
        return FLARE(retriever, 1 - spec.threshold, passages, confidence=fmean)
    return FLARE(retriever, resources.threshold, passages)
