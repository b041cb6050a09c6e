"""Stage 1b: train an adapter for every augmented document that lacks one (§3.1)."""

from collections.abc import Sequence
from typing import Any

from prefect import State, flow
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import MOST_TOGETHER, PipelineConfig
from dyprag.flows.endings import interruptible
from dyprag.flows.fan_out import task_name
from dyprag.flows.forms import UNTOUCHED, ParametrizeForm
from dyprag.flows.overview import run_name, show_adapter_curves
from dyprag.flows.stage import stage
from dyprag.flows.summary import Summary, end_state
from dyprag.flows.workers import Workers
from dyprag.tasks.parametrize import parametrize_documents, parametrized
from dyprag.tasks.planning.jobs import DocumentJob
from dyprag.tasks.planning.training import adapter_jobs


@flow(
    name="parametrize", flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=2 * MOST_TOGETHER),  # type: ignore[arg-type]
)  # fmt: skip
@interruptible
def parametrize(config: ParametrizeForm = UNTOUCHED) -> State[Any]:
    """Train one adapter per document. Documents that wait, in one task or several, are trained together."""
    return end_state(config, [parametrize_corpus(config)])


def parametrize_corpus(config: PipelineConfig) -> Summary:
    """Run the stage and return its summary."""
    with stage(config, "parametrize") as run:
        corpus_key = run.require_corpus()
        jobs, waiting = adapter_jobs(run)
        with Workers(run.config) as workers:
            together = workers.together(len(jobs))

            def submit(group: Sequence[DocumentJob]) -> PrefectFuture[Any]:
                return workers.submit(
                    parametrize_documents, name=task_name(group), jobs=group, corpus_key=corpus_key, config=run.config
                )

            ahead = workers.ahead(2 * MOST_TOGETHER, together)
            work = run.fan_out(jobs, run.stored("adapter", parametrized), submit, waiting, together, ahead)
        show_adapter_curves(run.store, work)
        return run.summary(work)
