"""The catalogue: queries, one writer at a time, and rebuilding a missing file."""

import multiprocessing
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dyprag.config.stages import COUNTED
from dyprag.corpora.documents import Corpus, Document
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue, Work
from dyprag.storage.tables import write_corpus


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def catalogue(store: Store) -> Catalogue:
    catalogue = Catalogue(store)
    catalogue.prepare()
    return catalogue


def failed(document: str, attempts: int = 3) -> Work:
    return Work(document, "k", "failed", "dk", attempts, 0.5, "OutOfMemory", f"document {document!r}: too big")


def test_one_line_of_sql_lists_failed_documents_with_stage_and_reason(catalogue: Catalogue):
    catalogue.record_work("r1", "parametrize", [Work("a", "k1", "done"), failed("b")])
    rows = catalogue.query("SELECT document_id, stage, error FROM failures")
    assert rows == [{"document_id": "b", "stage": "parametrize", "error": "document 'b': too big"}]


def test_an_artifact_that_is_made_again_replaces_its_row(catalogue: Catalogue):
    made = Record("adapter", "ab" * 16, [], {}, "dk", "a", created=1764000000.123457, measures={"loss": 2.0})
    catalogue.record_work("r1", "parametrize", [Work("a", made.key, "done")], [made])
    catalogue.record_work("r2", "parametrize", [Work("a", made.key, "cached")], [made])
    again = replace(made, created=made.created + 0.001, measures={"loss": 1.0})
    catalogue.record_work("r3", "parametrize", [Work("a", made.key, "done")], [made, again])
    assert catalogue.query("SELECT key, measures FROM artifacts") == [{"key": made.key, "measures": '{"loss": 1.0}'}]


def test_progress_counts_the_newest_run_of_each_stage(catalogue: Catalogue):
    catalogue.record_work("r1", "augment", [failed("a"), failed("b")])
    time.sleep(0.01)
    catalogue.record_work(
        "r2",
        "augment",
        [Work("a", "k", "cached"), Work("b", "k", "done"), Work("c", "k", "waiting"),
         Work("d", "k", "partial", attempts=1, error="1 of 3 qa pairs"), Work("e", "k", "partial", error="0 of 1")],
    )  # fmt: skip
    progress = catalogue.progress()
    assert [row["stage"] for row in progress] == list(COUNTED)
    assert progress[1] == {
        "stage": "augment", "done": 4, "partial": 2, "failed": 0, "waiting": 1, "cached": 2,
    }  # fmt: skip
    partial = catalogue.query("SELECT document_id, reason FROM partial")
    assert partial == [{"document_id": "d", "reason": "1 of 3 qa pairs"}, {"document_id": "e", "reason": "0 of 1"}]
    assert catalogue.query("SELECT * FROM failures") == []


def test_verify_reports_damaged_and_missing_artifacts_and_changes_nothing(catalogue: Catalogue, store: Store):
    def fill(folder: Path) -> None:
        (folder / "text").write_text("hello")

    records = [store.write(Record("rewrites", f"{i:032x}", [], {}, "dk", f"doc{i}"), fill) for i in range(5)]
    catalogue.add_artifacts(records)
    assert catalogue.verify() == ({"rewrites": 5}, [])
    folders = [store.folder(record.kind, record.key) for record in records]
    (folders[0] / "text").write_text("jello")
    (folders[1] / "text").write_text("hell")
    (folders[2] / "record.json").unlink()
    shutil.rmtree(folders[3])
    sound, faults = catalogue.verify()
    assert sound == {"rewrites": 1}
    assert [(fault.document_id, fault.reason) for fault in faults] == [
        ("doc0", "text has a wrong checksum"), ("doc1", "text is missing or truncated"),
        ("doc2", "its record cannot be read"), ("doc3", "it is not there"),
    ]  # fmt: skip
    assert catalogue.verify() == (sound, faults)


def test_a_later_outcome_replaces_an_earlier_one_of_the_same_run(catalogue: Catalogue):
    catalogue.record_work("r1", "augment", [Work("a", "k", "waiting")])
    catalogue.record_work("r1", "augment", [Work("a", "k", "done")])
    assert catalogue.query("SELECT count(*) AS n, any_value(state) AS s FROM work") == [{"n": 1, "s": "done"}]


def test_a_deleted_catalogue_is_rebuilt_from_the_artifacts(store: Store, catalogue: Catalogue):
    record = store.write(Record("adapter", "ab" * 16, ["up"], {"rank": 2}, "dk", "doc"), lambda folder: _write(folder))
    catalogue.add_artifacts([record])
    before = catalogue.query("SELECT * FROM artifacts")
    catalogue.path.unlink()
    catalogue.prepare()
    assert catalogue.query("SELECT * FROM artifacts") == before
    assert before[0]["document_id"] == "doc"


@pytest.mark.parametrize("damaged", [False, True])
def test_a_rebuild_uses_what_is_on_disk_and_reports_what_was_lost(store: Store, catalogue: Catalogue, damaged: bool):
    corpus = Corpus((Document("a", "Two words", "T"), Document("b", "One more text")), ())
    store.write(Record("corpus", "cc" * 16, [], {}), lambda folder: write_corpus(folder, corpus))
    store.write(Record("adapter", "ab" * 16, [], {}, "dk", "a"), _write)
    unread = store.write(Record("adapter", "cd" * 16, [], {}, "dk", "b"), _write)
    (store.folder("adapter", unread.key) / "record.json").write_text("{")
    catalogue.record_work("r1", "augment", [Work("a", "k", "done")], [Record("adapter", "ef" * 16, [], {})])
    if damaged:
        catalogue.path.write_bytes(b"not a database" * 1000)
    made = catalogue.rebuild()
    assert made.rows == {
        "artifacts": 2, "documents": 2, "requests": 0, "runs": 0, "work": int(not damaged), "results": 0, "scores": 0,
    }  # fmt: skip
    assert catalogue.query("SELECT document_id, title, words FROM documents ORDER BY document_id") == [
        {"document_id": "a", "title": "T", "words": 2}, {"document_id": "b", "title": "", "words": 3},
    ]  # fmt: skip
    assert made.lost[-1].startswith("1 artifacts whose records cannot be read")
    assert [what.startswith("work, runs, scores and results") for what in made.lost] == [True] * damaged + [False]
    assert len(list(store.root.glob("damaged/catalogue*"))) == damaged
    assert catalogue.rebuild().rows == made.rows
    catalogue.record_work("r2", "augment", [Work("b", "k", "done")])


def _write(folder: Path) -> None:
    (folder / "x").write_bytes(b"12345")


def test_a_missing_catalogue_is_one_clear_error(store: Store):
    with pytest.raises(StoreError, match=r"it does not exist yet. Run the pipeline first"):
        Catalogue(store).query("SELECT 1")


def test_a_damaged_catalogue_names_the_remedy(store: Store):
    store.catalogue_path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="Run: dyprag catalogue rebuild"):
        Catalogue(store).query("SELECT 1")


HOLD = (
    "import duckdb, sys, time; connection = duckdb.connect(sys.argv[1]); print('held', flush=True); "
    "time.sleep(float(sys.argv[2]))"
)


def test_a_writer_waits_for_a_catalogue_held_by_another_process(catalogue: Catalogue):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(catalogue.path), "1.5"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        catalogue.record_work("r1", "augment", [Work("a", "k", "done")])
    assert catalogue.query("SELECT count(*) AS n FROM work") == [{"n": 1}]


def test_a_catalogue_held_for_too_long_is_one_clear_error(catalogue: Catalogue):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(catalogue.path), "60"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreError, match="another process holds it"):
            Catalogue(catalogue.store, wait_seconds=0.3).query("SELECT 1")
        with pytest.raises(StoreError, match="another process holds it"):
            Catalogue(catalogue.store, wait_seconds=0.3).rebuild()
        assert not (catalogue.store.root / "damaged").exists()
        holder.kill()


def _record_many(root: str, run: str) -> None:
    catalogue = Catalogue(Store(root))
    for number in range(20):
        catalogue.record_work(run, "augment", [Work(f"d{number}", "k", "done")])


def test_two_processes_write_in_turn_and_lose_nothing(catalogue: Catalogue):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_record_many, args=(str(catalogue.store.root), run)) for run in ("r1", "r2")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert catalogue.query("SELECT count(*) AS n FROM work") == [{"n": 40}]
