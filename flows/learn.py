"""Learn a translator from documents and questions, measure its fact recall, and write its model card."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.flows.endings import interruptible
from dyprag.flows.forms import UNTOUCHED, LearnForm
from dyprag.flows.overview import run_name, show_translator_curve
from dyprag.flows.stage import Stage, stage, with_retries
from dyprag.flows.summary import Summary, end_state
from dyprag.storage.artifacts import Record
from dyprag.tasks.learn import RecallJob, learn_translator, learned_key, measure_recall, recall_jobs, recalled
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
            _report(run, record, jobs)
        return [learned, measured]


def _report(run: Stage, record: Record, jobs: list[RecallJob]) -> None:
    """Write the model card among the reports, and the translator with its card to the configured output folder."""
    import torch

    from dyprag.evaluation.recall.benchmark import changes, summarise
    from dyprag.evaluation.recall.card import model_card
    from dyprag.tasks.work import base_model
    from dyprag.translators.protocol import load_translator, save_translator

    rows = [row for job in jobs for row in recalled(run.store, job)]
    summaries = summarise(rows)
    specific = {s.band: round(s.specific.difference, 1) for s in summaries if s.specific}
    run.catalogue.note_measures(run.run_id, {"translator": record.key, "document_specific_recall": specific})
    card = model_card(run.config, record.measures, summaries, changes(rows))
    folder = run.store.root / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"translator-{record.key[:8]}.md").write_text(card, encoding="utf-8")
    if run.config.learn.output is None:
        return
    output = Path(run.config.learn.output)
    output.mkdir(parents=True, exist_ok=True)
    translator = load_translator(run.store.open("translator", record.key), base_model(run.config))
    with tempfile.TemporaryDirectory(dir=output.parent) as staging:
        save_translator(translator, Path(staging), torch.bfloat16)
        (Path(staging) / "README.md").write_text(card, encoding="utf-8")
        for file in Path(staging).iterdir():
            shutil.move(file, output / file.name)
            (output / file.name).chmod(0o644)  # safetensors writes files that only their owner can read
