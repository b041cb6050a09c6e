"""Retrieve documents for a question by BM25, as in the paper (§4.1), in memory or from an index on disk."""

from dyprag.corpora.retrieval.bm25 import RETRIEVAL_VERSION, BM25Retriever, Retriever, among_given, recall
from dyprag.corpora.retrieval.index import LARGE, IndexedBM25, build_index, is_built, retriever_for
from dyprag.corpora.retrieval.passages import read_passages

__all__ = [
    "LARGE",
    "RETRIEVAL_VERSION",
    "BM25Retriever",
    "IndexedBM25",
    "Retriever",
    "among_given",
    "build_index",
    "is_built",
    "read_passages",
    "recall",
    "retriever_for",
]
