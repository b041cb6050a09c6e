"""The cache of a worker: objects are created once, for one store and model at a time, and dropped on close."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import make_tiny_model

from dyprag.config import ModelSettings, PipelineConfig
from dyprag.corpora.documents import Corpus, Document
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import write_corpus
from dyprag.tasks import worker as module
from dyprag.tasks.worker import Worker, worker_for, worker_of


@pytest.fixture
def worker() -> Worker:
    return Worker("store", ModelSettings())


@pytest.fixture
def no_worker() -> Iterator[None]:
    """A process without a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_current", None)
        yield


@pytest.mark.usefixtures("no_worker")
def test_a_process_has_one_worker_per_store_and_model(tmp_path: Path):
    here = PipelineConfig(store=str(tmp_path / "here"))
    first = worker_of(here)
    assert worker_of(PipelineConfig(store=here.store)) is first
    assert worker_for(here.store) is first, "whoever names no model takes the one that is there"
    other = worker_of(PipelineConfig(store=here.store, model=ModelSettings(name="other")))
    assert other is not first
    assert worker_for(here.store) is other
    assert worker_for(str(tmp_path / "there")).model.name == "other"


@pytest.mark.usefixtures("no_worker")
def test_a_corpus_is_read_once_until_the_worker_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lamp = Document("lamp", "The Ostrel lamp was built in 1911.")
    store = Store(tmp_path)
    store.write(Record("corpus", "ab" * 16, [], {}), lambda folder: write_corpus(folder, Corpus((lamp,))))
    reads: list[Path] = []
    read = module.read_corpus
    monkeypatch.setattr(module, "read_corpus", lambda folder: reads.append(folder) or read(folder))
    worker = worker_for(str(tmp_path))
    assert worker.documents("ab" * 16)["lamp"].text == lamp.text
    assert worker.corpus("ab" * 16).documents[0].id == "lamp"
    assert len(reads) == 1
    worker.close()
    worker.documents("ab" * 16)
    assert len(reads) == 2


def test_threads_that_need_the_same_object_create_it_once(worker: Worker):
    made: list[int] = []
    together = threading.Barrier(4)

    def make() -> int:
        made.append(1)
        threading.Event().wait(0.05)
        return len(made)

    def ask() -> None:
        together.wait()
        given.append(worker.keep("things", "a", make))

    given: list[int] = []
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given == [1] * 4


def test_cached_objects_are_available_while_another_is_created(worker: Worker):
    worker.keep("things", "a", lambda: 1, limit=2)
    begun, over = threading.Event(), threading.Event()

    def make() -> int:
        begun.set()
        assert over.wait(10)
        return 2

    thread = threading.Thread(target=worker.keep, args=("things", "b", make, 2))
    thread.start()
    assert begun.wait(10)
    given: list[int] = []
    asking = threading.Thread(target=lambda: given.append(worker.keep("things", "a", lambda: 3, limit=2)), daemon=True)
    asking.start()
    asking.join(10)
    over.set()
    thread.join()
    assert given == [1]


def test_the_most_recently_used_objects_are_kept_and_failures_are_not(worker: Worker):
    for key in ("a", "b", "a", "c"):
        worker.keep("things", key, lambda key=key: key, limit=2)
    assert worker.keep("things", "a", lambda: "new", limit=2) == "a"
    assert worker.keep("things", "b", lambda: "new", limit=2) == "new"
    with pytest.raises(ZeroDivisionError):
        worker.keep("others", "a", lambda: 1 // 0)
    assert worker.keep("others", "a", lambda: 1) == 1


def test_a_model_whose_files_have_changed_is_loaded_again_for_the_next_question(tmp_path: Path):
    folder = make_tiny_model(tmp_path / "tiny")
    worker = Worker("store", ModelSettings(name=str(folder), dtype="float32", device="cpu"))
    first = worker.asked_alone()
    assert first.prefixes is not None
    assert worker.base_model().prefixes is None  # an evaluation's answers do not depend on earlier questions
    assert worker.asked_alone() is first
    make_tiny_model(folder, layers=3)
    second = worker.asked_alone()
    assert (first.layers, second.layers) == (2, 3)
