"""What every task shares: its store, its corpus, its model, and how a document's error leaves it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from prefect import State
from prefect.runtime import task_run
from prefect.states import Completed

from dyprag.batching import compute
from dyprag.config import ModelSettings, PipelineConfig
from dyprag.documents import Document
from dyprag.errors import ArtifactError, DypragError, OutOfMemory, StoreError, is_out_of_memory
from dyprag.models import BaseModel, load_model
from storage.artifacts import Record, Store
from storage.tables import read_corpus

P = ParamSpec("P")
Made = TypeVar("Made")


def once(make: Callable[P, Made]) -> Callable[P, Made]:
    """Let one thread at a time into a cached function: those that miss its cache together would each make their own."""
    lock = threading.Lock()

    @wraps(make)
    def locked(*args: P.args, **kwargs: P.kwargs) -> Made:
        with lock:
            return make(*args, **kwargs)

    return locked


def base_model(config: PipelineConfig) -> BaseModel:
    """The base model, loaded once per process."""
    return _loaded(config.model)


@once
@lru_cache(maxsize=1)
def _loaded(settings: ModelSettings) -> BaseModel:
    """Kept here as well as by `load_model`, so that whoever wants it does not wait for the model's busy thread."""
    return compute(lambda: load_model(settings.name, settings.dtype, settings.device))


@lru_cache(maxsize=4)
def ingested(store_root: str, corpus_key: str) -> dict[str, Document]:
    """The documents of an ingested corpus by id, read once per process."""
    folder = Store(store_root).open("corpus", corpus_key)
    return {document.id: document for document in read_corpus(folder).documents}


@contextmanager
def one_document(document_id: str) -> Iterator[None]:
    """Let a document's error leave its task as its own: named, and with the number of the attempt."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            error = OutOfMemory(
                f"document {document_id!r}", "the memory did not suffice for it",
                "Split the document, make the batches smaller, or use a machine with more memory.",
            ).with_traceback(error.__traceback__)  # fmt: skip
        error.attempts = attempt()  # type: ignore[attr-defined]
        raise error from None


def attempt() -> int:
    """The number of this attempt of the running task, from 1."""
    return task_run.run_count or 1


def is_passing(task: Any, run: Any, state: State[Any]) -> bool:
    """Whether a failed task is worth another try: not where the input itself is at fault."""
    error = state.data if isinstance(state.data, BaseException) else None
    if error is None:
        error = state.result(raise_on_failure=False) if state.data is not None else None
    return passes(error)


def passes(error: BaseException | None) -> bool:
    """Whether an error may be gone at another try."""
    return isinstance(error, OutOfMemory | StoreError | ArtifactError) or not isinstance(error, DypragError)


def reused(record: Record) -> State[Record]:
    """The state of a task that found its artifact made already, by another run perhaps."""
    return Completed(name="Reused", data=record)
