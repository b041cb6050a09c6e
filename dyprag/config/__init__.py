"""Every setting of the pipeline: one tree for the command line, YAML or TOML files and the Prefect form.

The only place with defaults, one file a section. A setting that is empty (None) takes the value of the model's preset;
`PipelineConfig.resolved()` fills those in. Each section says which of its settings matter to the artifact that it makes
(only those enter its key), and each field says whether it is basic or expert; see `base.Section`.
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
