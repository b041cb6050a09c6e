"""Helpers that all tasks share: access to the store, the corpus and the model, and the form in which errors leave a
task."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect import State
from prefect.runtime import task_run
from prefect.states import Completed

from dyprag.config import ModelSettings, PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.errors import ArtifactError, DypragError, OutOfMemory, StoreError, WorkerLost, is_out_of_memory
from dyprag.model.base import BaseModel
from dyprag.runtime import progress
from dyprag.storage.artifacts import Record
from dyprag.tasks.worker import worker_for, worker_of

logger = logging.getLogger("dyprag.tasks")


def base_model(config: PipelineConfig) -> BaseModel:
    """The base model, loaded once per process."""
    return worker_of(config).base_model()


def stored_translator(store_root: str, model: ModelSettings, key: str) -> Any:
    """A stored translator on the model's device, loaded once per process."""
    return worker_for(store_root, model).translator(key)


def ingested(store_root: str, corpus_key: str) -> dict[str, Document]:
    """The documents of an ingested corpus by id, read once per process."""
    return worker_for(store_root).documents(corpus_key)


@contextmanager
def translator_memory(steps: str, remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error of a translator's training into one that names the size of its steps and a remedy."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "translator", f"out of memory with steps of {steps}",
            f"{remedy}, or use a machine with more memory.",
        ) from None  # fmt: skip


@contextmanager
def training_progress(loss: str) -> Iterator[Callable[[int, int, float], None]]:
    """Report a translator's training as one unit of work. Yields a callback that takes (step, number of steps,
    loss)."""
    with progress.part(1) as training:

        def on_step(step: int, steps: int, value: float) -> None:
            if not training.share:  # the first step that is reported
                training.resumed = (step - 1) / steps
            training.share = step / steps
            training.note = f"step {step} of {steps}, {loss} {value:.3f}"

        yield on_step


@contextmanager
def one_document(document_id: str) -> Iterator[None]:
    """Give an error of a document its context: the document's id and the number of the attempt."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            error = OutOfMemory(
                f"document {document_id!r}", "it does not fit in memory",
                "Split the document, reduce the batch size, or use a machine with more memory.",
            ).with_traceback(error.__traceback__)  # fmt: skip
        error.attempts = attempt()  # type: ignore[attr-defined]
        raise error from None


def attempt() -> int:
    """The number of the running task's current attempt, from 1."""
    return task_run.run_count or 1


def is_retryable(task: Any, run: Any, state: State[Any]) -> bool:
    """Whether Prefect should retry a failed task: no if the input itself is at fault."""
    error = state.data if isinstance(state.data, BaseException) else None
    if error is None:
        error = state.result(raise_on_failure=False) if state.data is not None else None
    return is_transient(error)


def is_transient(error: BaseException | None) -> bool:
    """Whether an error may disappear on another attempt."""
    return isinstance(error, OutOfMemory | StoreError | ArtifactError | WorkerLost) or not isinstance(
        error, DypragError
    )


def reused(record: Record) -> State[Record]:
    """The state of a task whose artifact existed already, perhaps made by another run."""
    return Completed(name="Reused", data=record)
