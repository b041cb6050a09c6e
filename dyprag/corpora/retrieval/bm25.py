"""BM25 in memory, for corpora of up to some thousand documents; what every retriever shares; how well it found."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from rank_bm25 import BM25Okapi

from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.text.words import search_words

RETRIEVAL_VERSION = 3  # part of the keys of answers that were retrieved for on the way: raise it with any change here


class Retriever(Protocol):
    """Finds the documents that fit a question best."""

    def search(self, question: str, count: int) -> list[Retrieved]:
        """Up to `count` of the documents that have a word of the question, best first."""
        ...


class _Okapi(BM25Okapi):
    """With Lucene's inverse document frequency, ln(1 + …), as in the index on disk and in the paper's Elasticsearch.

    rank_bm25's own is below zero for a word of more than half of the passages, and zero for one of just half of them:
    of two documents, none would be found for a word that only one of them has.
    """

    def _calc_idf(self, nd: Mapping[str, int]) -> None:
        count = self.corpus_size
        self.idf = {word: math.log(1 + (count - inside + 0.5) / (inside + 0.5)) for word, inside in nd.items()}


class BM25Retriever:
    """Okapi BM25 over titles and texts; the words are those of `search_words`, in every script and spelling."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = list(documents)
        passages = [search_words(document.passage) for document in self._documents]
        self._index = _Okapi(passages) if any(passages) else None  # it divides by the mean length

    def search(self, question: str, count: int) -> list[Retrieved]:
        """Up to `count` of the documents that have a word of the question, the best first; equal scores keep the
        corpus's order, so results are repeatable."""
        if self._index is None:
            return []
        scores = self._index.get_scores(search_words(question))
        order = np.argsort(-scores, kind="stable")[:count]
        return [Retrieved(self._documents[index], float(scores[index])) for index in order if scores[index] > 0]


def among_given(documents: Sequence[Document], question: str, count: int) -> tuple[Retrieved, ...]:
    """Up to `count` of documents that were handed over with a question, best first. Where none of them has a word of
    it ("Summarise this.") and there are no more than `count`, all of them are meant, with a score of 0."""
    found = tuple(BM25Retriever(documents).search(question, count))
    if found or len(documents) > count:
        return found
    return tuple(Retrieved(document, 0.0) for document in documents)


def recall(found: Sequence[str], gold: Sequence[str]) -> float | None:
    """The share of the gold documents' ids that are among those found; None where the question has no gold."""
    wanted = set(gold)
    return len(wanted & set(found)) / len(wanted) if wanted else None
