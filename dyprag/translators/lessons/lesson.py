"""Lessons: documents with question-answer pairs, for the training and the measurement of translators."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from dyprag.corpora.documents import Document, QAPair


@dataclass(frozen=True)
class Lesson:
    """A document and question-answer pairs about it.

    others: for each pair, further accepted answers, if any. They are not used for training.
    """

    document: Document
    pairs: tuple[QAPair, ...]
    others: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def key(self) -> str:
        """A hash of passage and pairs, independent of the document's id."""
        content = repr((self.document.passage, self.pairs, *([self.others] if self.others else [])))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
