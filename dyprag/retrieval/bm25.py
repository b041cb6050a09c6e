"""BM25 in memory, for corpora of up to some thousand documents; what every retriever shares; how well it found."""

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from rank_bm25 import BM25Okapi

from dyprag.documents import Document, Retrieved


class Retriever(Protocol):
    """Finds the documents that fit a question best."""

    def search(self, question: str, count: int) -> list[Retrieved]:
        """The `count` best documents, best first; fewer only where there are fewer."""
        ...


class BM25Retriever:
    """Okapi BM25 over titles and texts, words in lower case."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = list(documents)
        passages = [words(document.passage) for document in self._documents]
        self._index = BM25Okapi(passages) if any(passages) else None  # it divides by the mean length

    def search(self, question: str, count: int) -> list[Retrieved]:
        """The `count` best documents; equal scores keep the corpus's order, so results are repeatable."""
        scores = self._index.get_scores(words(question)) if self._index else np.zeros(len(self._documents))
        order = np.argsort(-scores, kind="stable")[:count]
        return [Retrieved(self._documents[index], float(scores[index])) for index in order]


def words(text: str) -> list[str]:
    """The words by which a text is found: in lower case, neither stemmed nor sifted."""
    return re.findall(r"\w+", text.lower())


def recall(found: Sequence[str], gold: Sequence[str]) -> float | None:
    """The share of the gold documents' ids that are among those found; None where the question has no gold."""
    wanted = set(gold)
    return len(wanted & set(found)) / len(wanted) if wanted else None
