"""Learn a translator from documents and questions, and measure fact recall on documents that it has not seen."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.model.files import learned_folder
from dyprag.runtime import progress
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import read_rows, write_rows
from dyprag.tasks.planning.keys import learned_translator_key, lessons_key, recall_key
from dyprag.tasks.planning.sources import learned_checksum
from dyprag.tasks.work import (
    base_model,
    is_retryable,
    one_document,
    reused,
    training_progress,
    translator_memory,
)
from dyprag.tasks.worker import worker_of
from dyprag.translators.lessons.lesson import Lesson

if TYPE_CHECKING:
    from dyprag.evaluation.recall.benchmark import Condition, Recalled
    from dyprag.evaluation.recall.measure import Measurer
    from dyprag.translators.distil import Learned

MEASURERS = 2  # how many a process caches


@dataclass(frozen=True)
class RecallJob:
    """One band of the benchmark under one condition.

    Attributes:
        translator: The translator's key; empty if the condition does not use it.
    """

    label: str
    key: str
    band: str
    condition: "Condition"
    translator: str = ""
    document_key: str = ""


def lessons_of(config: PipelineConfig) -> tuple[Lesson, ...]:
    """The training lessons, created once per process."""
    from dyprag.evaluation.recall.benchmark import training_lessons

    settings = config.learn
    return worker_of(config).keep("lessons", settings, lambda: tuple(training_lessons(settings)))


def bands_of(config: PipelineConfig) -> dict[str, list[Lesson]]:
    """The benchmark's documents by band, created once per process."""
    from dyprag.evaluation.recall.benchmark import recall_bands

    settings, data = config.recall, config.learn.data
    return worker_of(config).keep(
        "bands", (settings, data), lambda: recall_bands(settings, Path(data) if data else None)
    )


@task(name="learn translator", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def learn_translator(key: str, config: PipelineConfig) -> Record:
    """Train a translator on lessons and store it with its learning curve. An interrupted training resumes from its
    last checkpoint."""
    from torch import nn

    from dyprag.translators.distil import calibration_prompts, learn
    from dyprag.translators.protocol import first_translator, save_translator

    store, base, settings = Store(config.store), base_model(config), config.learn
    lessons = lessons_of(config)
    start = learned_folder(settings.start, config.model.name) if settings.start else None
    began = perf_counter()

    def train() -> "tuple[nn.Module, list[Learned]]":
        model = first_translator(base, settings, calibration_prompts(base, lessons), start)
        return model, learn(
            base, model, lessons, settings, lambda at, losses: report(at, settings.steps, losses.total), checkpoint
        )

    checkpoint = store.checkpoint("translator", key)
    with (
        training_progress("loss") as report,
        translator_memory(f"{settings.documents} documents", "Lower learn.documents"),
    ):
        translator, curve = compute(train)
    last_losses = curve[-100:]
    measures = {
        "steps": len(curve), "documents": len(lessons), "loss": sum(x.pred for x in last_losses) / len(last_losses),
        "parameters": sum(parameter.numel() for parameter in translator.parameters()), "dtype": str(base.dtype),
        "seconds": sum(x.seconds for x in curve), "devices": list(dict.fromkeys(x.device for x in curve)),
    }  # fmt: skip
    record = Record("translator", key, [], settings.material(), seconds=perf_counter() - began, measures=measures)

    def fill(folder: Path) -> None:
        save_translator(translator, folder)
        write_rows(folder / "curve.parquet", [{"step": i, **asdict(x)} for i, x in enumerate(curve, start=1)])

    record = store.write(record, fill)
    checkpoint.unlink(missing_ok=True)
    return record


@task(name="recall", task_run_name="recall {job.label}", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def measure_recall(job: RecallJob, config: PipelineConfig) -> "Record | State[Record]":
    """Answer a band's questions under a condition and store the answers."""
    store = Store(config.store)
    if record := store.find("recall", job.key):
        return reused(record)
    with one_document(job.label):
        lessons = bands_of(config)[job.band]
        measurer = _measurer(job.translator, config)
        began = perf_counter()
        with progress.part(1):
            answers = compute(lambda: measurer.measure(job.band, lessons, job.condition))
        rows = [_row(recalled, lessons) for recalled in answers]
        record = Record(
            "recall", job.key, [job.translator] if job.translator else [], config.recall.material(),
            seconds=perf_counter() - began,
            measures={"band": job.band, "condition": job.condition, "questions": len(rows),
                      "presence": sum(r.present for r in answers) / max(1, len(answers))},
        )  # fmt: skip
        return store.write(record, lambda folder: write_rows(folder / "answers.parquet", rows))


def _measurer(translator: str, config: PipelineConfig) -> "Measurer":
    """The measurer for a translator. It is cached together with the controls' adapters, which all bands share."""
    from dyprag.evaluation.recall.measure import Asking, Measurer

    worker, learn, asking = worker_of(config), config.learn, Asking.of(config.evaluate)
    trained = (config.lora, config.parametrize, config.recall)

    def make() -> Measurer:
        return Measurer(
            worker.base_model(), worker.translator(translator) if translator else None, lessons_of(config), *trained,
            Path(learn.data) if learn.data else None, asking,
        )  # fmt: skip

    return worker.keep("measurers", (translator, learn, *trained, asking), make, MEASURERS)


def _row(recalled: "Recalled", lessons: Sequence[Lesson]) -> dict[str, Any]:
    asked = recalled.asked
    return {
        "band": asked.band, "lesson": asked.lesson, "document": lessons[asked.lesson].document.passage,
        "question": asked.question, "answers": list(asked.answers), "condition": recalled.condition,
        "answer": recalled.answer, "present": recalled.present, "f1": recalled.f1,
        "cut": recalled.cut,
    }  # fmt: skip


def recalled(store: Store, job: RecallJob) -> "list[Recalled]":
    """The stored answers of a job."""
    from dyprag.evaluation.recall.benchmark import Asked, Recalled

    rows = read_rows(store.open("recall", job.key) / "answers.parquet")
    return [
        Recalled(Asked(r["band"], r["lesson"], r["question"], tuple(r["answers"])), r["condition"], r["answer"],
                 r["present"], r["f1"], r["cut"])
        for r in rows
    ]  # fmt: skip


def learned_key(config: PipelineConfig, model: dict[str, object]) -> str:
    """The key of the translator that these settings lead to."""
    start = config.learn.start
    checksum = learned_checksum("learn.start", start, config.model.name) if start else ""
    return learned_translator_key(config, lessons_key(lessons_of(config)), checksum, model)


def recall_jobs(config: PipelineConfig, model: dict[str, object], translator: str) -> list[RecallJob]:
    """A job for each band and condition."""
    from dyprag.evaluation.recall.benchmark import SHOWING, conditions_of

    training, jobs = lessons_key(lessons_of(config)), []
    for band, lessons in bands_of(config).items():
        for condition in conditions_of(band):
            if condition == "parametrized" and not config.recall.parametrized:
                continue
            used = translator if condition in ("own", "wrong", "mean", "beside", "beside-wrong") else ""
            shows = condition in SHOWING
            key = recall_key(config, condition, shows, used, lessons_key(lessons), training, model)
            jobs.append(RecallJob(f"{band} {condition}", key, band, condition, used))
    return jobs


def publish_translator(
    store: Store, config: PipelineConfig, record: Record, jobs: Sequence[RecallJob]
) -> dict[str, float]:
    """Write a translator's model card among the reports, and the translator with its card to `learn.output`, if set.

    Returns:
        Own less wrong document, in percent, by band.
    """
    import torch

    from dyprag.evaluation.recall.card import model_card
    from dyprag.evaluation.recall.summaries import changes, summarise
    from dyprag.translators.protocol import load_translator, save_translator

    rows = [row for job in jobs for row in recalled(store, job)]
    summaries = summarise(rows)
    card = model_card(config, record.measures, summaries, changes(rows))
    store.reports.mkdir(parents=True, exist_ok=True)
    (store.reports / f"translator-{record.key[:8]}.md").write_text(card, encoding="utf-8")
    if config.learn.output is not None:
        output = Path(config.learn.output)
        output.mkdir(parents=True, exist_ok=True)
        translator = load_translator(store.open("translator", record.key), base_model(config))
        with tempfile.TemporaryDirectory(dir=output.parent) as staging:
            save_translator(translator, Path(staging), torch.bfloat16)
            (Path(staging) / "README.md").write_text(card, encoding="utf-8")
            for file in Path(staging).iterdir():
                shutil.move(file, output / file.name)
                (output / file.name).chmod(0o644)  # safetensors writes files that only their owner can read
    return {s.band: round(s.specific.difference, 1) for s in summaries if s.specific}
