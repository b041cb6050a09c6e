"""Ingest: read the corpus and its questions, store them, and put every document into the catalogue."""

from typing import Any

from prefect import State, flow

from dyprag.config import PipelineConfig
from dyprag.errors import DocumentError
from flows.stage import Summary, end_state, stage
from storage.artifacts import Record
from storage.catalogue import Work
from storage.tables import write_corpus


@flow(name="ingest", flow_run_name="ingest {config.corpus.documents}")
def ingest(config: PipelineConfig = PipelineConfig()) -> State[Any]:
    """Store the corpus as Parquet. A document without text fails; the others go on."""
    return end_state(config, [ingest_corpus(config)])


def ingest_corpus(config: PipelineConfig) -> Summary:
    """The work of the flow; gives its summary."""
    with stage(config, "ingest") as run:
        corpus, key = run.plan.corpus, run.plan.corpus_key
        known = run.store.find("corpus", key) is not None
        if not known:
            measures = {"documents": len(corpus.documents), "questions": len(corpus.questions)}
            record = Record("corpus", key, [], {"location": config.corpus.documents}, measures=measures)
            run.catalogue.add_artifacts([run.store.write(record, lambda folder: write_corpus(folder, corpus))])
        run.catalogue.add_documents(key, corpus.documents)
        work = []
        for document in corpus.documents:
            if document.text:
                work.append(Work(document.id, key, "cached" if known else "done", document.key, 1))
            else:
                error = DocumentError(f"document {document.id!r}", "it has no text", "Give it text, or leave it out.")
                kind = type(error).__name__
                work.append(Work(document.id, key, "failed", document.key, 1, 0.0, kind, str(error)))
        run.catalogue.record_work(run.run_id, run.name, work)
        return run.summary(work)
