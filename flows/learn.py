"""Learn a translator from documents and questions, measure its fact recall, and write its model card."""

from typing import Any

from prefect import State, flow
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.flows.endings import interruptible
from dyprag.flows.forms import UNTOUCHED, LearnForm
from dyprag.flows.overview import run_name, show_translator_curve
from dyprag.flows.stage import stage, with_retries
from dyprag.flows.summary import Summary, end_state
from dyprag.tasks.learn import learn_translator, learned_key, measure_recall, publish_translator, recall_jobs
from dyprag.tasks.planning.sources import model_material


@flow(
    name="learn", flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
)  # fmt: skip
@interruptible
def learn(config: LearnForm = UNTOUCHED) -> State[Any]:
    """Train a translator without trained adapters, and measure fact recall on documents that it has not seen."""
    return end_state(config, learn_and_measure(config))


def learn_and_measure(config: PipelineConfig) -> list[Summary]:
    """Run both stages. Returns the summaries of learning and of measuring."""
    with stage(config, "learn") as run:
        key = learned_key(run.config, model_material(run.config))
        task = with_retries(learn_translator, run.config)
        work, record = run.make_one("translator", key, lambda: task.submit(key, run.config))
        show_translator_curve(run.store, work)
        learned = run.summary([work])
    with stage(config, "recall") as run:
        jobs = recall_jobs(run.config, model_material(run.config), record.key)
        measure = with_retries(measure_recall, run.config)
        measurements = run.fan_out(jobs, run.stored("recall"), lambda group: measure.submit(group[0], run.config))
        measured = run.summary(measurements)
        if not measured.failed:
            specific = publish_translator(run.store, run.config, record, jobs)
            run.catalogue.note_measures(run.run_id, {"translator": record.key, "document_specific_recall": specific})
        return [learned, measured]
