"""Stage 3: every method answers the test questions; the answers are scored and reported (§3.3, §4)."""

from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.documents import content_key
from dyprag.errors import CorpusError, StoreError
from dyprag.prompts import PROMPTS_VERSION
from flows.stage import Stage, Summary, end_state, stage, with_retries
from flows.train_translator import translator_jobs, translator_key
from tasks.evaluate import AnswerJob, Sources, answer_shard
from tasks.report import write_report


@flow(
    name="evaluate", flow_run_name="evaluate {config.corpus.documents}",
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
)  # fmt: skip
def evaluate(config: PipelineConfig = PipelineConfig()) -> State[Any]:
    """Answer the questions with each method, one task a method and shard, then score and report."""
    return end_state(config, [evaluate_methods(config)])


def evaluate_methods(config: PipelineConfig) -> Summary:
    """The work of the flow; gives its summary."""
    with stage(config, "evaluate") as run:
        corpus_key = run.require_corpus()
        if not run.plan.corpus.questions:
            raise CorpusError(
                f"corpus {run.config.corpus.documents}", "there are no questions to evaluate it with",
                "Give a file of questions: --set corpus.questions=FILE.",
            )  # fmt: skip
        sources = answer_sources(run)
        jobs = answer_jobs(run, sources)
        task = with_retries(answer_shard, run.config)
        work = run.fan_out(
            jobs, run.stored("prediction"), lambda some: task.submit(some[0], corpus_key, sources, run.config)
        )
        summary = run.summary(work)
        report = write_report(run.store, run.catalogue, run.plan, run.run_id, jobs, sources)
        create_markdown_artifact(report.markdown_with_pictures, key="report", description="Results of the evaluation")
        create_table_artifact(report.rows, key="results", description="Scores by method and split")
        return summary


def answer_sources(run: Stage) -> Sources:
    """Keys of the adapters and embeddings at hand, and of the translator.

    Raises:
        StoreError: a method is asked for whose artifacts have not been made.
    """
    plan, store, methods = run.plan, run.store, run.config.evaluate.methods
    adapters = {d.key: key for d in plan.documents if store.find("adapter", key := plan.adapter_key(d))}
    embeddings = {d.key: key for d in plan.documents if store.find("embedding", key := plan.embedding_key(d))}
    if not adapters and any(method.startswith("prag") for method in methods):
        raise StoreError(f"store {store.root}", "no document has an adapter yet", "Run: dyprag parametrize.")
    translator = translator_key(run, translator_jobs(run))
    trained = store.find("translator", translator) is not None and len(embeddings) == len(plan.documents)
    if not trained and any(method.startswith("dyprag") for method in methods):
        raise StoreError(f"store {store.root}", "the translator is not trained yet", "Run: dyprag train-translator.")
    return Sources(adapters, embeddings, translator)


def answer_jobs(run: Stage, sources: Sources) -> list[AnswerJob]:
    """A job for each method and shard of the questions; its key holds all that the answers depend on."""
    plan, settings = run.plan, run.config.evaluate
    questions = plan.corpus.questions
    jobs = []
    for method in settings.methods:
        inputs = [plan.corpus_key, method]
        merge = ""
        if method.startswith("prag"):
            inputs += [sources.adapters.get(d.key, "") for d in plan.documents]
            merge = settings.prag_merge
        if method.startswith("dyprag"):
            inputs += [sources.translator, *(sources.embeddings[d.key] for d in plan.documents)]
            merge = settings.dyprag_merge
        for start in range(0, len(questions), settings.shard):
            shard = tuple(range(start, min(start + settings.shard, len(questions))))
            key = content_key(
                "prediction", [*inputs, *(questions[i].id for i in shard)],
                {**settings.material(), "merge": merge, "prompts": PROMPTS_VERSION, **plan.model},
            )  # fmt: skip
            last = shard[-1] + 1
            jobs.append(AnswerJob(f"{method}, questions {start + 1} to {last}", key, method, shard))
    return jobs
