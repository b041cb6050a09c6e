"""Retrieval: BM25 as rank_bm25 computes it, in an order that can be repeated."""

import re

from conftest import TEXTS
from rank_bm25 import BM25Okapi

from dyprag.documents import Document
from dyprag.retrieval import BM25Retriever

DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()] + [
    Document("river", "The river Osk is 90 kilometres long. It ends at Brevik Harbour.", "Osk"),
    Document("town", "Dunmere lies on the Osk. Greta Olmsted was born there."),
]


def test_scores_and_order_are_those_of_rank_bm25():
    question = "Which river does the Quarn bridge, built by Olmsted, CROSS at Dunmere?"
    words = [re.findall(r"\w+", f"{d.title}\n{d.text}".lower()) for d in DOCUMENTS]
    scores = BM25Okapi(words).get_scores(re.findall(r"\w+", question.lower()))
    found = BM25Retriever(DOCUMENTS).search(question, 5)
    assert [item.score for item in found] == sorted(scores, reverse=True)
    assert {item.document.id: item.score for item in found} == dict(zip((d.id for d in DOCUMENTS), scores, strict=True))
    assert [item.document.id for item in BM25Retriever(DOCUMENTS).search(question, 2)] == [
        item.document.id for item in found[:2]
    ]


def test_a_title_is_found_too():
    assert BM25Retriever(DOCUMENTS).search("book", 1)[0].document.id == "book"


def test_ties_keep_the_corpus_order():
    found = BM25Retriever(DOCUMENTS).search("xylophone", 4)
    assert [item.document for item in found] == DOCUMENTS[:4]
    twins = [Document(str(number), "The same text.") for number in range(5)]
    assert [item.document for item in BM25Retriever([*twins, *DOCUMENTS]).search("same text", 5)] == twins


def test_fewer_documents_than_asked_are_all_of_them():
    assert len(BM25Retriever(DOCUMENTS[:2]).search("lamp", 3)) == 2


def test_a_question_and_a_document_without_words_are_no_error():
    documents = [*DOCUMENTS, Document("empty", "")]
    assert len(BM25Retriever(documents).search("?!", 9)) == len(documents)
    assert len(BM25Retriever([Document("empty", ""), Document("marks", "?!")]).search("lamp", 9)) == 2
