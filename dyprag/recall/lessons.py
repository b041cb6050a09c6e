"""What a translator is trained on and asked about: documents with question-answer pairs."""

from dataclasses import dataclass

from dyprag.documents import Document, QAPair


@dataclass(frozen=True)
class Lesson:
    """A document and question-answer pairs about it."""

    document: Document
    pairs: tuple[QAPair, ...]
