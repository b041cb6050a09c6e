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
from importlib import metadata
from typing import Any

import duckdb

from dyprag.corpora.documents import Document
from dyprag.corpora.text.words import word_count
from dyprag.errors import ArtifactError, CatalogueHeld, StoreError
from dyprag.stages import COUNTED
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue_file import CatalogueFile
from dyprag.storage.outcomes import Outcome

FROM_DISK = ("artifacts", "documents", "requests")
TABLES = (*FROM_DISK, "runs", "work", "results", "scores")
MICROSECOND = 2e-6  # as exactly as a time of the catalogue is a record's

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id VARCHAR PRIMARY KEY, flow VARCHAR, started TIMESTAMPTZ, finished TIMESTAMPTZ, state VARCHAR, config JSON);
CREATE TABLE IF NOT EXISTS documents (
    document_key VARCHAR, document_id VARCHAR, corpus_key VARCHAR, title VARCHAR, words INTEGER,
    PRIMARY KEY (corpus_key, document_id));
CREATE TABLE IF NOT EXISTS artifacts (
    key VARCHAR PRIMARY KEY, kind VARCHAR, document_key VARCHAR, document_id VARCHAR, bytes BIGINT, checksum VARCHAR,
    seconds DOUBLE, created TIMESTAMPTZ, inputs JSON, settings JSON, measures JSON);
CREATE TABLE IF NOT EXISTS work (
    run_id VARCHAR, stage VARCHAR, key VARCHAR, document_id VARCHAR, document_key VARCHAR, state VARCHAR,
    attempts INTEGER, seconds DOUBLE, error_type VARCHAR, error VARCHAR, updated TIMESTAMPTZ,
    PRIMARY KEY (run_id, stage, document_id));
CREATE TABLE IF NOT EXISTS requests (
    request VARCHAR, created TIMESTAMPTZ, document_id VARCHAR, product_key VARCHAR, label VARCHAR, model VARCHAR,
    finish VARCHAR, tokens_in BIGINT, tokens_out BIGINT, cost DOUBLE, seconds DOUBLE, retries INTEGER,
    PRIMARY KEY (request, created));
CREATE TABLE IF NOT EXISTS results (
    run_id VARCHAR, method VARCHAR, dataset VARCHAR, split VARCHAR, questions INTEGER, em DOUBLE, f1 DOUBLE,
    f1_low DOUBLE, f1_high DOUBLE, "precision" DOUBLE, recall DOUBLE, seconds_per_answer DOUBLE,
    bytes_per_document DOUBLE, created TIMESTAMPTZ);
CREATE TABLE IF NOT EXISTS scores (
    run_id VARCHAR, key VARCHAR, method VARCHAR, dataset VARCHAR, question_id VARCHAR, type VARCHAR, split VARCHAR,
    em DOUBLE, f1 DOUBLE, "precision" DOUBLE, recall DOUBLE, present BOOLEAN, tokens INTEGER, seconds DOUBLE,
    first_token DOUBLE);
ALTER TABLE runs ADD COLUMN IF NOT EXISTS versions JSON;
ALTER TABLE work ADD COLUMN IF NOT EXISTS units INTEGER DEFAULT 1;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS measures JSON;
ALTER TABLE results ADD COLUMN IF NOT EXISTS variant VARCHAR DEFAULT '';
ALTER TABLE results ADD COLUMN IF NOT EXISTS "type" VARCHAR DEFAULT 'all';
ALTER TABLE results ADD COLUMN IF NOT EXISTS presence DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS presence_low DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS presence_high DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS tokens DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS first_token DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS retrieval_recall DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS retrievals DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS unsupported DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS memory DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS believed DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS cut DOUBLE;
CREATE OR REPLACE VIEW latest_work AS
    SELECT work.* FROM work
    JOIN (SELECT stage, arg_max(run_id, updated) AS run_id FROM work GROUP BY stage) USING (stage, run_id);
CREATE OR REPLACE VIEW failures AS
    SELECT document_id, stage, error_type, error, attempts, updated FROM latest_work WHERE state = 'failed'
    ORDER BY stage, document_id;
CREATE OR REPLACE VIEW partial AS
    SELECT document_id, stage, error AS reason, updated FROM latest_work WHERE state = 'partial'
    ORDER BY stage, document_id;
CREATE OR REPLACE VIEW progress AS
    SELECT stage, COLUMNS(* EXCLUDE (stage))::BIGINT FROM (SELECT stage,
        coalesce(sum(units) FILTER (state IN ('done', 'cached', 'partial')), 0) AS done,
        coalesce(sum(units) FILTER (state = 'partial'), 0) AS partial,
        coalesce(sum(units) FILTER (state = 'failed'), 0) AS failed,
        coalesce(sum(units) FILTER (state = 'waiting'), 0) AS waiting,
        coalesce(sum(units) FILTER (state = 'cached' OR (state = 'partial' AND attempts = 0)), 0) AS cached
    FROM latest_work GROUP BY stage);
CREATE OR REPLACE VIEW augmentations AS
    SELECT document_id, kind AS product, key, CAST(measures->>'$.wanted' AS INTEGER) AS wanted,
        CAST(measures->>'$.accepted' AS INTEGER) AS accepted, CAST(measures->>'$.dropped' AS INTEGER) AS dropped,
        CAST(measures->>'$.rounds' AS INTEGER) AS rounds, CAST(measures->>'$.requests' AS INTEGER) AS requests,
        CAST(measures->>'$.retries' AS INTEGER) AS retries, CAST(measures->>'$.tokens_in' AS BIGINT) AS tokens_in,
        CAST(measures->>'$.tokens_out' AS BIGINT) AS tokens_out, CAST(measures->>'$.cost' AS DOUBLE) AS cost,
        CAST(measures->>'$.seconds' AS DOUBLE) AS latency, measures->'$.quality' AS quality,
        measures->'$.reasons' AS reasons, seconds, created
    FROM artifacts WHERE kind IN ('rewrites', 'qa_pairs') ORDER BY document_id, product;
CREATE OR REPLACE VIEW spending AS
    SELECT document_id, count(*) AS requests, sum(retries) AS retries, sum(tokens_in) AS tokens_in,
        sum(tokens_out) AS tokens_out, sum(cost) AS cost, avg(seconds) AS latency
    FROM requests GROUP BY document_id ORDER BY document_id;
CREATE OR REPLACE VIEW document_artifacts AS
    SELECT document_id, kind, key, bytes, seconds, created FROM artifacts WHERE document_id <> ''
    ORDER BY document_id, kind, created;
"""


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
        import pyarrow as pa

        there = "SELECT count(*) FROM documents WHERE corpus_key = ?"
        with self._writing() as connection:
            if connection.execute(there, [corpus_key]).fetchall() == [(len(documents),)]:
                return
            columns = {
                "document_key": [d.key for d in documents], "document_id": [d.id for d in documents],
                "title": [d.title for d in documents],
                "words": pa.array([word_count(d.text) for d in documents], pa.int32()),
            }  # fmt: skip
            connection.register("given", pa.table(columns))
            connection.execute(
                "INSERT OR IGNORE INTO documents (document_key, document_id, corpus_key, title, words) "
                "SELECT document_key, document_id, ?, title, words FROM given", [corpus_key],
            )  # fmt: skip

    def add_artifacts(self, records: Iterable[Record]) -> None:
        """Rows for artifacts on disk; known ones are replaced by what the disk says."""
        if some := list(records):
            with self._writing() as connection:
                _put_artifacts(connection, some)

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
        import pyarrow as pa

        from dyprag.storage.journal import responses

        names = ["request", "created", "document_id", "product_key", "label", "model", "finish", "tokens_in",
                 "tokens_out", "cost", "seconds", "retries"]  # fmt: skip
        rows = [[getattr(response, name) for name in names] for response in responses(self.store)]
        if not rows:
            return
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        columns["cost"] = pa.array(columns["cost"], pa.float64())
        with self._writing() as connection:
            connection.register("answered", pa.table(columns))
            connection.execute(
                "INSERT OR IGNORE INTO requests SELECT * REPLACE (to_timestamp(created) AS created) FROM answered"
            )

    def lacks_requests(self) -> bool:
        """Whether the journal has another number of answers than there are rows, as after a run that was killed."""
        from dyprag.storage.journal import count_responses

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
        import pyarrow as pa

        if not items and not artifacts:
            return
        last = list({item.document_id: item for item in items}.values())
        names = [field.name for field in fields(Work)]
        with self._writing(wait) as connection:
            _put_artifacts(connection, artifacts)
            if not last:
                return
            connection.register("given", pa.table({name: [getattr(w, name) for w in last] for name in names}))
            connection.execute(
                f"INSERT OR REPLACE INTO work (run_id, stage, updated, {', '.join(names)}) "
                f"SELECT ?, ?, now(), {', '.join(names)} FROM given", [run_id, stage],
            )  # fmt: skip

    def forget_work(self, run_id: str, stage: str) -> None:
        """Take out what an earlier try of a run noted of a stage."""
        with self._writing() as connection:
            connection.execute("DELETE FROM work WHERE run_id = ? AND stage = ?", [run_id, stage])

    def add_results(self, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
        """Result rows of an evaluation; those of the same run are replaced."""
        self._replace("results", run_id, rows, {"created": "now()"})

    def add_scores(self, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
        """Scores of single answers; those of the same run are replaced."""
        self._replace("scores", run_id, rows, {})

    def scores(self, run_id: str) -> list[dict[str, Any]]:
        """The scores of a run's answers, in the order in which they were added."""
        return self.query("SELECT * EXCLUDE (run_id) FROM scores WHERE run_id = ? ORDER BY rowid", [run_id])

    def _replace(self, table: str, run_id: str, rows: Sequence[dict[str, Any]], more: dict[str, str]) -> None:
        import pyarrow as pa

        with self._writing() as connection:
            connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])
            if not rows:
                return
            known = [column[0] for column in connection.execute(f"SELECT * FROM {table} LIMIT 0").description or []]
            names = [name for name in known if name in rows[0]]
            connection.register("given", pa.table({name: [row[name] for row in rows] for name in names}))
            quoted = ", ".join(f'"{name}"' for name in names)
            columns, values = ["run_id", quoted, *more], ["?", quoted, *more.values()]
            connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM given", [run_id]
            )

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
                f"it lacks what was asked for ({str(error).splitlines()[0]})",
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
            return _rows(connection, sql, parameters)

    def look(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The same for a statement that may take long: it reads the copy, so that no run waits for it.

        Raises:
            StoreError, duckdb.Error: as `table`.
        """
        with self._there().looking() as connection:
            return _rows(connection, sql, ())

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
                "Free disk space or mend the folder's rights, then run again: finished work is kept.",
            ) from error  # fmt: skip


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    cursor = connection.execute(sql, list(parameters))
    return [column[0] for column in cursor.description or []], cursor.fetchall()


def _put_artifacts(connection: duckdb.DuckDBPyConnection, records: Iterable[Record]) -> None:
    import pyarrow as pa

    latest = {record.key: record for record in records}
    if not latest:
        return
    connection.register("asked", pa.table({"key": list(latest)}))
    for key, created in connection.execute(  # a run that finds all made has ten thousands, with rows as they should be
        "SELECT key, epoch(created) FROM artifacts SEMI JOIN asked USING (key)"
    ).fetchall():
        if abs(created - latest[key].created) < MICROSECOND:
            del latest[key]
    some = list(latest.values())
    if not some:
        return
    columns = {name: [getattr(r, name) for r in some] for name in ("key", "kind", "document_key", "document_id")}
    figures = {"bytes": pa.int64(), "checksum": pa.string(), "seconds": pa.float64(), "created": pa.float64()}
    columns |= {name: pa.array([getattr(r, name) for r in some], kind) for name, kind in figures.items()}
    columns |= {name: [json.dumps(getattr(r, name)) for r in some] for name in ("inputs", "settings", "measures")}
    connection.register("made", pa.table(columns))
    connection.execute("INSERT OR REPLACE INTO artifacts SELECT * REPLACE (to_timestamp(created) AS created) FROM made")


def versions() -> dict[str, str]:
    """Of the libraries that results hang on."""
    names = (
        "dyprag",
        "torch",
        "transformers",
        "peft",
        "prefect",
        "duckdb",
        "pyarrow",
        "rank-bm25",
        "tantivy",
        "openai",
    )
    return {name: metadata.version(name) for name in names}
