"""Jobs: what is handed to a task, one thing to make, and the name under which people see it."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from dyprag.augmentation.products import ProductName


class Job(Protocol):
    """Work of one stage on one thing, which may be a document, a batch of answers or a measurement."""

    @property
    def label(self) -> str:
        """What it is shown as, in logs, tables and the catalogue: a document's id, or the name of other work."""

    @property
    def document_key(self) -> str:
        """The key of the document that it works on; empty where it works on none, or on many."""

    @property
    def key(self) -> str:
        """The key of what it makes."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True)
class NamedJob:
    """Work that is no document's: a stage's one artifact, such as its translator."""

    label: str
    key: str
    document_key: str = ""


@dataclass(frozen=True)
class DocumentJob:
    """One document's work in one stage: what to make, and the key of what it is made from."""

    document_id: str
    document_key: str
    key: str
    upstream: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What it is shown as."""
        return self.document_id


PairJobs = tuple[DocumentJob, DocumentJob]  # of a document that a translator is trained on: its adapter, its embedding


@dataclass(frozen=True)
class AugmentJob:
    """One document's augmentation: its key, and the key of each product that it consists of."""

    document_id: str
    document_key: str
    key: str
    products: dict[ProductName, str]

    @property
    def label(self) -> str:
        """What it is shown as."""
        return self.document_id
