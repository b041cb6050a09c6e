"""Train a question writer for local augmentation."""

from typing import Any

from prefect import State, flow
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.flows.endings import interruptible
from dyprag.flows.forms import UNTOUCHED, LearnAugmenterForm
from dyprag.flows.overview import run_name
from dyprag.flows.stage import stage, with_retries
from dyprag.flows.summary import Summary, end_state
from dyprag.tasks.learn_augmenter import learn_augmenter as train_writer
from dyprag.tasks.learn_augmenter import publish_writer, writer_key_of
from dyprag.tasks.planning.sources import model_material


@flow(
    name="learn-augmenter", flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
)  # fmt: skip
@interruptible
def learn_augmenter(config: LearnAugmenterForm = UNTOUCHED) -> State[Any]:
    """Train a question writer on questions that people wrote; augment.writer then names its folder."""
    return end_state(config, [learn_to_ask(config)])


def learn_to_ask(config: PipelineConfig) -> Summary:
    """Train the writer. Returns the stage's summary."""
    with stage(config, "learn-augmenter") as run:
        key = writer_key_of(run.config, model_material(run.config))
        task = with_retries(train_writer, run.config)
        work, record = run.make_one("writer", key, lambda: task.submit(key, run.config))
        publish_writer(run.store, run.config, record)
        return run.summary([work])
