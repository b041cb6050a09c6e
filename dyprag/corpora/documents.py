"""The types that all parts share (documents, augmentations, questions) and the keys that name artifacts.

A key is a hash of everything that determines an artifact. Equal work therefore has the same key and is done only once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dyprag.errors import DocumentError

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode  # created once, used for millions of documents
FORMAT_VERSION = 1  # raise it if the bytes of an artifact change for the same settings


def content_key(kind: str, inputs: Sequence[str], settings: Mapping[str, object] | None = None) -> str:
    """Return the key of an artifact.

    Args:
        kind: the artifact's kind, such as "adapter".
        inputs: texts or keys of the upstream artifacts, in order.
        settings: the settings that affect the result; must be JSON-serialisable.

    Returns:
        32 hexadecimal characters (128 bits).
    """
    payload = _encode([kind, FORMAT_VERSION, list(inputs), dict(settings or {})])
    return hashlib.blake2b(payload.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Document:
    """A text for which an adapter is trained; the paper's d_i.

    `id` is the user's name for the document. `key` depends on title and text only, so a renamed document is not
    processed again. `source` is the file that contains it, relative to the corpus location; it is empty if the location
    itself is the file, and for stored documents.
    """

    id: str
    text: str
    title: str = ""
    source: str = field(default="", compare=False)

    @cached_property
    def key(self) -> str:
        return content_key("document", [self.title, self.text])

    @property
    def fault(self) -> DocumentError | None:
        """The error for a document without text; None if it has text."""
        if self.text.strip():
            return None
        return DocumentError(f"document {self.id!r}", "it has no text", "Add text to it, or remove it.")

    @property
    def passage(self) -> str:
        """The document as shown in a prompt: its text, after its title if it has one."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True)
class Unread:
    """A document that cannot be read.

    `id` is the document's id if `named`, and otherwise the name of its file or line. `source` is its file, as in
    `Document`.
    """

    id: str
    error: DocumentError
    source: str = ""
    named: bool = False


@dataclass(frozen=True)
class Skipped:
    """A skipped file without documents, and the reason. `id` is its name; a folder's name ends with a slash."""

    id: str
    reason: str


@dataclass(frozen=True)
class Noted:
    """A note that the format of a file was guessed. `id` is the file's name, `how` says how the file is read."""

    id: str
    how: str


@dataclass(frozen=True)
class QAPair:
    """A question with a short answer and a full-sentence answer (§3.1: q_i^j and a_i^j)."""

    question: str
    answer: str
    full_answer: str


@dataclass(frozen=True)
class Augmentation:
    """The texts that the augmenting model wrote about a document: n rewrites and m question-answer pairs (§3.1)."""

    rewrites: tuple[str, ...]
    qa_pairs: tuple[QAPair, ...]


@dataclass(frozen=True)
class Question:
    """A test question.

    `answers` contains the canonical answer first, then its aliases; it is empty if only a judge can score the question.
    `documents` contains the ids of its gold documents, which contain the answer.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    documents: tuple[str, ...] = ()
    type: str = "single"
    dataset: str = ""
    chain_of_thought: bool = False  # answer step by step, as the paper does for the multi-hop data sets
    believed: tuple[str, ...] = ()  # the true answers, if its documents have been altered to contradict them


@dataclass(frozen=True)
class Retrieved:
    """A document that was retrieved for a question, with its score (higher is better)."""

    document: Document
    score: float


Found = tuple[tuple[str, float], ...]  # the documents retrieved for a question, best first: (id, score)


@dataclass(frozen=True)
class Corpus:
    """Documents in the order of their source, and questions about them.

    Args:
        documents: the documents.
        questions: the test questions.
        alignment: ids of the documents for training the translator, if they are separate from the test documents.
        retrieved: documents retrieved for each question id from its data set's passages, if already retrieved.
        passages: the keys under which the passages of each data set are stored, if already retrieved.
        alignment_questions: the questions that the alignment documents were chosen by.
        unread: documents that could not be read. These and the following two are not stored.
        skipped: files without documents.
        noted: files whose format was guessed.
    """

    documents: tuple[Document, ...]
    questions: tuple[Question, ...] = field(default=())
    alignment: frozenset[str] | None = None
    retrieved: Mapping[str, Found] | None = None
    passages: Mapping[str, str] = field(default_factory=dict)
    alignment_questions: tuple[Question, ...] = ()
    unread: tuple[Unread, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    noted: tuple[Noted, ...] = ()
