"""Which settings the form of each flow shows: those that it uses, and of earlier stages those by which it finds what
they made. All others come from a file of settings or as JSON, two fields that every form has."""

from typing import Annotated

from dyprag.config import PipelineConfig
from dyprag.forms import UNTOUCHED, Form

__all__ = ["UNTOUCHED"]

ON_FAILURES = "run.on_failures"
AUGMENTED = ("corpus", "model", "store", "preset", "augment")
ADAPTED = (*AUGMENTED, "lora", "parametrize")
TRANSLATED = (*ADAPTED, "translator")
NO_ENDPOINT = ("augment.api.base_url", "augment.api.key_block")  # what it wrote is found by its model's name

IngestForm = Annotated[PipelineConfig, Form("corpus", "model", "store", ON_FAILURES, without=("corpus.held_out",))]
AugmentForm = Annotated[PipelineConfig, Form(*AUGMENTED, "run", without=("corpus.held_out",))]
ParametrizeForm = Annotated[PipelineConfig, Form(*ADAPTED, "run", without=("corpus.held_out", *NO_ENDPOINT))]
TranslatorForm = Annotated[PipelineConfig, Form(*TRANSLATED, ON_FAILURES, without=NO_ENDPOINT)]
LearnForm = Annotated[PipelineConfig, Form("learn", "recall", "model", "store", ON_FAILURES)]
EvaluateForm = Annotated[PipelineConfig, Form(*TRANSLATED, "evaluate", ON_FAILURES, without=NO_ENDPOINT)]
PipelineForm = Annotated[
    PipelineConfig,
    Form(
        "corpus", "model", "store", "preset", "augment.backend", "augment.api.model", "augment.api.base_url",
        "augment.qa_pairs", "parametrize.learning_rate", "parametrize.epochs", "translator.learned",
        "evaluate.methods", "evaluate.passages", ON_FAILURES, without=("corpus.held_out",),
    ),
]  # fmt: skip
ExperimentForm = Annotated[
    PipelineConfig, Form("experiment", *TRANSLATED, "evaluate", "judge", "run", without=("corpus",))
]
