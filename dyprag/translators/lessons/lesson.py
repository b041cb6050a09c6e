"""What a translator is trained on and asked about: documents with question-answer pairs."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from dyprag.corpora.documents import Document, QAPair


@dataclass(frozen=True)
class Lesson:
    """A document and question-answer pairs about it. others: for each pair the other answers that count as right, where
    there are any; nothing is trained on those."""

    document: Document
    pairs: tuple[QAPair, ...]
    others: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def key(self) -> str:
        """A name for it by passage and pairs, whatever the document's id."""
        content = repr((self.document.passage, self.pairs, *([self.others] if self.others else [])))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
