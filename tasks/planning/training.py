"""What a translator is trained on: the jobs of documents' adapters and embeddings, and which translator that gives."""

from collections.abc import Callable, Sequence
from typing import Protocol

from dyprag.config import PipelineConfig
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Work
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.planning.jobs import DocumentJob, PairJobs
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import find_latest, translator_settings

# The relative rise of a translator's loss, named by its key, on documents that are new to it over those that it has
# seen.
RiseOfLoss = Callable[[str, list[PairJobs], list[PairJobs]], float]


class Planned(Protocol):
    """A configuration with its store and plan: a stage of a flow, or a workspace."""

    config: PipelineConfig
    store: Store

    @property
    def plan(self) -> Plan:
        """The plan over the ingested corpus."""


def adapter_jobs(planned: Planned) -> tuple[list[DocumentJob], list[Work]]:
    """Jobs of the documents that are augmented, and the others as waiting. One whose adapter was imported waits for
    nothing, and its job has no products where it has not been augmented."""
    plan, store = planned.plan, planned.store
    jobs, waiting = [], []
    for document in plan.parametrized:
        key, products = plan.adapter_key(document), plan.product_keys(document)
        # the adapter first: where it is made, its products need not be read
        if store.has("adapter", key) or all(store.find(kind, product) for kind, product in products.items()):
            jobs.append(DocumentJob(document.id, document.key, key, tuple(products.values())))
        elif document.key in plan.imported:
            jobs.append(DocumentJob(document.id, document.key, key))
        else:
            waiting.append(Work(document.id, key, Outcome.WAITING, document.key))
    return jobs, waiting


def translator_jobs(planned: Planned, given: bool = False) -> list[PairJobs]:
    """(adapter, embedding) jobs of the documents that the translator is trained on: augmented, with an adapter at hand,
    not held out.

    Args:
        given: with a translator from elsewhere, those of the alignment documents, which controls are made of.
    """
    documents = {document.id: document for document in planned.plan.documents}
    taken = (planned.plan.corpus.alignment or frozenset()) if given else documents.keys() - planned.plan.held_out
    pairs = []
    for job in adapter_jobs(planned)[0]:
        if job.document_id not in taken or not job.upstream or not planned.store.find("adapter", job.key):
            continue
        products = planned.plan.product_keys(documents[job.document_id])  # an adapter can be there without them
        if all(planned.store.find(kind, product) for kind, product in products.items()):
            embedding = planned.plan.embedding_key(documents[job.document_id])
            pairs.append((job, DocumentJob(job.document_id, job.document_key, embedding)))
    return pairs


def embedded_pairs(planned: Planned, pairs: Sequence[PairJobs]) -> list[PairJobs]:
    """Those of some (adapter, embedding) jobs whose embedding is there: a translator is trained on no others."""
    return [pair for pair in pairs if planned.store.has("embedding", pair[1].key)]


def choose_translator(
    planned: Planned, jobs: list[PairJobs], rise_of_loss: RiseOfLoss | None = None
) -> tuple[str, str, str]:
    """The key of the translator trained on those of these pairs that are embedded, or of the last one where so few of
    them are new to it that it is kept; what there is to say of that; and the key of the one whose weights it begins
    with, if any. The plan takes for held out what is not embedded, and with one that is kept what that one has not
    seen, so that no answer counts as one about an unseen document that was seen.

    Args:
        rise_of_loss: where it is about to be trained; then its loss on what is new may be a reason, too.
    """
    plan, store = planned.plan, planned.store
    documents = {document.id: document for document in plan.documents}
    if not planned.config.translator.given:
        adapted, jobs = {adapter.document_key for adapter, _ in jobs}, embedded_pairs(planned, jobs)
        left_out = adapted - {adapter.document_key for adapter, _ in jobs}
        plan.held_out = plan.held_out | {d.id for d in plan.corpus.documents if d.key in left_out}
    trained = [documents[adapter.document_id] for adapter, _ in jobs]
    key, settings = plan.translator_key(trained), planned.config.translator
    experiment = plan.corpus.alignment is not None  # which says itself what it is trained on
    if not jobs or experiment or settings.given or store.find("translator", key):
        return key, "", ""
    last = find_latest(store, "translator", translator_settings(planned.config))
    if last is None or (record := store.find("translator", last)) is None:
        return key, "", ""
    seen = set(record.inputs)
    fresh = [pair for pair in jobs if pair[0].key not in seen]
    known = [pair for pair in jobs if pair[0].key in seen]
    new = len(fresh)
    changed = new or len(jobs) != record.measures["documents"]  # one that was tuned has a key of its own
    enough = bool(changed) and new / len(jobs) >= settings.retrain
    loss = ""
    if not enough and fresh and known and rise_of_loss and settings.retrain_loss is not None:
        rise = rise_of_loss(record.key, fresh, known)
        enough = rise >= settings.retrain_loss
        loss = f"its loss on what is new is {abs(100 * rise):.1f} % {'above' if rise > 0 else 'below'} that on the rest"
    if enough:
        tuned = "from the last one's weights" if settings.tune else ""
        note = "; ".join(filter(None, (tuned, loss)))
        if settings.tune:
            return plan.translator_key(trained, record.key), note, record.key
        return key, note, ""
    plan.held_out = {d.id for d in plan.corpus.documents if plan.adapter_key(d) not in seen}
    note = f"the last one is kept: {new} of {len(jobs)} documents are new to it" if changed else ""
    return record.key, "; ".join(filter(None, (note, loss))), ""
