"""The project's own errors. Each names the input, the reason and the remedy, so that one line is enough to act on."""

CONVERT = "Convert it, for example: iconv -f CP1252 -t UTF-8 OLD > NEW."  # the remedy for a file that is not UTF-8


class DypragError(Exception):
    """Base of all errors that a user can mend.

    Args:
        subject: what was being handled: a file, a document id, a setting.
        reason: what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, subject: str, reason: str, remedy: str) -> None:
        super().__init__(subject, reason, remedy)
        self.subject, self.reason, self.remedy = subject, reason, remedy

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}. {self.remedy}"


class ConfigError(DypragError):
    """A setting that does not exist or has a value that cannot be used."""


class CorpusError(DypragError):
    """A corpus or question file that cannot be read as a whole."""


class DocumentError(DypragError):
    """One document that cannot be processed; the others are not affected."""


class DocumentTooLong(DocumentError):
    """The document does not fit the model's context, or the limit set for it."""


class OutOfMemory(DocumentError):
    """The machine's memory did not suffice for this document."""


class WorkerLost(DocumentError):
    """A document over which its worker process dies, every time."""


class ShardLost(DypragError):
    """A worker process died over one of several documents; each half of them is tried by itself."""


class Waiting(DypragError):
    """A document that cannot go on now through no fault of its own; a later run takes it up where it stands."""


class Stopped(Waiting):
    """What keeps every document waiting: a budget that is spent, an endpoint that is down or refuses the key."""


class Interrupted(Stopped):
    """Work that ended because it was told to, by Ctrl-C or a signal."""


class ModelError(DypragError):
    """A base model that cannot be found, loaded or adapted."""


class ArtifactError(DypragError):
    """A stored artifact that is missing or damaged."""


class StoreError(DypragError):
    """A store folder or catalogue that cannot be read or written."""


class ExportError(DypragError):
    """Something that cannot be exported, or a folder that it cannot be written to."""


class ServerError(DypragError):
    """A Prefect server that does not answer, so that a run cannot begin or its end cannot be told."""


class CatalogueHeld(StoreError):
    """The catalogue is sound, for all that is known, and another process holds it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: Python's, CUDA's or the CPU allocator's own wording."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("out of memory", "can't allocate memory", "not enough memory"))
    )
