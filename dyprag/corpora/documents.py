"""The nouns that all parts share: documents, their augmentations, questions; and the keys that name artifacts.

A key is a hash of whatever made an artifact, so equal work has an equal name and is done once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dyprag.errors import DocumentError

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode  # made once: a million documents have keys
FORMAT_VERSION = 1  # raise it when the bytes of an artifact would change for the same settings


def content_key(kind: str, inputs: Sequence[str], settings: Mapping[str, object] | None = None) -> str:
    """Name an artifact by what made it.

    Args:
        kind: the artifact's kind, such as "adapter".
        inputs: texts or keys of the upstream artifacts, in order.
        settings: those settings that change the result; must be JSON-serialisable.

    Returns:
        32 hexadecimal characters (128 bits).
    """
    payload = _encode([kind, FORMAT_VERSION, list(inputs), dict(settings or {})])
    return hashlib.blake2b(payload.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Document:
    """A text that an adapter is made for. The paper's d_i.

    `id` is the user's name for it; `key` depends on title and text only, so a renamed document is not made again.
    `source` is the file that it was read from, below the corpus' location; "" where that is the location itself, and
    for a stored one.
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
        """Why it can be of no use: it has no text; None where it has."""
        if self.text.strip():
            return None
        return DocumentError(f"document {self.id!r}", "it has no text", "Add text to it, or remove it.")

    @property
    def passage(self) -> str:
        """The text as it stands in a prompt, the title before it where there is one."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True)
class Unread:
    """What stands where a document should be and cannot be read.

    `id` is that document's where `named`, else its file's or line's name; `source` the file, as a document's.
    """

    id: str
    error: DocumentError
    source: str = ""
    named: bool = False


@dataclass(frozen=True)
class Skipped:
    """A file that holds no document, by its name (a folder's ends with a slash), and why it was passed over."""

    id: str
    reason: str


@dataclass(frozen=True)
class Noted:
    """How a file, by its name, is read, where that was guessed."""

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
    """What the augmenting model wrote about one document: n rewrites and m question-answer pairs (§3.1)."""

    rewrites: tuple[str, ...]
    qa_pairs: tuple[QAPair, ...]


@dataclass(frozen=True)
class Question:
    """A test question.

    `answers` holds the canonical answer first, then its aliases (none where only a judge can say); `documents` the ids
    of those that hold the answer, its gold documents.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    documents: tuple[str, ...] = ()
    type: str = "single"
    dataset: str = ""
    chain_of_thought: bool = False  # whether it is answered step by step, as the paper answers the multi-hop sets
    believed: tuple[str, ...] = ()  # the true answers, where its documents have been altered to contradict them


@dataclass(frozen=True)
class Retrieved:
    """A document found for a question, with the retriever's score (higher is better)."""

    document: Document
    score: float


Found = tuple[tuple[str, float], ...]  # documents found for a question, best first: id, and the retriever's score


@dataclass(frozen=True)
class Corpus:
    """Documents in the order of their source, and the questions asked about them.

    `alignment` holds the ids of the documents that the translator is trained on, where they are set apart from those
    of the test questions; `retrieved` what was found for each question (by its id) in the passages of its data set,
    and `passages` under which key those are stored, where retrieval was done before. `unread` is what could not be
    read at its source, `skipped` what holds no document there, `noted` how files are read where that was guessed; they
    are not stored.
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
