"""Stage 3: answer the test questions with every method, score the answers, and write the report (§3.3, §4)."""

import logging
from collections.abc import Sequence
from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Found
from dyprag.errors import CorpusError
from dyprag.flows.endings import interruptible
from dyprag.flows.fan_out import failed_work
from dyprag.flows.forms import UNTOUCHED, EvaluateForm
from dyprag.flows.overview import run_name
from dyprag.flows.page import show_report
from dyprag.flows.progress import stage_progress
from dyprag.flows.stage import Stage, stage, with_retries
from dyprag.flows.summary import Summary, end_state
from dyprag.storage.artifacts import Record
from dyprag.storage.catalogue import Work
from dyprag.tasks.controls import make_control
from dyprag.tasks.corpora import passages_of
from dyprag.tasks.evaluate import answer_batch
from dyprag.tasks.judge import judge_methods, judgement_of
from dyprag.tasks.planning.answers import AnswerJob, Sources, answer_jobs, sources_of
from dyprag.tasks.report import score_run, write_report
from dyprag.tasks.thresholds import thresholds
from dyprag.tasks.ui import publish

logger = logging.getLogger("dyprag.flows")


@flow(
    name="evaluate", flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
)  # fmt: skip
@interruptible
def evaluate(config: EvaluateForm = UNTOUCHED) -> State[Any]:
    """Answer the questions with each method, one task per method and batch; then score and report."""
    return end_state(config, [evaluate_methods(config)])


def evaluate_methods(config: PipelineConfig) -> Summary:
    """Run the stage and return its summary."""
    with stage(config, "evaluate") as run:
        corpus_key = run.require_corpus()
        if not run.plan.corpus.questions:
            raise CorpusError(
                f"corpus {run.config.corpus.documents}", "it has no questions to evaluate",
                "Pass a questions file: --set corpus.questions=FILE.",
            )  # fmt: skip
        sources = sources_of(run)
        failed_controls = _make_controls(run, sources, corpus_key)
        found = retrieve(run, corpus_key)
        jobs = answer_jobs(run.plan, sources, found, thresholds(run.plan, corpus_key, run.config))
        task = with_retries(answer_batch, run.config)
        work = run.fan_out(
            jobs, run.stored("prediction"), lambda group: task.submit(group[0], corpus_key, run.config),
            weigh=lambda job: len(job.questions),
        )  # fmt: skip
        score_run(run.store, run.catalogue, run.plan, run.run_id, jobs, found)
        report = write_report(run.store, run.catalogue, run.run_id, run.config, {run.run_id: ""})
        if judgements := _judge(run, jobs):  # last, so that its failure loses nothing
            score_run(run.store, run.catalogue, run.plan, run.run_id, jobs, found, judgements)
            report = write_report(run.store, run.catalogue, run.run_id, run.config, {run.run_id: ""})
        summary = run.summary([*work, *failed_controls])
        show_report(report.report.folder, run.run_id, report.brief)
        description = "Results of the evaluation"
        publish(create_markdown_artifact, report.markdown_with_pictures, key="report", description=description)
        publish(create_table_artifact, report.rows, key="results", description="Scores by method and split")
        return summary


def _make_controls(run: Stage, sources: Sources, corpus_key: str) -> list[Work]:
    """Make the adapters of controls. If one fails, only its own methods are left out. Returns the failures."""
    task = with_retries(make_control, run.config)
    failed = []
    missing = [job for job in sources.controls.values() if run.store.find("adapter", job.key) is None]
    with stage_progress("controls", len(missing), len(sources.controls) - len(missing)) as advance:
        for job in missing:
            result: Any = task.submit(job, corpus_key, run.config).result(raise_on_failure=False)
            if isinstance(result, BaseException):
                failed.append(failed_work(job, result))
                del sources.controls[job.label]
            advance(1, int(isinstance(result, BaseException)))
    run.catalogue.record_work(run.run_id, run.name, failed)
    return failed


def _judge(run: Stage, jobs: Sequence[AnswerJob]) -> list[Record]:
    """Let the judge compare the configured pairs of methods on questions without gold answers; nothing if no judge
    is configured."""
    settings = run.config.judge
    asked = {q.dataset for q in run.plan.corpus.questions if not q.answers}
    if not settings.api.model or not asked:
        return []
    task = with_retries(judge_methods, run.config)
    records = []
    for one, other in settings.pairs:
        keys = tuple([j.key for j in jobs if j.method == method and j.dataset in asked and
                      run.store.find("prediction", j.key)] for method in (one, other))  # fmt: skip
        if not all(keys):
            continue
        key = judgement_of(settings, keys)
        record: Any = run.store.find("judgement", key)
        record = record or task.submit(one, other, key, keys, run.config).result(raise_on_failure=False)
        if isinstance(record, BaseException):
            logger.warning("%s and %s could not be compared by the judge: %s", one, other, record)
            run.reason = str(record)
        else:
            records.append(record)
    return records


def retrieve(run: Stage, corpus_key: str) -> dict[str, Found]:
    """Retrieved documents by question id."""
    corpus = run.plan.corpus
    if corpus.retrieved is not None:
        return dict(corpus.retrieved)
    retriever = passages_of(run.config.store, corpus_key, corpus, "")
    count = run.config.evaluate.passages
    return {
        question.id: tuple((hit.document.id, hit.score) for hit in retriever.search(question.question, count))
        for question in corpus.questions
    }
