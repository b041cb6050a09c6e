"""Split long documents into passages of a maximum number of tokens, at the ends of sentences and paragraphs."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from dyprag.corpora.documents import Corpus, Document, Question
from dyprag.corpora.text.answers import answer_presence
from dyprag.errors import CorpusError
from dyprag.model.files import model_folder
from dyprag.model.tokenization import load_tokenizer

LONGEST = 4_000  # maximum characters without a space or full stop; splitting takes time quadratic in their number


def splitter(model: str, tokens: int, overlap: int) -> Callable[[str], list[str]]:
    """Return a function that splits a text into passages.

    Args:
        model: the model whose tokenizer counts the tokens.
        tokens: maximum number of tokens of a passage.
        overlap: maximum number of tokens shared with the previous passage, in whole sentences.

    Raises:
        ModelError: there is no such model.
    """
    from semantic_text_splitter import TextSplitter

    tokenizer = load_tokenizer(model_folder(model)).backend_tokenizer
    chunks = TextSplitter.from_huggingface_tokenizer(tokenizer, tokens, overlap=overlap).chunks
    return lambda text: [passage for part in _breakable(text) for passage in chunks(part)]


def _breakable(text: str) -> Iterator[str]:
    """Yield a text in parts, cut within long stretches that have no break, such as a base64 image."""
    begin = 0
    for stretch in re.finditer(r"[^\s。！？]+", text):
        for cut in range(stretch.start() + LONGEST, stretch.end(), LONGEST):
            yield text[begin:cut]
            begin = cut
    yield text[begin:]


def split_document(document: Document, split: Callable[[str], list[str]]) -> list[Document]:
    """Return the passages of a document, DOCUMENT#1, DOCUMENT#2, …, or the document itself if it is short enough."""
    texts = split(document.text)
    if len(texts) < 2:
        return [document]
    return [
        Document(f"{document.id}#{n}", text, document.title, document.source) for n, text in enumerate(texts, start=1)
    ]


def split_corpus(corpus: Corpus, split: Callable[[str], list[str]]) -> Corpus:
    """Return the corpus with long documents replaced by their passages.

    A question about a split document refers to the passages that contain one of its answers, or to all of them if no
    passage does.

    Raises:
        CorpusError: a document has the id of another document's passage.
    """
    documents: list[Document] = []
    passages: dict[str, list[Document]] = {}
    for document in corpus.documents:
        parts = split_document(document, split)
        documents += parts
        if len(parts) > 1:
            passages[document.id] = parts
    if len({document.id for document in documents}) < len(documents):
        passage_ids = {passage.id for parts in passages.values() for passage in parts}
        duplicate = next(document.id for document in corpus.documents if document.id in passage_ids)
        reason = "its id is also the id of another document's passage"
        raise CorpusError(f"document {duplicate!r}", reason, "Rename it.")
    questions = tuple(
        replace(
            question,
            documents=tuple(gold for identity in question.documents for gold in _gold(question, identity, passages)),
        )
        for question in corpus.questions
    )
    return replace(corpus, documents=tuple(documents), questions=questions)


def _gold(question: Question, document: str, passages: dict[str, list[Document]]) -> list[str]:
    """Return the ids of a gold document's passages with an answer, or of all its passages if none has one."""
    if document not in passages:
        return [document]
    with_answer = [p.id for p in passages[document] if answer_presence(p.text, question.answers)]
    return with_answer or [passage.id for passage in passages[document]]
