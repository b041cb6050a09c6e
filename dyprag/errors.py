"""The project's exceptions. Each message names the input, the reason and the remedy, so a user can act on one line."""

CONVERT = "Convert it, for example: iconv -f CP1252 -t UTF-8 OLD > NEW."  # the remedy for a file that is not UTF-8


class DypragError(Exception):
    """Base class of all errors that a user can fix.

    Args:
        subject: the file, document id, setting or other input that was being handled.
        reason: what is wrong with it.
        remedy: what the user can do about it.
    """

    def __init__(self, subject: str, reason: str, remedy: str) -> None:
        super().__init__(subject, reason, remedy)
        self.subject, self.reason, self.remedy = subject, reason, remedy

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}. {self.remedy}"


class ConfigError(DypragError):
    """A setting does not exist, or its value is invalid."""


class CorpusError(DypragError):
    """A corpus or question file cannot be used at all."""


class DocumentError(DypragError):
    """One document cannot be processed. The other documents are not affected."""


class DocumentTooLong(DocumentError):
    """The document exceeds the model's context length or a configured limit."""


class OutOfMemory(DocumentError):
    """The machine ran out of memory while processing this document."""


class WorkerLost(DocumentError):
    """The worker process dies on every attempt to process this document."""


class ShardLost(DypragError):
    """A worker process died while processing a group of documents. Each half of the group is retried separately."""


class Waiting(DypragError):
    """A document cannot continue now, for reasons outside the document. A later run resumes it."""


class Stopped(Waiting):
    """No document can continue: the budget is exhausted, or the endpoint is down or rejects the API key."""


class Interrupted(Stopped):
    """The work was interrupted by Ctrl-C or a signal."""


class ModelError(DypragError):
    """A base model cannot be found, loaded or adapted."""


class ArtifactError(DypragError):
    """A stored artifact is missing or damaged."""


class StoreError(DypragError):
    """A store folder or catalogue cannot be read or written."""


class ExportError(DypragError):
    """An object cannot be exported, or the target folder is not usable."""


class ServerError(DypragError):
    """A Prefect server does not respond, so a run cannot start or its final state cannot be read."""


class CatalogueHeld(StoreError):
    """Another process holds the lock on the catalogue. The catalogue itself is not known to be damaged."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an out-of-memory error of Python, CUDA or PyTorch's CPU allocator."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(phrase in str(error) for phrase in ("out of memory", "can't allocate memory", "not enough memory"))
    )
