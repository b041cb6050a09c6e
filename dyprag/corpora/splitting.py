"""Long documents as passages: so many tokens of the model's at most, ended where sentences and paragraphs end."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from dyprag.corpora.documents import Corpus, Document, Question
from dyprag.corpora.text.forms import folded
from dyprag.errors import CorpusError
from dyprag.model.files import model_folder
from dyprag.model.tokenization import load_tokenizer

LONGEST = 4_000  # characters without a space or a full stop: splitting takes time with their square


def splitter(model: str, tokens: int, overlap: int) -> Callable[[str], list[str]]:
    """What splits a text into passages.

    Args:
        model: whose tokenizer counts.
        tokens: most tokens of a passage.
        overlap: of these, most that the passage before ends with: whole sentences, if they fit.

    Raises:
        ModelError: there is no such model.
    """
    from semantic_text_splitter import TextSplitter

    tokenizer = load_tokenizer(model_folder(model)).backend_tokenizer
    chunks = TextSplitter.from_huggingface_tokenizer(tokenizer, tokens, overlap=overlap).chunks
    return lambda text: [passage for part in _breakable(text) for passage in chunks(part)]


def _breakable(text: str) -> Iterator[str]:
    """The text; one with a stretch that nothing breaks, such as a picture in base64, in parts: cut within it."""
    begin = 0
    for stretch in re.finditer(r"[^\s。！？]+", text):
        for cut in range(stretch.start() + LONGEST, stretch.end(), LONGEST):
            yield text[begin:cut]
            begin = cut
    yield text[begin:]


def split_document(document: Document, split: Callable[[str], list[str]]) -> list[Document]:
    """The passages of a document, DOCUMENT#1, DOCUMENT#2, ...; itself where it is short enough."""
    texts = split(document.text)
    if len(texts) < 2:
        return [document]
    return [
        Document(f"{document.id}#{n}", text, document.title, document.source) for n, text in enumerate(texts, start=1)
    ]


def split_corpus(corpus: Corpus, split: Callable[[str], list[str]]) -> Corpus:
    """The corpus with every document that is split replaced by its passages.

    A question about such a document is one about those passages that an answer of it stands in; about all of them
    where none is found.

    Raises:
        CorpusError: a document has the id of another's passage.
    """
    documents: list[Document] = []
    passages: dict[str, list[Document]] = {}
    for document in corpus.documents:
        parts = split_document(document, split)
        documents += parts
        if len(parts) > 1:
            passages[document.id] = parts
    if len({document.id for document in documents}) < len(documents):
        taken_ids = {part.id for some in passages.values() for part in some}
        taken = next(document.id for document in corpus.documents if document.id in taken_ids)
        raise CorpusError(f"document {taken!r}", "its id is also the id of another document's passage", "Rename it.")
    questions = tuple(
        replace(
            question, documents=tuple(about for one in question.documents for about in _about(question, one, passages))
        )
        for question in corpus.questions
    )
    return replace(corpus, documents=tuple(documents), questions=questions)


def _about(question: Question, document: str, passages: dict[str, list[Document]]) -> list[str]:
    if document not in passages:
        return [document]
    answers = [folded(answer) for answer in question.answers]
    holding = [p.id for p in passages[document] if any(answer in folded(p.text) for answer in answers)]
    return holding or [passage.id for passage in passages[document]]
