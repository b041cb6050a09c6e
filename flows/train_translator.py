"""Stage 2: document embeddings, then the translator from the doc-param pairs (§3.2)."""

from collections.abc import Sequence
from typing import Any

from prefect import State, flow
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import MOST_TOGETHER, PipelineConfig
from dyprag.errors import StoreError
from dyprag.flows.endings import interruptible
from dyprag.flows.fan_out import named
from dyprag.flows.forms import UNTOUCHED, TranslatorForm
from dyprag.flows.overview import run_name, show_translator_curve
from dyprag.flows.parametrize import adapter_jobs
from dyprag.flows.stage import Stage, stage, with_retries
from dyprag.flows.summary import Summary, end_state
from dyprag.flows.workers import Workers
from dyprag.tasks.embed import embed_documents
from dyprag.tasks.planning.jobs import DocumentJob, PairJobs
from dyprag.tasks.planning.sources import draws_on_embeddings, find_latest, note_found, translator_settings
from dyprag.tasks.train_translator import rise_of_loss, take_given_translator, train_translator_on

SHARD = 100  # documents embedded by one task: seconds of work


@flow(
    name="train-translator", flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=2 * MOST_TOGETHER),  # type: ignore[arg-type]
)  # fmt: skip
@interruptible
def train_translator(config: TranslatorForm = UNTOUCHED) -> State[Any]:
    """Embed every document, then train the translator on those that are not held out, or take the one given."""
    return end_state(config, train_on_corpus(config))


def train_on_corpus(config: PipelineConfig) -> list[Summary]:
    """The work of the flow; gives the summaries of embedding, where the translator draws on it, and of training."""
    summaries = []
    if draws_on_embeddings(config):
        summaries.append(embed_corpus(config))
    with stage(config, "train-translator") as run:
        corpus_key, given = run.require_corpus(), run.config.translator.given
        jobs, left_out = ([], "") if given else _training_pairs(run)
        key, note, start = choose_translator(run, jobs, corpus_key)

        def submit() -> PrefectFuture[Any]:
            if given:
                return take_given_translator.submit(key, run.config)
            return with_retries(train_translator_on, run.config).submit(key, jobs, corpus_key, run.config, start)

        work, _ = run.make_one("translator", key, submit)
        note_found(run.store, "translator", translator_settings(run.config), key)
        show_translator_curve(run.store, work)
        return [*summaries, run.summary([work], note="; ".join(filter(None, (note, left_out))))]


def _training_pairs(run: Stage) -> tuple[list[PairJobs], str]:
    """The jobs of the documents that the translator is trained on, and what there is to say of those that have an
    adapter and could not be embedded.

    Raises:
        StoreError: there is no document to train on.
    """
    adapted = translator_jobs(run)
    if not adapted:
        raise StoreError(
            f"store {run.store.root}",
            "no document that is not held out has an adapter",
            "Run: dyprag parametrize, or --set corpus.held_out=0.",
        )
    pairs = embedded_pairs(run, adapted)
    if not pairs:
        raise StoreError(
            f"store {run.store.root}",
            "no document that is not held out and has an adapter could be embedded",
            "See the reasons with dyprag status, then run again: dyprag train-translator.",
        )
    count = len(adapted) - len(pairs)
    said = f"{count} document{'s' * (count != 1)} with an adapter left out: not embedded" if count else ""
    return pairs, said


def translator_jobs(run: Stage, given: bool = False) -> list[PairJobs]:
    """(adapter, embedding) jobs of the documents that the translator is trained on: augmented, with an adapter at hand,
    not held out.

    Args:
        given: with a translator from elsewhere, those of the alignment documents, which controls are made of.
    """
    documents = {document.id: document for document in run.plan.documents}
    taken = (run.plan.corpus.alignment or frozenset()) if given else documents.keys() - run.plan.held_out
    pairs = []
    for job in adapter_jobs(run)[0]:
        if job.document_id not in taken or not job.upstream or not run.store.find("adapter", job.key):
            continue
        products = run.plan.product_keys(documents[job.document_id])  # an adapter can be there without them
        if all(run.store.find(kind, product) for kind, product in products.items()):
            embedding = run.plan.embedding_key(documents[job.document_id])
            pairs.append((job, DocumentJob(job.document_id, job.document_key, embedding)))
    return pairs


def embedded_pairs(run: Stage, pairs: Sequence[PairJobs]) -> list[PairJobs]:
    """Those of some (adapter, embedding) jobs whose embedding is there: a translator is trained on no others."""
    return [pair for pair in pairs if run.store.has("embedding", pair[1].key)]


def choose_translator(run: Stage, jobs: list[PairJobs], corpus_key: str = "") -> tuple[str, str, str]:
    """The key of the translator trained on those of these pairs that are embedded, or of the last one where so few of
    them are new to it that it is kept; what there is to say of that; and the key of the one whose weights it begins
    with, if any. The plan takes for held out what is not embedded, and with one that is kept what that one has not
    seen, so that no answer counts as one about an unseen document that was seen.

    Args:
        corpus_key: where it is about to be trained; then its loss on what is new may be a reason, too.
    """
    documents = {document.id: document for document in run.plan.documents}
    if not run.config.translator.given:
        adapted, jobs = {adapter.document_key for adapter, _ in jobs}, embedded_pairs(run, jobs)
        left_out = adapted - {adapter.document_key for adapter, _ in jobs}
        run.plan.held_out = run.plan.held_out | {d.id for d in run.plan.corpus.documents if d.key in left_out}
    trained = [documents[adapter.document_id] for adapter, _ in jobs]
    key, settings = run.plan.translator_key(trained), run.config.translator
    experiment = run.plan.corpus.alignment is not None  # which says itself what it is trained on
    if not jobs or experiment or settings.given or run.store.find("translator", key):
        return key, "", ""
    last = find_latest(run.store, "translator", translator_settings(run.config))
    if last is None or (record := run.store.find("translator", last)) is None:
        return key, "", ""
    seen = set(record.inputs)
    fresh = [pair for pair in jobs if pair[0].key not in seen]
    known = [pair for pair in jobs if pair[0].key in seen]
    new = len(fresh)
    changed = new or len(jobs) != record.measures["documents"]  # one that was tuned has a key of its own
    enough = bool(changed) and new / len(jobs) >= settings.retrain
    loss = ""
    if not enough and fresh and known and corpus_key and settings.retrain_loss is not None:
        look = with_retries(rise_of_loss, run.config)
        rise = look.submit(record.key, fresh, known, corpus_key, run.config).result()
        enough = rise >= settings.retrain_loss
        loss = f"its loss on what is new is {abs(100 * rise):.1f} % {'above' if rise > 0 else 'below'} that on the rest"
    if enough:
        tuned = "from the last one's weights" if settings.tune else ""
        note = "; ".join(filter(None, (tuned, loss)))
        if settings.tune:
            return run.plan.translator_key(trained, record.key), note, record.key
        return key, note, ""
    run.plan.held_out = {d.id for d in run.plan.corpus.documents if run.plan.adapter_key(d) not in seen}
    note = f"the last one is kept: {new} of {len(jobs)} documents are new to it" if changed else ""
    return record.key, "; ".join(filter(None, (note, loss))), ""


def embed_corpus(config: PipelineConfig) -> Summary:
    """Embed every document that lacks an embedding; gives the summary."""
    with stage(config, "embed") as run:
        corpus_key = run.require_corpus()
        jobs = [DocumentJob(d.id, d.key, run.plan.embedding_key(d)) for d in run.plan.documents]
        with Workers(run.config) as workers:
            together = workers.together(len(jobs), quick=SHARD)

            def submit(some: Sequence[DocumentJob]) -> PrefectFuture[Any]:
                return workers.submit(
                    embed_documents, name=named(some), jobs=some, corpus_key=corpus_key, config=run.config
                )

            ahead = workers.ahead(SHARD, together)
            work = run.fan_out(jobs, run.stored("embedding"), submit, together=together, ahead=ahead)
        return run.summary(work)
