"""The configuration as each flow takes it, read from the flow's own form in the UI. `config.stages` lists the form's
settings."""

from typing import Annotated

from dyprag.config import PipelineConfig
from dyprag.config.form import UNTOUCHED, Form
from dyprag.config.stages import FORMS

__all__ = ["UNTOUCHED"]

IngestForm = Annotated[PipelineConfig, Form(*FORMS["ingest"])]
AugmentForm = Annotated[PipelineConfig, Form(*FORMS["augment"])]
ParametrizeForm = Annotated[PipelineConfig, Form(*FORMS["parametrize"])]
TranslatorForm = Annotated[PipelineConfig, Form(*FORMS["train-translator"])]
LearnForm = Annotated[PipelineConfig, Form(*FORMS["learn"])]
LearnAugmenterForm = Annotated[PipelineConfig, Form(*FORMS["learn-augmenter"])]
EvaluateForm = Annotated[PipelineConfig, Form(*FORMS["evaluate"])]
PipelineForm = Annotated[PipelineConfig, Form(*FORMS["pipeline"])]
ExperimentForm = Annotated[PipelineConfig, Form(*FORMS["experiment"])]
