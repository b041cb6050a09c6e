"""A small corpus to search, the ids of what is found, and rank_bm25's scores to compare with."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from conftest import TEXTS
from rank_bm25 import BM25Okapi

from dyprag.corpora.documents import Document
from dyprag.corpora.retrieval import Retriever

DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()] + [
    Document("river", "The river Osk is 90 kilometres long. It ends at Brevik Harbour.", "Osk"),
    Document("town", "Dunmere lies on the Osk. Greta Olmsted was born there."),
]


def ids(retriever: Retriever, question: str, count: int) -> list[str]:
    """Return the ids of the retrieved documents, best first."""
    return [item.document.id for item in retriever.search(question, count)]


def okapi(documents: Sequence[Document]) -> BM25Okapi:
    """Compute rank_bm25's scores for the same words with Lucene's inverse document frequency, without our code."""
    index = BM25Okapi([re.findall(r"\w+", f"{d.title}\n{d.text}".lower()) for d in documents])
    inside = Counter(word for frequencies in index.doc_freqs for word in frequencies)
    index.idf = {word: math.log(1 + (len(documents) - n + 0.5) / (n + 0.5)) for word, n in inside.items()}
    return index
