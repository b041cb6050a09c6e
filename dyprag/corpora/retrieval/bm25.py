"""The retriever protocol, BM25 in memory for corpora of up to some thousand documents, and retrieval recall."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from rank_bm25 import BM25Okapi

from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.text.words import search_words

RETRIEVAL_VERSION = 3  # part of the keys of answers that retrieve while they generate; raise it with any change here


class Retriever(Protocol):
    """Finds the best documents for a question."""

    def search(self, question: str, count: int) -> list[Retrieved]:
        """Return up to `count` documents that share a word with the question, best first."""
        ...


class _Okapi(BM25Okapi):
    """BM25 with Lucene's inverse document frequency, ln(1 + …), as in the index on disk and the paper's Elasticsearch.

    rank_bm25's own value is negative for a word in more than half of the passages, and zero for a word in exactly half
    of them. In a corpus of two documents, a word of only one of them would retrieve neither.
    """

    def _calc_idf(self, nd: Mapping[str, int]) -> None:
        count = self.corpus_size
        self.idf = {word: math.log(1 + (count - inside + 0.5) / (inside + 0.5)) for word, inside in nd.items()}


class BM25Retriever:
    """Okapi BM25 over titles and texts, with the words of `search_words`."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = list(documents)
        passages = [search_words(document.passage) for document in self._documents]
        self._index = _Okapi(passages) if any(passages) else None  # it divides by the mean length

    def search(self, question: str, count: int) -> list[Retrieved]:
        """Return up to `count` documents that share a word with the question, best first.

        Documents with equal scores keep the corpus's order, so results are reproducible.
        """
        if self._index is None:
            return []
        scores = self._index.get_scores(search_words(question))
        order = np.argsort(-scores, kind="stable")[:count]
        return [Retrieved(self._documents[index], float(scores[index])) for index in order if scores[index] > 0]


def among_given(documents: Sequence[Document], question: str, count: int) -> tuple[Retrieved, ...]:
    """Return up to `count` of the documents that were given with a question, best first.

    If none of them shares a word with the question ("Summarise this.") and there are at most `count`, return all of
    them with a score of 0.
    """
    retrieved = tuple(BM25Retriever(documents).search(question, count))
    if retrieved or len(documents) > count:
        return retrieved
    return tuple(Retrieved(document, 0.0) for document in documents)


def recall(retrieved: Sequence[str], gold: Sequence[str]) -> float | None:
    """Return the share of the gold documents' ids that were retrieved; None if the question has no gold documents."""
    expected = set(gold)
    return len(expected & set(retrieved)) / len(expected) if expected else None
