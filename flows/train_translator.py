"""Stage 2: embed documents, then train the translator on the doc-param pairs (§3.2)."""

from collections.abc import Sequence
from typing import Any

from prefect import State, flow
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import MOST_TOGETHER, PipelineConfig
from dyprag.errors import StoreError
from dyprag.flows.endings import interruptible
from dyprag.flows.fan_out import task_name
from dyprag.flows.forms import UNTOUCHED, TranslatorForm
from dyprag.flows.overview import run_name, show_translator_curve
from dyprag.flows.stage import Stage, stage, with_retries
from dyprag.flows.summary import Summary, end_state
from dyprag.flows.workers import Workers
from dyprag.tasks.embed import embed_documents
from dyprag.tasks.planning.jobs import DocumentJob, PairJobs
from dyprag.tasks.planning.sources import draws_on_embeddings, note_latest_of_location, translator_settings
from dyprag.tasks.planning.training import choose_translator, embedded_pairs, translator_jobs
from dyprag.tasks.train_translator import rise_of_loss, take_given_translator, train_translator_on

SHARD = 100  # documents embedded by one task, which takes seconds


@flow(
    name="train-translator", flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=2 * MOST_TOGETHER),  # type: ignore[arg-type]
)  # fmt: skip
@interruptible
def train_translator(config: TranslatorForm = UNTOUCHED) -> State[Any]:
    """Embed every document, then train the translator on those that are not held out, or take the given translator."""
    return end_state(config, train_on_corpus(config))


def train_on_corpus(config: PipelineConfig) -> list[Summary]:
    """Run the stage. Returns the summaries of embedding, if the translator needs it, and of training."""
    summaries = []
    if draws_on_embeddings(config):
        summaries.append(embed_corpus(config))
    with stage(config, "train-translator") as run:
        corpus_key, given = run.require_corpus(), run.config.translator.given
        jobs, left_out = ([], "") if given else _training_pairs(run)

        def rise(translator: str, new: list[PairJobs], known: list[PairJobs]) -> float:
            task = with_retries(rise_of_loss, run.config)
            return task.submit(translator, new, known, corpus_key, run.config).result()

        key, note, start = choose_translator(run, jobs, rise)

        def submit() -> PrefectFuture[Any]:
            if given:
                return take_given_translator.submit(key, run.config)
            return with_retries(train_translator_on, run.config).submit(key, jobs, corpus_key, run.config, start)

        work, _ = run.make_one("translator", key, submit)
        note_latest_of_location(run.store, "translator", translator_settings(run.config), key)
        show_translator_curve(run.store, work)
        return [*summaries, run.summary([work], note="; ".join(filter(None, (note, left_out))))]


def _training_pairs(run: Stage) -> tuple[list[PairJobs], str]:
    """The jobs of the training documents, and a note about documents with an adapter that could not be embedded.

    Raises:
        StoreError: There is no document to train on.
    """
    candidates = translator_jobs(run)
    if not candidates:
        raise StoreError(
            f"store {run.store.root}",
            "no training document has an adapter",
            "Run: dyprag parametrize. If all documents are held out, pass --set corpus.held_out=0.",
        )
    pairs = embedded_pairs(run, candidates)
    if not pairs:
        raise StoreError(
            f"store {run.store.root}",
            "no training document could be embedded",
            "dyprag status shows why; fix that, then run: dyprag train-translator.",
        )
    count = len(candidates) - len(pairs)
    note = f"{count} document{'s' * (count != 1)} with an adapter left out: not embedded" if count else ""
    return pairs, note


def embed_corpus(config: PipelineConfig) -> Summary:
    """Embed every document that lacks an embedding, and return the summary."""
    with stage(config, "embed") as run:
        corpus_key = run.require_corpus()
        jobs = [DocumentJob(d.id, d.key, run.plan.embedding_key(d)) for d in run.plan.documents]
        with Workers(run.config) as workers:
            together = workers.together(len(jobs), quick=SHARD)

            def submit(group: Sequence[DocumentJob]) -> PrefectFuture[Any]:
                return workers.submit(
                    embed_documents, name=task_name(group), jobs=group, corpus_key=corpus_key, config=run.config
                )

            ahead = workers.ahead(SHARD, together)
            work = run.fan_out(jobs, run.stored("embedding"), submit, together=together, ahead=ahead)
        return run.summary(work)
