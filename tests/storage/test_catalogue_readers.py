"""The catalogue with other processes: readers that keep it open, processes that die, disks that cannot be written."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner, Result

from dyprag.cli.main import app
from dyprag.cli.sql import asked
from dyprag.config import PipelineConfig
from dyprag.errors import CatalogueHeld, StoreError
from dyprag.flows.fan_out import Ledger
from dyprag.flows.stage import Stage
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue, Work
from dyprag.tasks.planning.jobs import DocumentJob

HOLD = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "ro")
for statement in sys.argv[4:]:
    connection.execute(statement)
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""
DONE = [Work("a", "k", "done")]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    catalogue = Catalogue(Store(tmp_path / "store"))
    catalogue.prepare()
    return catalogue


@contextmanager
def holding(path: Path, mode: str = "ro", seconds: float = 60, *statements: str) -> Iterator[int]:
    """Open the file in another process. Yields its id."""
    command = [sys.executable, "-c", HOLD, str(path), mode, str(seconds), *statements]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder.pid
        holder.kill()


def sql(store: Store, statement: str) -> Result:
    return CliRunner().invoke(app, ["sql", statement, "--csv", "--set", f"store={store.root}"])


def works(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("SELECT count(*) FROM work").fetchall()[0][0]


@pytest.mark.parametrize("mode", ["ro", "rw"])  # a shell with -readonly, and a database browser that opens to write
def test_a_reader_that_keeps_the_catalogue_open_blocks_no_run(catalogue: Catalogue, mode: str):
    began = time.monotonic()
    with holding(catalogue.snapshot, mode):
        Catalogue(catalogue.store).prepare()
        catalogue.begin_run("r1", "augment", {})
        catalogue.record_work("r1", "augment", DONE)
        catalogue.finish_run("r1", "completed")
        assert works(catalogue.snapshot) == 1
        assert sql(catalogue.store, "SELECT document_id FROM work").stdout == "document_id\na\n"
    assert time.monotonic() - began < 10
    assert works(catalogue.snapshot) == 1


def test_readers_see_the_end_of_a_stage_and_open_readers_keep_the_old_copy(catalogue: Catalogue):
    with duckdb.connect(str(catalogue.snapshot), read_only=True) as reader:
        catalogue.record_work("r1", "augment", [Work(f"{number}", "k" * 5000, "done") for number in range(300)])
        catalogue.finish_run("r1", "completed")
        assert reader.execute("SELECT count(*) FROM work").fetchall() == [(0,)]
    assert works(catalogue.snapshot) == 300


def test_readers_always_see_a_complete_catalogue(catalogue: Catalogue):
    ended = threading.Event()
    counts: list[int] = []
    faults: list[BaseException] = []

    def read() -> None:
        while not ended.is_set():
            try:
                counts.append(int(asked("SELECT count(*) FROM work", catalogue)[1][0][0]))
            except BaseException as error:
                faults.append(error)

    reading = subprocess.Popen(
        [sys.executable, "-c", "import duckdb, sys\nfor _ in range(40):\n"
         " with duckdb.connect(sys.argv[1], read_only=True) as c: c.execute('FROM work').fetchall()",
         str(catalogue.snapshot)]
    )  # fmt: skip
    thread = threading.Thread(target=read)
    thread.start()
    for number in range(12):
        catalogue.record_work("r1", "augment", [Work(f"{number}", "k", "done")])
        catalogue.finish_run("r1", "completed")
    ended.set()
    thread.join()
    assert reading.wait(60) == 0
    assert faults == []
    assert counts == sorted(counts)


def test_sql_shows_what_a_run_has_written_before_the_stage_ends(catalogue: Catalogue):
    catalogue.record_work("r1", "augment", DONE)
    assert works(catalogue.snapshot) == 0  # too young to be made anew
    assert sql(catalogue.store, "SELECT count(*) AS n FROM work").stdout == "n\n1\n"


def test_changes_of_the_copy_do_not_reach_the_catalogue(catalogue: Catalogue):
    catalogue.record_work("r1", "augment", DONE)
    assert sql(catalogue.store, "SELECT count(*) AS n FROM work").stdout == "n\n1\n"
    with duckdb.connect(str(catalogue.snapshot)) as browser:
        browser.execute("DELETE FROM work")
    assert sql(catalogue.store, "SELECT count(*) AS n FROM work").stdout == "n\n1\n"
    with holding(catalogue.snapshot, "rw", 60, "INSERT INTO runs (run_id) VALUES ('mine')"):
        catalogue.finish_run("r1", "completed")
        log = catalogue.snapshot.with_name("catalogue.duckdb.wal")
        assert not log.exists()  # of the old copy: it would be applied to the new one
        assert works(catalogue.snapshot) == 1


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_the_process_that_holds_the_file_is_named_while_waiting(catalogue: Catalogue, messages: list[str], mode: str):
    with holding(catalogue.path, mode, 2.5) as process:
        catalogue.record_work("r1", "augment", DONE)
    (said,) = messages
    assert f"(PID {process}: {sys.executable}" in said
    assert catalogue.query("SELECT count(*) AS n FROM work") == [{"n": 1}]


def test_a_process_that_holds_the_file_for_too_long_is_named_with_a_remedy(catalogue: Catalogue):
    impatient = Catalogue(catalogue.store, wait_seconds=0.3)
    with holding(catalogue.path) as process:
        with pytest.raises(CatalogueHeld, match=rf"(?s)holds it \(PID {process}: .*finished work is kept.*catalogue.d"):
            impatient.record_work("r1", "augment", DONE)
        assert impatient.query("SELECT count(*) AS n FROM work") == [{"n": 0}]  # beside a reader one can read
    impatient.record_work("r1", "augment", DONE)


def test_a_run_continues_while_the_catalogue_is_held_and_writes_it_later(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.flows.fan_out.WRITTEN_EVERY", 0.0)
    monkeypatch.setattr("dyprag.flows.fan_out.MEANWHILE", 0.1)
    ledger = Ledger(catalogue, "run", "augment")
    with holding(catalogue.path, "ro", 2.5), ledger.recording() as record:
        began = time.monotonic()
        for name in ("a", "b", "c"):
            record([(Work(name, "k", "done"), [Record("rewrites", name * 32, [], {})])])
        assert time.monotonic() - began < 2
        assert set(ledger.outcomes) == {"a", "b", "c"}
    assert catalogue.query("SELECT count(*) AS n FROM work") == [{"n": 3}]
    assert catalogue.query("SELECT count(*) AS n FROM artifacts") == [{"n": 3}]


def test_a_run_that_can_never_write_keeps_its_artifacts_for_the_next(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.flows.fan_out.WRITTEN_EVERY", 0.0)
    impatient = Catalogue(catalogue.store, wait_seconds=0.3)
    made = catalogue.store.write(Record("rewrites", "ab" * 16, [], {}, "dk", "a"), lambda folder: None)

    def work() -> None:
        with Ledger(impatient, "run", "augment").recording() as record:
            record([(Work("a", made.key, "done"), [made])])

    with holding(catalogue.path), pytest.raises(CatalogueHeld, match="finished work is kept"):
        work()
    assert catalogue.store.find("rewrites", made.key) is not None
    later = Stage(PipelineConfig(store=str(catalogue.store.root)), "augment")
    with Ledger(later.catalogue, later.run_id, later.name).recording() as record:
        record([later.stored("rewrites")(DocumentJob("a", "dk", made.key))])  # type: ignore[list-item]
    assert catalogue.query("SELECT state FROM work") == [{"state": "cached"}]
    assert catalogue.query("SELECT key FROM artifacts") == [{"key": made.key}]


def test_a_killed_writer_keeps_what_it_committed_and_blocks_nobody(catalogue: Catalogue):
    rows = "INSERT INTO runs (run_id) VALUES ('{}')"
    with holding(catalogue.path, "rw", 60, "BEGIN", rows.format("kept"), "COMMIT", "BEGIN", rows.format("lost")):
        pass  # killed
    assert catalogue.path.with_name(f"{catalogue.path.name}.wal").exists()
    assert catalogue.query("SELECT run_id FROM runs") == [{"run_id": "kept"}]
    assert sql(catalogue.store, "SELECT run_id FROM runs").stdout == "run_id\nkept\n"
    catalogue.finish_run("kept", "crashed")
    assert not catalogue.path.with_name(f"{catalogue.path.name}.wal").exists()


def test_a_catalogue_of_an_older_version_or_a_copied_store_is_adopted(catalogue: Catalogue):
    catalogue.record_work("r1", "augment", DONE)
    catalogue.finish_run("r1", "completed")
    catalogue.path.unlink()
    made = catalogue.store.write(Record("adapter", "ab" * 16, [], {}), lambda folder: None)  # it does not know of
    assert catalogue.query("SELECT count(*) AS n FROM work") == [{"n": 1}]
    with holding(catalogue.snapshot):
        catalogue.prepare()
    assert catalogue.query("SELECT count(*) AS n FROM work") == [{"n": 1}]
    assert catalogue.query("SELECT key FROM artifacts") == [{"key": made.key}]


def test_a_damaged_file_is_replaced_by_the_copy_and_its_history_is_kept(catalogue: Catalogue):
    catalogue.record_work("r1", "augment", DONE)
    catalogue.finish_run("r1", "completed")
    data = bytearray(catalogue.path.read_bytes())
    data[12288::97] = bytes(255 - byte for byte in data[12288::97])
    catalogue.path.write_bytes(data)
    began = time.monotonic()
    with pytest.raises(StoreError, match="cannot be opened"):  # not: another process holds it
        catalogue.record_work("r2", "augment", DONE)
    made = catalogue.rebuild()
    assert time.monotonic() - began < 10
    assert made.rows["work"] == 1
    assert made.lost[0].startswith("work, runs, scores and results since 20")


def test_a_read_only_store_is_reported(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch):
    catalogue.record_work("r1", "augment", DONE)
    monkeypatch.setattr(Store, "_try_writing", _read_only)
    monkeypatch.setattr("dyprag.storage.catalogue_file.os.open", _read_only)
    at = ["--set", f"store={catalogue.store.root}"]
    assert '"stage": "augment", "done": 1' in CliRunner().invoke(app, ["status", "--json", *at]).stdout
    assert sql(catalogue.store, "SELECT count(*) AS n FROM work").stdout == "n\n1\n"
    assert CliRunner().invoke(app, ["verify", *at]).exit_code == 0
    said = CliRunner().invoke(app, ["report", *at])
    assert "nothing has been evaluated yet" in said.stderr
    with pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\)"):
        catalogue.record_work("r2", "augment", DONE)


def test_reading_a_missing_store_does_not_create_it(tmp_path: Path):
    said = CliRunner().invoke(app, ["status", "--set", f"store={tmp_path / 'none'}"])
    assert "it does not exist yet" in said.stderr
    assert not (tmp_path / "none").exists()


def test_a_full_disk_keeps_the_old_copy_and_does_not_stop_the_run(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shutil, "copyfile", full)
    catalogue.record_work("r1", "augment", DONE)
    catalogue.finish_run("r1", "completed")
    assert works(catalogue.snapshot) == 0
    monkeypatch.undo()
    assert sql(catalogue.store, "SELECT count(*) AS n FROM work").stdout == "n\n1\n"


def _read_only(*_: Any) -> None:
    raise OSError(30, os.strerror(30))
