"""Stage 1b: an adapter for every augmented document that lacks one (§3.1)."""

from typing import Any

from prefect import State, flow
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import MOST_TOGETHER, PipelineConfig
from flows.stage import Stage, Summary, end_state, stage, with_retries
from storage.catalogue import Work
from tasks.parametrize import parametrize_document
from tasks.plan import Job


@flow(
    name="parametrize", flow_run_name="parametrize {config.corpus.documents}",
    task_runner=ThreadPoolTaskRunner(max_workers=2 * MOST_TOGETHER),  # type: ignore[arg-type]
)  # fmt: skip
def parametrize(config: PipelineConfig = PipelineConfig()) -> State[Any]:
    """Train one adapter a document, one task a document. Tasks that wait together are trained together."""
    return end_state(config, [parametrize_corpus(config)])


def parametrize_corpus(config: PipelineConfig) -> Summary:
    """The work of the flow; gives its summary."""
    with stage(config, "parametrize") as run:
        corpus_key = run.require_corpus()
        jobs, waiting = adapter_jobs(run)
        task = with_retries(parametrize_document, run.config)
        work = run.fan_out(
            jobs, run.stored("adapter"), lambda some: task.submit(some[0], corpus_key, run.config), waiting
        )
        return run.summary(work)


def adapter_jobs(run: Stage) -> tuple[list[Job], list[Work]]:
    """Jobs of the documents that are augmented, and the others as waiting."""
    jobs, waiting = [], []
    for document in run.plan.parametrized:
        key, products = run.plan.adapter_key(document), run.plan.product_keys(document)
        if all(run.store.find(kind, product) for kind, product in products.items()):
            jobs.append(Job(document.id, document.key, key, tuple(products.values())))
        else:
            waiting.append(Work(document.id, key, "waiting", document.key))
    return jobs, waiting
