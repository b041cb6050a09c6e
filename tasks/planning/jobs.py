"""Jobs: a job tells a task what to make, and under which name the user sees it."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from dyprag.corpora.products import ProductName


class Job(Protocol):
    """The work of one stage on one document, one batch of answers or one measurement."""

    @property
    def label(self) -> str:
        """The name shown in logs, tables and the catalogue: a document's id, or the name of other work."""

    @property
    def document_key(self) -> str:
        """The key of the job's document; empty if it has none, or several."""

    @property
    def key(self) -> str:
        """The key of the artifact that the job makes."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True)
class NamedJob:
    """A job that belongs to no document, such as training a stage's translator."""

    label: str
    key: str
    document_key: str = ""


@dataclass(frozen=True)
class DocumentJob:
    """One document's work in one stage: the key of the artifact to make, and the keys of its inputs."""

    document_id: str
    document_key: str
    key: str
    upstream: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name shown to users."""
        return self.document_id


PairJobs = tuple[DocumentJob, DocumentJob]  # adapter and embedding of one of the translator's training documents


@dataclass(frozen=True)
class AugmentJob:
    """One document's augmentation: its key, and the keys of its products."""

    document_id: str
    document_key: str
    key: str
    products: dict[ProductName, str]

    @property
    def label(self) -> str:
        """The name shown to users."""
        return self.document_id
