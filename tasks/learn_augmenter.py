"""Train a question writer, which local augmentation uses to write question-answer pairs."""

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import write_rows
from dyprag.tasks.planning.keys import writer_key
from dyprag.tasks.work import base_model, is_retryable, training_progress, translator_memory
from dyprag.tasks.worker import worker_of

if TYPE_CHECKING:
    from dyprag.augmentation.writer.lessons import WriterLesson
    from dyprag.augmentation.writer.training import WriterModule, Written

ENDS = 20  # steps at the beginning and the end whose mean loss is recorded


def writer_lessons_of(config: PipelineConfig) -> "tuple[WriterLesson, ...]":
    """The writer's lessons, read once per process.

    Raises:
        ConfigError: No folder of questions is given.
        CorpusError: The folder cannot be read, or has no usable question.
    """
    from dyprag.augmentation.writer.lessons import writer_lessons

    settings = config.writer
    if settings.people is None:
        raise ConfigError(
            "setting 'writer.people'", "it is empty, and a question writer learns from questions that people wrote",
            "Set it to a folder of files NAME.jsonl or NAME.jsonl.gz; see docs/how-to/train-a-question-writer.md.",
        )  # fmt: skip
    folder = Path(settings.people)
    return worker_of(config).keep(
        "writer lessons", settings,
        lambda: tuple(writer_lessons(folder, "training", settings.most_words, settings.least_questions)),
    )  # fmt: skip


def writer_key_of(config: PipelineConfig, model: dict[str, object]) -> str:
    """The key of the writer that these settings lead to."""
    return writer_key(config, [text for lesson in writer_lessons_of(config) for text in lesson.texts], model)


@task(name="learn augmenter", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def learn_augmenter(key: str, config: PipelineConfig) -> Record:
    """Train a question writer and store it in PEFT's format. An interrupted training resumes from its last
    checkpoint."""
    import torch

    from dyprag.adapters.lora import save_peft
    from dyprag.augmentation.writer.training import fresh_writer, learn_to_write

    store, base, settings = Store(config.store), base_model(config), config.writer
    lessons = writer_lessons_of(config)
    checkpoint = store.checkpoint("writer", key)
    began = perf_counter()

    def train() -> "tuple[WriterModule, list[Written]]":
        writer = fresh_writer(base, settings)
        return writer, learn_to_write(
            base, writer, lessons, settings, lambda at, losses: report(at, settings.steps, losses.total), checkpoint
        )

    with (
        training_progress("loss") as report,
        translator_memory(f"{settings.documents} passages", "Lower writer.documents or writer.most_words"),
    ):
        writer, curve = compute(train)
    measures = {
        "sets": sorted({lesson.source for lesson in lessons}), "steps": len(curve), "passages": len(lessons),
        "questions": sum(len(lesson.asked) for lesson in lessons),
        "first_loss": mean(x.total for x in curve[:ENDS]), "loss": mean(x.total for x in curve[-ENDS:]),
        "dtype": str(base.dtype).removeprefix("torch."), "seconds": sum(x.seconds for x in curve),
    }  # fmt: skip
    record = Record("writer", key, [], settings.material(), seconds=perf_counter() - began, measures=measures)

    def fill(folder: Path) -> None:
        save_peft(base, writer.adapters().detach().to(torch.bfloat16), folder, config.model.name)
        write_rows(folder / "curve.parquet", [{"step": i, **asdict(x)} for i, x in enumerate(curve, start=1)])

    record = store.write(record, fill)
    checkpoint.unlink(missing_ok=True)
    return record


def publish_writer(store: Store, config: PipelineConfig, record: Record) -> None:
    """Write a writer's card among the reports, and the writer with its card to `writer.output`, if set."""
    from dyprag.adapters.exchange.export import PEFT_FILES
    from dyprag.augmentation.writer.card import writer_card

    card = writer_card(config, record.measures)
    store.reports.mkdir(parents=True, exist_ok=True)
    (store.reports / f"writer-{record.key[:8]}.md").write_text(card, encoding="utf-8")
    if config.writer.output is None:
        return
    output, stored = Path(config.writer.output), store.open("writer", record.key)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as staging:
        for name in PEFT_FILES:
            shutil.copyfile(stored / name, Path(staging) / name)
        (Path(staging) / "README.md").write_text(card, encoding="utf-8")
        for file in Path(staging).iterdir():
            shutil.move(file, output / file.name)
