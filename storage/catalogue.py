"""The DuckDB catalogue: which documents there are, what was made of each, what failed and why, and every result.

One process writes, in short connections; others read a copy (storage/catalogue_file.py). Everything but `work`, `runs`,
`scores` and `results` can be rebuilt from the artifacts' records and the journal, and is when the file is missing or
`rebuild` is called.

    SELECT * FROM failures;      -- which documents failed, where and why
    SELECT * FROM progress;      -- per stage: done, partial, failed, waiting, cached
    SELECT * FROM augmentations; -- per document and product: items, tries, tokens, cost, quality
    SELECT * FROM spending;      -- per document: every request to an endpoint, of failed documents too
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
    """What became of one unit of work (a document, or a method on a set of questions) in a stage of a run."""

    document_id: str
    key: str
    state: Outcome
    document_key: str = ""
    attempts: int = 0
    seconds: float = 0.0
    error_type: str = ""
    error: str = ""
    units: int = 1  # documents that it stands for


@dataclass(frozen=True)
class Rebuilt:
    """Rows of each table after a rebuilding, and what could not be made again, in words."""

    rows: dict[str, int]
    lost: list[str]


@dataclass(frozen=True)
class Fault:
    """An artifact that is damaged or not there, and the document it is of, if it is of one."""

    kind: str
    key: str
    document_id: str
    reason: str


Ended = tuple[Work, list[Record]]  # what became of a unit of work, and the artifacts it made or found


class Catalogue:
    """The catalogue of one store. Connections are opened for one statement or batch and closed again, so that other
    processes get their turn; a file that another process holds is waited for.

    Args:
        wait_seconds: for how long; None: 30 s to read, 600 s to write.
    """

    def __init__(self, store: Store, wait_seconds: float | None = None) -> None:
        self.store, self._file = store, CatalogueFile(store, wait_seconds)
        self.path, self.snapshot = self._file.path, self._file.snapshot

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self._file.exists

    def prepare(self) -> None:
        """Create what is missing; a file that is missing or empty is rebuilt from the artifacts."""
        missing = not self.path.exists()
        with self._writing() as connection:
            connection.execute(SCHEMA)
            known = connection.execute("SELECT count(*) FROM artifacts").fetchone()
        if missing or known == (0,):  # a copy that is gone on with may be older than the last artifacts
            self._fill()

    def rebuild(self) -> Rebuilt:
        """Make `artifacts`, `documents` and `requests` again from what is on disk, and keep the other tables. A file
        that cannot be opened is moved to STORE/damaged; the other tables are then those of the readers' copy.

        Raises:
            CatalogueHeld: another process holds the file for too long.
        """
        lost = []
        empty = "".join(f"DROP TABLE IF EXISTS {table} CASCADE;" for table in FROM_DISK) + SCHEMA
        try:
            with self._writing() as connection:
                connection.execute(empty)
        except CatalogueHeld:
            raise
        except StoreError:
            aside, copied = self._file.give_up_damaged(self.store)
            since = "" if copied is None else f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(copied))}"
            lost.append(
                f"work, runs, scores and results{since}: the old file could not be opened and is now {aside}; "
                "`dyprag evaluate` scores the stored answers again"
            )
            with self._writing() as connection:
                connection.execute(empty)
        lost += self._fill()
        counts = self.query(" UNION ALL ".join(f"SELECT '{t}' AS name, count(*) AS rows FROM {t}" for t in TABLES))
        return Rebuilt({row["name"]: row["rows"] for row in counts}, lost)

    def _fill(self) -> list[str]:
        """Fill the tables that come from disk; gives what could not be read there."""
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
            pass  # readers see all of it at once
        return lost

    def begin_run(self, run_id: str, flow: str, config: dict[str, Any]) -> None:
        """Note the start of a flow run with its full configuration. A retried run keeps its row."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs (run_id, flow, started, state, config, versions) "
                "VALUES (?, ?, now(), 'running', ?, ?)",
                [run_id, flow, json.dumps(config), json.dumps(versions())],
            )

    def note_measures(self, run_id: str, measures: dict[str, Any]) -> None:
        """Keep what a run found out beside its configuration."""
        with self._writing() as connection:
            connection.execute("UPDATE runs SET measures = ? WHERE run_id = ?", [json.dumps(measures), run_id])

    def run(self, run_id: str) -> dict[str, Any]:
        """A run with its configuration, versions and measures; its id may be cut short.

        Raises:
            StoreError: there is none, or more than one begins so.
        """
        found = self.query("SELECT * FROM runs WHERE starts_with(run_id, ?) ORDER BY started", [run_id])
        if len(found) != 1:
            reason = "no run has this id" if not found else f"{len(found)} runs begin so"
            raise StoreError(f"run {run_id!r}", reason, "See: SELECT run_id, flow, started FROM runs.")
        return {**found[0], **{name: json.loads(found[0][name] or "{}") for name in ("config", "versions", "measures")}}

    def finish_run(self, run_id: str, state: str) -> None:
        """Note how a run ended. Readers see it all from now on."""
        with self._writing(ends_stage=True) as connection:
            connection.execute("UPDATE runs SET finished = now(), state = ? WHERE run_id = ?", [state, run_id])

    def add_documents(self, corpus_key: str, documents: Sequence[Document]) -> None:
        """Rows for a corpus' documents."""
        with self._writing() as connection:
            put_documents(connection, corpus_key, documents)

    def add_artifacts(self, records: Iterable[Record]) -> None:
        """Rows for artifacts on disk; known ones are replaced by what the disk says."""
        if some := list(records):
            with self._writing() as connection:
                put_artifacts(connection, some)

    def forget(self, keys: Sequence[str]) -> None:
        """Take out the rows of artifacts that are no more, and of corpora their documents."""
        import pyarrow as pa

        with self._writing() as connection:
            connection.register("gone", pa.table({"key": pa.array(keys, pa.string())}))
            connection.execute("DELETE FROM artifacts WHERE key IN (SELECT key FROM gone)")
            connection.execute("DELETE FROM documents WHERE corpus_key IN (SELECT key FROM gone)")

    def verify(self) -> tuple[dict[str, int], list[Fault]]:
        """How many artifacts of each kind are sound, and which are damaged, or known here and not on disk. Changes
        nothing: a run makes again what it needs and does not find.

        Raises:
            StoreError: there is no catalogue.
        """
        known = {row["key"]: row for row in self.query("SELECT key, kind, document_id FROM artifacts ORDER BY created")}
        sound: Counter[str] = Counter()
        faults = []
        for kind, key, reason in self.store.verify():
            row = known.pop(key, {"document_id": ""})
            if reason:
                faults.append(Fault(kind, key, row["document_id"], reason))
            else:
                sound[kind] += 1
        faults += [Fault(row["kind"], key, row["document_id"], "it is not there") for key, row in known.items()]
        return dict(sound), faults

    def add_requests(self) -> None:
        """Rows for the answers of endpoints, from the journal, which is where they are for good."""
        if answers := list(responses(self.store)):
            with self._writing() as connection:
                put_requests(connection, answers)

    def lacks_requests(self) -> bool:
        """Whether the journal has another number of answers than there are rows, as after a run that was killed."""
        return self.query("SELECT count(*) AS n FROM requests") != [{"n": count_responses(self.store)}]

    def augmentations(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of the products with these keys, in the documents' order of their names."""
        return self.query(
            "SELECT augmentations.* FROM augmentations JOIN (SELECT unnest(?) AS key) USING (key)", [list(keys)]
        )

    def record_work(
        self, run_id: str, stage: str, items: Sequence[Work], artifacts: Sequence[Record] = (),
        wait: float | None = None,
    ) -> None:  # fmt: skip
        """Write the artifacts that a batch of outcomes made, and the outcomes: both or neither.

        Args:
            wait: seconds for which a file that another process holds is waited for, if fewer than ever.
        """
        if not items and not artifacts:
            return
        with self._writing(wait) as connection:
            put_artifacts(connection, artifacts)
            put_work(connection, run_id, stage, items, [field.name for field in fields(Work)])

    def forget_work(self, run_id: str, stage: str) -> None:
        """Take out what an earlier try of a run noted of a stage."""
        with self._writing() as connection:
            connection.execute("DELETE FROM work WHERE run_id = ? AND stage = ?", [run_id, stage])

    def add_results(self, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
        """Result rows of an evaluation; those of the same run are replaced."""
        with self._writing() as connection:
            replace_rows(connection, "results", run_id, rows, {"created": "now()"})

    def add_scores(self, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
        """Scores of single answers; those of the same run are replaced."""
        with self._writing() as connection:
            replace_rows(connection, "scores", run_id, rows, {})

    def scores(self, run_id: str) -> list[dict[str, Any]]:
        """The scores of a run's answers, in the order in which they were added."""
        return self.query("SELECT * EXCLUDE (run_id) FROM scores WHERE run_id = ? ORDER BY rowid", [run_id])

    def progress(self) -> list[dict[str, Any]]:
        """Per stage of the newest runs, in their order: stage, done (partial ones too), failed, waiting, cached."""
        found = self.query("SELECT stage, done, partial, failed, waiting, cached FROM progress")
        rows = {row["stage"]: row for row in found}
        empty = {"done": 0, "partial": 0, "failed": 0, "waiting": 0, "cached": 0}
        return [rows.get(stage, {"stage": stage, **empty}) for stage in COUNTED]

    def held(self) -> list[dict[str, Any]]:
        """Per stage and reason, how many documents wait for something that was told: stage, error, documents."""
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
        """Read rows as dictionaries.

        Raises:
            StoreError: there is no catalogue yet, or another process holds it for too long.
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
        """Read the names of columns, and rows.

        Raises:
            StoreError: there is no catalogue yet, or another process holds it for too long.
            duckdb.Error: the statement cannot be read, or changes something.
        """
        with self._there().reading() as connection:
            return read(connection, sql, parameters)

    def look(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The same for a statement that may take long: it reads the copy, so that no run waits for it.

        Raises:
            StoreError, duckdb.Error: as `table`.
        """
        with self._there().looking() as connection:
            return read(connection, sql, ())

    def _there(self) -> CatalogueFile:
        if not self.exists:
            remedy = "Run the pipeline first: dyprag run. Where there are artifacts already: dyprag catalogue rebuild."
            raise StoreError(f"catalogue {self.snapshot}", "there is none yet", remedy)
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
