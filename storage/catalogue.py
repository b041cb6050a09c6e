"""The DuckDB catalogue: documents, artifacts, outcomes of work, failures and results.

One process writes, in short connections; others read a copy (storage/catalogue_file.py). All tables except `work`,
`runs`, `scores` and `results` can be rebuilt from the artifacts' records and the journal. This happens when the file is
missing, and in `rebuild`.

    SELECT * FROM failures;      -- which documents failed, where and why
    SELECT * FROM progress;      -- per stage: done, partial, failed, waiting, cached
    SELECT * FROM augmentations; -- per document and product: items, tries, tokens, cost, quality
    SELECT * FROM spending;      -- per document: all requests to endpoints, including those of failed documents
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import duckdb

from dyprag.config.stages import COUNTED
from dyprag.corpora.documents import Document
from dyprag.errors import ArtifactError, CatalogueHeld, StoreError
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue_file import CatalogueFile
from dyprag.storage.catalogue_rows import put_artifacts, put_documents, put_requests, put_work, read, replace_rows
from dyprag.storage.journal import count_responses, responses
from dyprag.storage.outcomes import Outcome
from dyprag.storage.versions import versions

FROM_DISK = ("artifacts", "documents", "requests")
TABLES = (*FROM_DISK, "runs", "work", "results", "scores")

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Work:
    """The outcome of one unit of work (a document, or a method on a batch of questions) in a stage of a run."""

    document_id: str
    key: str
    state: Outcome
    document_key: str = ""
    attempts: int = 0
    seconds: float = 0.0
    error_type: str = ""
    error: str = ""
    units: int = 1  # number of documents that it counts for


@dataclass(frozen=True)
class Rebuilt:
    """The result of a rebuild: rows per table, and a description of everything that was lost."""

    rows: dict[str, int]
    lost: list[str]


@dataclass(frozen=True)
class Fault:
    """A damaged or missing artifact, and the document it belongs to, if any."""

    kind: str
    key: str
    document_id: str
    reason: str


Ended = tuple[Work, list[Record]]  # an outcome, and the artifacts that were made or found


class Catalogue:
    """The catalogue of a store.

    A connection is opened for one statement or batch and then closed, so that other processes get their turn. If
    another process holds the file, the catalogue waits for it.

    Args:
        wait_seconds: How long to wait for the file; None: 30 s to read, 600 s to write.
    """

    def __init__(self, store: Store, wait_seconds: float | None = None) -> None:
        self.store, self._file = store, CatalogueFile(store, wait_seconds)
        self.path, self.snapshot = self._file.path, self._file.snapshot

    @property
    def exists(self) -> bool:
        """Whether there is a catalogue."""
        return self._file.exists

    def prepare(self) -> None:
        """Create missing tables and columns. A missing or empty catalogue is rebuilt from the artifacts."""
        missing = not self.path.exists()
        with self._writing() as connection:
            connection.execute(SCHEMA)
            known = connection.execute("SELECT count(*) FROM artifacts").fetchone()
        if missing or known == (0,):  # an adopted copy may be older than the last artifacts
            self._fill()

    def rebuild(self) -> Rebuilt:
        """Rebuild `artifacts`, `documents` and `requests` from disk; the other tables are kept.

        If the file cannot be opened, it is moved to STORE/damaged, and the other tables come from the readers' copy.

        Raises:
            CatalogueHeld: Another process holds the file for too long.
        """
        lost = []
        recreate = "".join(f"DROP TABLE IF EXISTS {table} CASCADE;" for table in FROM_DISK) + SCHEMA
        try:
            with self._writing() as connection:
                connection.execute(recreate)
        except CatalogueHeld:
            raise
        except StoreError:
            damaged, copied = self._file.give_up_damaged(self.store)
            since = "" if copied is None else f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(copied))}"
            lost.append(
                f"work, runs, scores and results{since}: the old file could not be opened and is now {damaged}; "
                "`dyprag evaluate` scores the stored answers again"
            )
            with self._writing() as connection:
                connection.execute(recreate)
        lost += self._fill()
        counts = self.query(" UNION ALL ".join(f"SELECT '{t}' AS name, count(*) AS rows FROM {t}" for t in TABLES))
        return Rebuilt({row["name"]: row["rows"] for row in counts}, lost)

    def _fill(self) -> list[str]:
        """Fill the tables that are made from disk. Returns descriptions of what could not be read."""
        from dyprag.storage.tables import read_corpus

        records = list(self.store.records())
        self.add_artifacts(records)
        self.add_requests()
        lost = []
        for record in records:
            if record.kind == "corpus":
                try:
                    documents = read_corpus(self.store.open("corpus", record.key)).documents
                except ArtifactError as error:
                    lost.append(f"the documents of a corpus: {error}")
                    continue
                self.add_documents(record.key, documents)
        unread = self.store.count() - len(records)
        if unread:
            lost.append(f"{unread} artifacts whose records cannot be read: see `dyprag verify`")
        with self._writing(ends_stage=True):
            pass  # publish the copy once, with everything in it
        return lost

    def begin_run(self, run_id: str, flow: str, config: dict[str, Any]) -> None:
        """Record the start of a flow run with its configuration. A retried run keeps its row."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs (run_id, flow, started, state, config, versions) "
                "VALUES (?, ?, now(), 'running', ?, ?)",
                [run_id, flow, json.dumps(config), json.dumps(versions())],
            )

    def note_measures(self, run_id: str, measures: dict[str, Any]) -> None:
        """Record the measures of a run."""
        with self._writing() as connection:
            connection.execute("UPDATE runs SET measures = ? WHERE run_id = ?", [json.dumps(measures), run_id])

    def run(self, run_id: str) -> dict[str, Any]:
        """A run with its configuration, versions and measures.

        Args:
            run_id: The run's id or the beginning of it.

        Raises:
            StoreError: There is no such run, or more than one.
        """
        runs = self.query("SELECT * FROM runs WHERE starts_with(run_id, ?) ORDER BY started", [run_id])
        if len(runs) != 1:
            reason = "no run has this id" if not runs else f"{len(runs)} runs have ids that begin like this"
            raise StoreError(f"run {run_id!r}", reason, "See: SELECT run_id, flow, started FROM runs.")
        return {**runs[0], **{name: json.loads(runs[0][name] or "{}") for name in ("config", "versions", "measures")}}

    def finish_run(self, run_id: str, state: str) -> None:
        """Record how a run ended, and publish the catalogue to readers."""
        with self._writing(ends_stage=True) as connection:
            connection.execute("UPDATE runs SET finished = now(), state = ? WHERE run_id = ?", [state, run_id])

    def add_documents(self, corpus_key: str, documents: Sequence[Document]) -> None:
        """Add the documents of a corpus."""
        with self._writing() as connection:
            put_documents(connection, corpus_key, documents)

    def add_artifacts(self, records: Iterable[Record]) -> None:
        """Add artifacts, replacing rows that differ from their records."""
        if batch := list(records):
            with self._writing() as connection:
                put_artifacts(connection, batch)

    def forget(self, keys: Sequence[str]) -> None:
        """Delete the rows of deleted artifacts, and the documents of deleted corpora."""
        import pyarrow as pa

        with self._writing() as connection:
            connection.register("deleted", pa.table({"key": pa.array(keys, pa.string())}))
            connection.execute("DELETE FROM artifacts WHERE key IN (SELECT key FROM deleted)")
            connection.execute("DELETE FROM documents WHERE corpus_key IN (SELECT key FROM deleted)")

    def verify(self) -> tuple[dict[str, int], list[Fault]]:
        """Count sound artifacts by kind, and list those that are damaged or missing on disk. Nothing is changed.

        Raises:
            StoreError: There is no catalogue.
        """
        expected = {
            row["key"]: row for row in self.query("SELECT key, kind, document_id FROM artifacts ORDER BY created")
        }
        sound: Counter[str] = Counter()
        faults = []
        for kind, key, reason in self.store.verify():
            row = expected.pop(key, {"document_id": ""})
            if reason:
                faults.append(Fault(kind, key, row["document_id"], reason))
            else:
                sound[kind] += 1
        faults += [Fault(row["kind"], key, row["document_id"], "it is not there") for key, row in expected.items()]
        return dict(sound), faults

    def add_requests(self) -> None:
        """Add the responses of endpoints from the journal, which is their permanent record."""
        if recorded := list(responses(self.store)):
            with self._writing() as connection:
                put_requests(connection, recorded)

    def lacks_requests(self) -> bool:
        """Whether the journal and the table `requests` differ in length, as after a killed run."""
        return self.query("SELECT count(*) AS n FROM requests") != [{"n": count_responses(self.store)}]

    def augmentations(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """The augmentation rows of these products, ordered by document."""
        return self.query(
            "SELECT augmentations.* FROM augmentations JOIN (SELECT unnest(?) AS key) USING (key)", [list(keys)]
        )

    def record_work(
        self, run_id: str, stage: str, items: Sequence[Work], artifacts: Sequence[Record] = (),
        wait: float | None = None,
    ) -> None:  # fmt: skip
        """Record a batch of outcomes together with the artifacts they made, in one transaction.

        Args:
            wait: Seconds to wait for a file that another process holds, if less than usual.
        """
        if not items and not artifacts:
            return
        with self._writing(wait) as connection:
            put_artifacts(connection, artifacts)
            put_work(connection, run_id, stage, items, [field.name for field in fields(Work)])

    def forget_work(self, run_id: str, stage: str) -> None:
        """Delete the outcomes that an earlier attempt of a run recorded for a stage."""
        with self._writing() as connection:
            connection.execute("DELETE FROM work WHERE run_id = ? AND stage = ?", [run_id, stage])

    def add_results(self, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
        """Record the result rows of an evaluation, replacing earlier rows of the same run."""
        with self._writing() as connection:
            replace_rows(connection, "results", run_id, rows, {"created": "now()"})

    def add_scores(self, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
        """Record scores of single answers, replacing earlier scores of the same run."""
        with self._writing() as connection:
            replace_rows(connection, "scores", run_id, rows, {})

    def scores(self, run_id: str) -> list[dict[str, Any]]:
        """The scores of a run's answers, in the order in which they were added."""
        return self.query("SELECT * EXCLUDE (run_id) FROM scores WHERE run_id = ? ORDER BY rowid", [run_id])

    def progress(self) -> list[dict[str, Any]]:
        """Counts of the newest run of each stage, in the stages' order: stage, done (including partial), failed,
        waiting, cached."""
        counts = self.query("SELECT stage, done, partial, failed, waiting, cached FROM progress")
        rows = {row["stage"]: row for row in counts}
        zero = {"done": 0, "partial": 0, "failed": 0, "waiting": 0, "cached": 0}
        return [rows.get(stage, {"stage": stage, **zero}) for stage in COUNTED]

    def waiting_reasons(self) -> list[dict[str, Any]]:
        """Documents that wait for a recorded reason, counted by stage and reason: stage, error, documents."""
        return self.query(
            "SELECT stage, error, CAST(sum(units) AS BIGINT) AS documents FROM latest_work "
            "WHERE state = 'waiting' AND error <> '' GROUP BY stage, error ORDER BY stage, error"
        )

    def results(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """The result rows of a run, or of the newest evaluation, in the order in which they were added."""
        return self.query(
            "SELECT * EXCLUDE (created) FROM results WHERE run_id = "
            "coalesce(?, (SELECT arg_max(run_id, created) FROM results)) ORDER BY rowid", [run_id],
        )  # fmt: skip

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a query and return the rows as dictionaries.

        Raises:
            StoreError: There is no catalogue yet, or another process holds it for too long.
        """
        try:
            names, rows = self.table(sql, parameters)
        except duckdb.CatalogException as error:
            raise StoreError(
                f"catalogue {self.path}",
                f"it does not have what was requested ({str(error).splitlines()[0]})",
                "Run the pipeline: dyprag run.",
            ) from error
        return [dict(zip(names, row, strict=True)) for row in rows]

    def table(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run a query and return the column names and rows.

        Raises:
            StoreError: There is no catalogue yet, or another process holds it for too long.
            duckdb.Error: The statement is invalid, or changes something.
        """
        with self._existing_file().reading() as connection:
            return read(connection, sql, parameters)

    def query_copy(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run a query that may take long, as `table` does. It reads the copy, so that runs do not wait for it."""
        with self._existing_file().reading_copy() as connection:
            return read(connection, sql, ())

    def _existing_file(self) -> CatalogueFile:
        if not self.exists:
            remedy = "Run the pipeline first: dyprag run; or name its store with --set store=PATH. "
            remedy += "If the store has artifacts: dyprag catalogue rebuild."
            raise StoreError(f"catalogue {self.snapshot}", "it does not exist yet", remedy)
        return self._file

    @contextmanager
    def _writing(self, wait: float | None = None, ends_stage: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._file.writing(wait, ends_stage) as connection:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
        except (duckdb.IOException, duckdb.FatalException, duckdb.TransactionException) as error:
            raise StoreError(
                f"catalogue {self.path}", f"it cannot be written ({str(error).splitlines()[0]})",
                "Free disk space or fix the folder's permissions, then run again: finished work is kept.",
            ) from error  # fmt: skip
