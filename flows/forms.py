"""Which settings the form of each flow shows: its own basic ones, and of earlier stages those by which it finds what
they made. All others come from a file of settings or as JSON, two fields that every form has."""

from typing import Annotated

from dyprag.config import PipelineConfig
from dyprag.config.form import UNTOUCHED, Form

__all__ = ["UNTOUCHED"]

ALWAYS = ("model", "store", "preset", "run.on_failures")
CORPUS = ("corpus.documents", "corpus.questions", "corpus.max_documents", "corpus.passage_tokens")
AUGMENTED = ("augment.backend", "augment.api.model", "augment.qa_pairs")
TRAINED = ("parametrize.learning_rate", "parametrize.epochs")

IngestForm = Annotated[PipelineConfig, Form(*CORPUS, "model", "store")]
AugmentForm = Annotated[PipelineConfig, Form(*ALWAYS, *CORPUS, "augment", "run")]
ParametrizeForm = Annotated[PipelineConfig, Form(*ALWAYS, *CORPUS, *AUGMENTED, "lora", "parametrize", "run")]
TranslatorForm = Annotated[PipelineConfig, Form(*ALWAYS, "corpus", *AUGMENTED, *TRAINED, "translator")]
LearnForm = Annotated[PipelineConfig, Form(*ALWAYS, "learn", "recall")]
EvaluateForm = Annotated[PipelineConfig, Form(*ALWAYS, *CORPUS, *AUGMENTED, *TRAINED, "translator.learned", "evaluate")]
PipelineForm = Annotated[
    PipelineConfig,
    Form(*ALWAYS, *CORPUS, *AUGMENTED, "augment.api.base_url", *TRAINED, "evaluate.methods", "evaluate.passages"),
]
ExperimentForm = Annotated[
    PipelineConfig,
    Form(*ALWAYS, "experiment", *AUGMENTED, "augment.api.base_url", *TRAINED, "evaluate", "judge.api.model"),
]
