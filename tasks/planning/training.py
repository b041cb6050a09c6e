"""Plan a translator's training: the jobs of its training documents, and whether a new translator is needed."""

from collections.abc import Callable, Sequence
from typing import Protocol

from dyprag.config import PipelineConfig
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Work
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.planning.jobs import DocumentJob, PairJobs
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import find_latest, translator_settings

# Takes a translator's key, pairs that are new to it and pairs that it has seen. Returns how much higher its loss is on
# the new ones, as a share.
RiseOfLoss = Callable[[str, list[PairJobs], list[PairJobs]], float]


class Planned(Protocol):
    """A configuration with its store and plan: a flow's stage, or a workspace."""

    config: PipelineConfig
    store: Store

    @property
    def plan(self) -> Plan:
        """The plan over the ingested corpus."""


def adapter_jobs(planned: Planned) -> tuple[list[DocumentJob], list[Work]]:
    """Jobs for the documents that have an augmentation; the other documents are returned as waiting.

    A document with an imported adapter needs no augmentation. Its job has no inputs if it has not been augmented.
    """
    plan, store = planned.plan, planned.store
    jobs, waiting = [], []
    for document in plan.parametrized:
        key, products = plan.adapter_key(document), plan.product_keys(document)
        # adapter first: if it exists, the products need not be read
        if store.has("adapter", key) or all(store.find(kind, product) for kind, product in products.items()):
            jobs.append(DocumentJob(document.id, document.key, key, tuple(products.values())))
        elif document.key in plan.imported:
            jobs.append(DocumentJob(document.id, document.key, key))
        else:
            waiting.append(Work(document.id, key, Outcome.WAITING, document.key))
    return jobs, waiting


def translator_jobs(planned: Planned, given: bool = False) -> list[PairJobs]:
    """(adapter, embedding) jobs of the translator's training documents: augmented, with an adapter, not held out.

    Args:
        given: The translator is given: return the alignment documents, which controls are made of.
    """
    documents = {document.id: document for document in planned.plan.documents}
    wanted = (planned.plan.corpus.alignment or frozenset()) if given else documents.keys() - planned.plan.held_out
    pairs = []
    for job in adapter_jobs(planned)[0]:
        if job.document_id not in wanted or not job.upstream or not planned.store.find("adapter", job.key):
            continue
        products = planned.plan.product_keys(documents[job.document_id])  # an adapter can exist without them
        if all(planned.store.find(kind, product) for kind, product in products.items()):
            embedding = planned.plan.embedding_key(documents[job.document_id])
            pairs.append((job, DocumentJob(job.document_id, job.document_key, embedding)))
    return pairs


def embedded_pairs(planned: Planned, pairs: Sequence[PairJobs]) -> list[PairJobs]:
    """The pairs whose embedding exists. A translator is trained on these only."""
    return [pair for pair in pairs if planned.store.has("embedding", pair[1].key)]


def choose_translator(
    planned: Planned, jobs: list[PairJobs], rise_of_loss: RiseOfLoss | None = None
) -> tuple[str, str, str]:
    """Choose the translator to use: the last one if few documents are new to it, else a new one.

    Documents without an embedding, and everything that a kept translator has not seen, are added to the plan's held-out
    documents, so that no document counts as unseen that was seen.

    Args:
        rise_of_loss: Given before a training; the loss on new documents may then be a reason to train.

    Returns:
        The translator's key, a note for the user, and the key of the translator with the initial weights (or "").
    """
    plan, store = planned.plan, planned.store
    documents = {document.id: document for document in plan.documents}
    if not planned.config.translator.given:
        adapted, jobs = {adapter.document_key for adapter, _ in jobs}, embedded_pairs(planned, jobs)
        left_out = adapted - {adapter.document_key for adapter, _ in jobs}
        plan.held_out = plan.held_out | {d.id for d in plan.corpus.documents if d.key in left_out}
    trained = [documents[adapter.document_id] for adapter, _ in jobs]
    key, settings = plan.translator_key(trained), planned.config.translator
    experiment = plan.corpus.alignment is not None  # an experiment names its training documents itself
    if not jobs or experiment or settings.given or store.find("translator", key):
        return key, "", ""
    last = find_latest(store, "translator", translator_settings(planned.config))
    if last is None or (record := store.find("translator", last)) is None:
        return key, "", ""
    seen = set(record.inputs)
    new_pairs = [pair for pair in jobs if pair[0].key not in seen]
    seen_pairs = [pair for pair in jobs if pair[0].key in seen]
    new = len(new_pairs)
    changed = new or len(jobs) != record.measures["documents"]  # a tuned translator's key differs
    retrain = bool(changed) and new / len(jobs) >= settings.retrain
    loss = ""
    if not retrain and new_pairs and seen_pairs and rise_of_loss and settings.retrain_loss is not None:
        rise = rise_of_loss(record.key, new_pairs, seen_pairs)
        retrain = rise >= settings.retrain_loss
        side = "above" if rise > 0 else "below"
        loss = f"its loss on new documents is {abs(100 * rise):.1f} % {side} that on the others"
    if retrain:
        tuning = "starts from the previous weights" if settings.tune else ""
        note = "; ".join(filter(None, (tuning, loss)))
        if settings.tune:
            return plan.translator_key(trained, record.key), note, record.key
        return key, note, ""
    plan.held_out = {d.id for d in plan.corpus.documents if plan.adapter_key(d) not in seen}
    note = f"the previous translator is kept: {new} of {len(jobs)} documents are new to it" if changed else ""
    return record.key, "; ".join(filter(None, (note, loss))), ""
