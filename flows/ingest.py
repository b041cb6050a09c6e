"""Ingest: read and store the corpus and its questions, report changes, and record the corpus for later stages."""

import logging
from typing import Any

from prefect import State, flow
from prefect.artifacts import create_table_artifact

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus
from dyprag.flows.endings import interruptible
from dyprag.flows.fan_out import failed_work
from dyprag.flows.forms import UNTOUCHED, IngestForm
from dyprag.flows.overview import MOST_LINES, run_name
from dyprag.flows.progress import stage_progress
from dyprag.flows.stage import Stage, stage
from dyprag.flows.summary import Summary, end_state
from dyprag.runtime import progress
from dyprag.storage.artifacts import Record
from dyprag.storage.catalogue import Work
from dyprag.storage.latest import newest_note, note_latest
from dyprag.storage.outcomes import Outcome
from dyprag.storage.tables import write_corpus
from dyprag.tasks.corpora import corpus_of
from dyprag.tasks.ingest import (
    SHOWN,
    Difference,
    difference,
    known_keys,
    maybe_unread,
    read_location,
    skipped_text,
    sources,
)
from dyprag.tasks.planning.jobs import DocumentJob
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import PREPARED, corpus_settings, find_latest, note_latest_of_location
from dyprag.tasks.ui import publish

logger = logging.getLogger("dyprag.flows")
UNCHANGED = "(unchanged)"  # stands for all unchanged documents in the column of document ids


@flow(name="ingest", flow_run_name=run_name)
@interruptible
def ingest(config: IngestForm = UNTOUCHED) -> State[Any]:
    """Store the corpus as Parquet, and report new, changed, renamed and removed documents.

    A document that cannot be read, or has no text, fails; the others are stored.
    """
    return end_state(config, [ingest_corpus(config)])


def ingest_corpus(config: PipelineConfig) -> Summary:
    """Run the stage and return its summary."""
    with stage(config, "ingest") as run:
        run.plan = _read(run)
        notes = sources(run.plan.corpus)
        corpus, key, settings = run.plan.corpus, run.plan.corpus_key, corpus_settings(run.config)
        last_key = find_latest(run.store, "corpus", settings)
        exists = run.store.find("corpus", key) is not None
        before, unread = _before(run, last_key)
        changes = difference(before, run.plan.document_keys, notes["files"], unread)
        notes["kept"] = {identity: before[identity] for identity in changes.unread}
        notes["files"] |= {identity: unread[identity] for identity in changes.unread if unread[identity]}
        if not exists:
            measures = {"documents": len(corpus.documents), "questions": len(corpus.questions)}
            record = Record("corpus", key, [], {"location": run.config.corpus.documents}, measures=measures)
            run.catalogue.add_artifacts([run.store.write(record, lambda folder: write_corpus(folder, corpus))])
        run.catalogue.add_documents(key, corpus.documents)
        note_latest_of_location(run.store, "corpus", settings, key)
        note_latest(run.store, "sources", settings, key, notes)
        _show(changes)
        _show_skipped(corpus)
        new_ids = set() if exists else {*changes.new, *changes.changed}
        note = "; ".join(filter(None, (str(changes), skipped_text(corpus))))
        return run.summary(_outcomes(run, new_ids), note=note)


def _before(run: Stage, last: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Document keys of the last ingest, including documents that it kept because it could not read them; and the
    files of documents that may be unreadable now."""
    note = {} if last is None else newest_note(run.store, "sources", last)
    before = {**note.get("kept", {}), **known_keys(run.store, last)}
    files = note.get("files", {})
    unread = maybe_unread(before, files, run.plan.corpus)
    return before, {identity: files.get(identity, "") for identity in unread}


def _read(run: Stage) -> Plan:
    if run.config.corpus.documents.startswith(PREPARED):
        key, corpus = corpus_of(run.config, run.store)
        return Plan(run.config, corpus, key)
    with stage_progress(run.name, None), progress.part(0):
        return Plan(run.config, read_location(run.config))


def _show(changes: Difference) -> None:
    rows = changes.rows()
    count = sum(map(len, (changes.new, changes.changed, changes.renamed, changes.removed)))
    first = f" The first {SHOWN} of {count:,}." if count > SHOWN else ""
    description = f"{changes}; {changes.unchanged:,} unchanged since the last ingest.{first}"
    publish(create_table_artifact, rows, key="corpus-difference", description=description)


def _show_skipped(corpus: Corpus) -> None:
    """Report files without a document: the first ones in the log, all in the UI. Also log guessed formats."""
    for file in corpus.noted[:MOST_LINES]:
        logger.info("ingest: %s: %s", file.id, file.how)
    skipped = corpus.skipped
    for item in skipped[:MOST_LINES]:
        logger.info("ingest: %s is skipped: %s", item.id, item.reason)
    if len(skipped) > MOST_LINES:
        more = len(skipped) - MOST_LINES
        logger.info("ingest: %d more files are skipped; dyprag documents --skipped lists them all", more)
    if skipped:
        rows = [{"file": item.id, "reason": item.reason} for item in skipped[:SHOWN]]
        first = f" The first {SHOWN} are shown; `dyprag documents --skipped` lists all." if len(skipped) > SHOWN else ""
        count = f"{len(skipped):,} files contain" if len(skipped) > 1 else "1 file contains"
        description = f"{count} no document.{first}"
        publish(create_table_artifact, rows, key="corpus-skipped", description=description)


def _outcomes(run: Stage, new_ids: set[str]) -> list[Work]:
    """The outcome of each document. Unchanged documents share one row, so that a nightly run does not add a row for
    each."""
    key, work, unchanged = run.plan.corpus_key, [], 0
    for document in run.plan.corpus.documents:
        if document.fault:
            work.append(failed_work(DocumentJob(document.id, document.key, key), document.fault))
        elif document.id in new_ids:
            work.append(Work(document.id, key, Outcome.DONE, document.key, 1))
        else:
            unchanged += 1
    work += [failed_work(DocumentJob(unread.id, "", key), unread.error) for unread in run.plan.corpus.unread]
    if unchanged:
        work.append(Work(UNCHANGED, key, Outcome.CACHED, units=unchanged))
    run.catalogue.forget_work(
        run.run_id, run.name
    )  # after a retry, documents that are unchanged by now would be counted twice
    run.catalogue.record_work(run.run_id, run.name, work)
    return work
