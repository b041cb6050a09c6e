"""Ingest: read the corpus and its questions, store them, say what has changed, and note what later stages work on."""

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
from dyprag.storage.latest import note_latest, noted
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
from dyprag.tasks.telling import told

logger = logging.getLogger("dyprag.flows")
UNCHANGED = "(unchanged)"  # where a document's id would be


@flow(name="ingest", flow_run_name=run_name)
@interruptible
def ingest(config: IngestForm = UNTOUCHED) -> State[Any]:
    """Store the corpus as Parquet, and say what is new, changed, renamed and removed since the last time.

    A document that cannot be read, or has no text, fails; the others go on.
    """
    return end_state(config, [ingest_corpus(config)])


def ingest_corpus(config: PipelineConfig) -> Summary:
    """The work of the flow; gives its summary."""
    with stage(config, "ingest") as run:
        run.plan = _read(run)
        read_from = sources(run.plan.corpus)
        corpus, key, settings = run.plan.corpus, run.plan.corpus_key, corpus_settings(run.config)
        last = find_latest(run.store, "corpus", settings)
        known = run.store.find("corpus", key) is not None
        before, unread = _before(run, last)
        found = difference(before, run.plan.document_keys, read_from["files"], unread)
        read_from["kept"] = {identity: before[identity] for identity in found.unread}
        read_from["files"] |= {identity: unread[identity] for identity in found.unread if unread[identity]}
        if not known:
            measures = {"documents": len(corpus.documents), "questions": len(corpus.questions)}
            record = Record("corpus", key, [], {"location": run.config.corpus.documents}, measures=measures)
            run.catalogue.add_artifacts([run.store.write(record, lambda folder: write_corpus(folder, corpus))])
        run.catalogue.add_documents(key, corpus.documents)
        note_latest_of_location(run.store, "corpus", settings, key)
        note_latest(run.store, "sources", settings, key, read_from)
        _show(found)
        _show_skipped(corpus)
        fresh = set() if known else {*found.new, *found.changed}
        note = "; ".join(filter(None, (str(found), skipped_text(corpus))))
        return run.summary(_outcomes(run, fresh), note=note)


def _before(run: Stage, last: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """The documents' keys of the last ingest, those that it kept for it could not read them included; and of those that
    may be among what cannot be read now, the files."""
    note = {} if last is None else noted(run.store, "sources", last)
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


def _show(found: Difference) -> None:
    rows = found.rows()
    count = sum(map(len, (found.new, found.changed, found.renamed, found.removed)))
    first = f" The first {SHOWN} of {count:,}." if count > SHOWN else ""
    description = f"{found}; {found.unchanged:,} unchanged since the last ingest.{first}"
    told(create_table_artifact, rows, key="corpus-difference", description=description)


def _show_skipped(corpus: Corpus) -> None:
    """The files that hold no document, each with the reason: the first in the log, all in the UI. And how others are
    read, where that was guessed."""
    for file in corpus.noted[:MOST_LINES]:
        logger.info("ingest: %s: %s", file.id, file.how)
    skipped = corpus.skipped
    for one in skipped[:MOST_LINES]:
        logger.info("ingest: %s is skipped: %s", one.id, one.reason)
    if len(skipped) > MOST_LINES:
        more = len(skipped) - MOST_LINES
        logger.info("ingest: %d more are skipped; dyprag documents --skipped lists them all", more)
    if skipped:
        rows = [{"file": one.id, "why it is skipped": one.reason} for one in skipped[:SHOWN]]
        first = f" The first {SHOWN} are shown; `dyprag documents --skipped` lists all." if len(skipped) > SHOWN else ""
        count = f"{len(skipped):,} files hold" if len(skipped) > 1 else "1 file holds"
        description = f"{count} no document.{first}"
        told(create_table_artifact, rows, key="corpus-skipped", description=description)


def _outcomes(run: Stage, fresh: set[str]) -> list[Work]:
    """What became of each document; of the unchanged ones together, or every night would bring a row for each."""
    key, work, unchanged = run.plan.corpus_key, [], 0
    for document in run.plan.corpus.documents:
        if document.fault:
            work.append(failed_work(DocumentJob(document.id, document.key, key), document.fault))
        elif document.id in fresh:
            work.append(Work(document.id, key, Outcome.DONE, document.key, 1))
        else:
            unchanged += 1
    work += [failed_work(DocumentJob(unread.id, "", key), unread.error) for unread in run.plan.corpus.unread]
    if unchanged:
        work.append(Work(UNCHANGED, key, Outcome.CACHED, units=unchanged))
    run.catalogue.forget_work(run.run_id, run.name)  # a retried run would count twice what is unchanged by now
    run.catalogue.record_work(run.run_id, run.name, work)
    return work
