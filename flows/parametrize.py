"""Stage 1b: an adapter for every augmented document that lacks one (§3.1)."""

from collections.abc import Sequence
from typing import Any

from prefect import State, flow
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import MOST_TOGETHER, PipelineConfig
from dyprag.flows.endings import interruptible
from dyprag.flows.fan_out import named
from dyprag.flows.forms import UNTOUCHED, ParametrizeForm
from dyprag.flows.overview import run_name, show_adapter_curves
from dyprag.flows.stage import Stage, stage
from dyprag.flows.summary import Summary, end_state
from dyprag.flows.workers import Workers
from dyprag.storage.catalogue import Work
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.parametrize import parametrize_documents, parametrized
from dyprag.tasks.planning.jobs import DocumentJob


@flow(
    name="parametrize", flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=2 * MOST_TOGETHER),  # type: ignore[arg-type]
)  # fmt: skip
@interruptible
def parametrize(config: ParametrizeForm = UNTOUCHED) -> State[Any]:
    """Train one adapter a document. Documents that wait together, in one task or many, are trained together."""
    return end_state(config, [parametrize_corpus(config)])


def parametrize_corpus(config: PipelineConfig) -> Summary:
    """The work of the flow; gives its summary."""
    with stage(config, "parametrize") as run:
        corpus_key = run.require_corpus()
        jobs, waiting = adapter_jobs(run)
        with Workers(run.config) as workers:
            together = workers.together(len(jobs))

            def submit(some: Sequence[DocumentJob]) -> PrefectFuture[Any]:
                return workers.submit(
                    parametrize_documents, name=named(some), jobs=some, corpus_key=corpus_key, config=run.config
                )

            ahead = workers.ahead(2 * MOST_TOGETHER, together)
            work = run.fan_out(jobs, run.stored("adapter", parametrized), submit, waiting, together, ahead)
        show_adapter_curves(run.store, work)
        return run.summary(work)


def adapter_jobs(run: Stage) -> tuple[list[DocumentJob], list[Work]]:
    """Jobs of the documents that are augmented, and the others as waiting. One whose adapter was imported waits for
    nothing, and its job has no products where it has not been augmented."""
    jobs, waiting = [], []
    for document in run.plan.parametrized:
        key, products = run.plan.adapter_key(document), run.plan.product_keys(document)
        # the adapter first: where it is made, its products need not be read
        if run.store.has("adapter", key) or all(run.store.find(kind, product) for kind, product in products.items()):
            jobs.append(DocumentJob(document.id, document.key, key, tuple(products.values())))
        elif document.key in run.plan.imported:
            jobs.append(DocumentJob(document.id, document.key, key))
        else:
            waiting.append(Work(document.id, key, Outcome.WAITING, document.key))
    return jobs, waiting
