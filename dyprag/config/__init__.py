"""All settings of the pipeline, in one tree shared by the command line, YAML and TOML files, and the Prefect form.

Defaults are defined only here, with one file per section. A setting that is empty (None) takes its value from the
model's preset; `PipelineConfig.resolved()` fills these in. Each section declares which of its settings affect the
artifact that it produces (only these enter the artifact's key). Each field is marked as basic or expert; see
`base.Section`.
"""

from dyprag.config.api import ApiSettings, Price
from dyprag.config.augment import AugmentSettings
from dyprag.config.base import Section
from dyprag.config.corpus import CorpusSettings
from dyprag.config.evaluate import EvaluateSettings, Merge
from dyprag.config.experiment import DataSetName, DataSetSettings, ExperimentName, ExperimentSettings
from dyprag.config.judge import JudgeSettings
from dyprag.config.learn import LearnSettings
from dyprag.config.model import ModelSettings
from dyprag.config.parametrize import MOST_TOGETHER, LoraSettings, ParametrizeSettings
from dyprag.config.pipeline import PipelineConfig
from dyprag.config.presets import OFFICIAL, PAPER, PRESETS, SMOLLM2
from dyprag.config.recall import RecallSettings
from dyprag.config.run import RunSettings
from dyprag.config.translator import TranslatorSettings

__all__ = [
    "MOST_TOGETHER",
    "OFFICIAL",
    "PAPER",
    "PRESETS",
    "SMOLLM2",
    "ApiSettings",
    "AugmentSettings",
    "CorpusSettings",
    "DataSetName",
    "DataSetSettings",
    "EvaluateSettings",
    "ExperimentName",
    "ExperimentSettings",
    "JudgeSettings",
    "LearnSettings",
    "LoraSettings",
    "Merge",
    "ModelSettings",
    "ParametrizeSettings",
    "PipelineConfig",
    "Price",
    "RecallSettings",
    "RunSettings",
    "Section",
    "TranslatorSettings",
]
