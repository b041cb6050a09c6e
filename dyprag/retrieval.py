"""Retrieval: which documents belong to a question. BM25, as in the paper (§4.1)."""

import re
from collections.abc import Sequence
from typing import Protocol

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
        words = [_words(document.passage) for document in self._documents]
        self._index = BM25Okapi(words) if any(words) else None  # it divides by the mean length

    def search(self, question: str, count: int) -> list[Retrieved]:
        """The `count` best documents; equal scores keep the corpus's order, so results are repeatable."""
        scores = self._index.get_scores(_words(question)) if self._index else [0.0] * len(self._documents)
        order = sorted(range(len(self._documents)), key=lambda index: -scores[index])
        return [Retrieved(self._documents[index], float(scores[index])) for index in order[:count]]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
