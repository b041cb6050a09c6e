"""Stage 1a: an augmentation for every document that lacks one (§3.1)."""

from typing import Any

from prefect import State, flow
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from flows.stage import Summary, end_state, stage, with_retries
from tasks.augment import augment_document
from tasks.plan import Job


@flow(
    name="augment",
    flow_run_name="augment {config.corpus.documents}",
    task_runner=ThreadPoolTaskRunner(max_workers=8),  # type: ignore[arg-type]
)
def augment(config: PipelineConfig = PipelineConfig()) -> State[Any]:
    """Write rewrites and question-answer pairs of each document, one task a document."""
    return end_state(config, [augment_corpus(config)])


def augment_corpus(config: PipelineConfig) -> Summary:
    """The work of the flow; gives its summary."""
    with stage(config, "augment") as run:
        corpus_key = run.require_corpus()
        jobs = [Job(d.id, d.key, run.plan.augmentation_key(d)) for d in run.plan.documents]
        task = with_retries(augment_document, run.config)
        work = run.fan_out("augmentation", jobs, lambda job: task.submit(job, corpus_key, run.config))
        return run.summary(work)
