"""The tree of all settings. The model's preset fills in settings that are not given."""

from typing import ClassVar, Literal

from pydantic import model_validator

from dyprag.config.augment import AugmentSettings
from dyprag.config.base import Section, basic
from dyprag.config.corpus import CorpusSettings
from dyprag.config.evaluate import EvaluateSettings
from dyprag.config.experiment import ExperimentSettings
from dyprag.config.judge import JudgeSettings
from dyprag.config.learn import LearnSettings
from dyprag.config.model import ModelSettings
from dyprag.config.parametrize import LoraSettings, ParametrizeSettings
from dyprag.config.presets import preset_values
from dyprag.config.recall import RecallSettings
from dyprag.config.run import RunSettings
from dyprag.config.translator import TranslatorSettings
from dyprag.config.writer import WriterSettings


class PipelineConfig(Section):
    """The configuration of the whole pipeline."""

    preset: Literal["auto", "paper", "official", "smollm2-135m"] = basic(
        "auto",
        "Source of empty settings. auto: the model's own preset, or else the paper's; official: the official code's.",
    )
    store: str = basic(
        "artifacts",
        "Folder of artifacts, catalogue and reports, or a URL such as s3://bucket/folder.",
    )
    model: ModelSettings = basic(ModelSettings(), "The base model.")
    corpus: CorpusSettings = basic(CorpusSettings(), "Documents and test questions.")
    augment: AugmentSettings = basic(AugmentSettings(), "Stage 1a: augmentation.")
    lora: LoraSettings = basic(LoraSettings(), "The adapters' shape.")
    parametrize: ParametrizeSettings = basic(ParametrizeSettings(), "Stage 1b: parametrization.")
    translator: TranslatorSettings = basic(TranslatorSettings(), "Stage 2: the translator.")
    learn: LearnSettings = basic(LearnSettings(), "A translator learned from questions, without trained adapters.")
    writer: WriterSettings = basic(WriterSettings(), "A question writer for local augmentation.")
    recall: RecallSettings = basic(RecallSettings(), "The fact-recall benchmark.")
    evaluate: EvaluateSettings = basic(EvaluateSettings(), "Stage 3: answers and scores.")
    experiment: ExperimentSettings = basic(ExperimentSettings(), "Data sets and grids.")
    judge: JudgeSettings = basic(JudgeSettings(), "Comparison of answers by an LLM.")
    run: RunSettings = basic(RunSettings(), "Where the work runs, retries, and end states.")

    form_order: ClassVar[tuple[str, ...]] = (
        "corpus", "model", "store", "preset", "augment", "lora", "parametrize", "translator", "learn", "writer",
        "recall", "evaluate", "experiment", "judge", "run",
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_start(self) -> "PipelineConfig":
        if self.parametrize.start == "translated" and self.translator.learned is None:
            raise ValueError(
                "parametrize.start 'translated' requires a translator that exists already "
                "(set translator.learned=packaged, or a folder)"
            )
        return self

    def resolved(self) -> "PipelineConfig":
        """Return a copy in which the model's preset fills in every empty setting."""
        by_model = "smollm2-135m" if self.model.name == "smollm2-135m" else "paper"
        preset = preset_values(by_model if self.preset == "auto" else self.preset, self.parametrize.start)
        given = self.model_dump(exclude_none=True)
        for section, values in preset.items():
            given[section] = values | given[section]
        return PipelineConfig.model_validate(given)
