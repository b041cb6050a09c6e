"""The stages of a run: for each one its artifacts, the words for its work in messages, and the settings on its form.

A new stage requires an entry here and a flow that opens it by name. A form shows single settings and the basic
settings of the sections that it names. From earlier stages it shows the settings that identify their artifacts. All
other settings are given in a settings file or as JSON, in two fields that every form has.
"""

from dataclasses import dataclass

ALWAYS = ("model", "store", "preset", "run.on_failures")
CORPUS = ("corpus.documents", "corpus.questions", "corpus.max_documents", "corpus.passage_tokens")
AUGMENTED = ("augment.backend", "augment.api.model", "augment.qa_pairs")
TRAINED = ("parametrize.learning_rate", "parametrize.epochs")


@dataclass(frozen=True)
class StageSpec:
    """A stage of the pipeline.

    Args:
        name: the stage's name in the catalogue, the log and the Prefect UI.
        flow: the flow that contains the stage and the command that reruns it; empty if both have the stage's name.
        kinds: the kinds of artifacts that the stage produces.
        unit: the singular noun for a unit of work, shown in progress messages.
        task: the verb for the work, as in '3 documents to embed'.
        form: the settings on the form of the stage's flow, if it has its own flow.
        counted: whether `dyprag status` always lists the stage, even without documents.
        lasting: whether garbage collection keeps its artifacts although no artifact refers to them; runs in the
            catalogue do.
    """

    name: str
    flow: str = ""
    kinds: tuple[str, ...] = ()
    unit: str = "document"
    task: str = "to do"
    form: tuple[str, ...] = ()
    counted: bool = False
    lasting: bool = False

    @property
    def command(self) -> str:
        """The flow that contains the stage, which is also the name of the `dyprag` command."""
        return self.flow or self.name

    @property
    def kind(self) -> str:
        """The kind of artifact that a job's key names; empty if a job produces several kinds."""
        return self.kinds[0] if len(self.kinds) == 1 else ""


STAGES = (
    StageSpec(
        "ingest", kinds=("corpus",), task="read", form=(*CORPUS, "model", "store"), counted=True,
    ),
    StageSpec(
        "augment", kinds=("rewrites", "qa_pairs"), task="to augment", form=(*ALWAYS, *CORPUS, "augment", "run"),
        counted=True,
    ),
    StageSpec(
        "parametrize", kinds=("adapter",), task="to train",
        form=(*ALWAYS, *CORPUS, *AUGMENTED, "lora", "parametrize", "run"), counted=True,
    ),
    StageSpec("embed", "train-translator", ("embedding",), task="to embed", counted=True),
    StageSpec(
        "train-translator", kinds=("translator",), unit="translator", task="to make",
        form=(*ALWAYS, "corpus", *AUGMENTED, *TRAINED, "translator"), counted=True,
    ),
    StageSpec(
        "learn", kinds=("translator",), unit="translator", task="to learn", form=(*ALWAYS, "learn", "recall"),
    ),
    StageSpec(
        "learn-augmenter", kinds=("writer",), unit="question writer", task="to learn", form=(*ALWAYS, "writer"),
    ),
    StageSpec("recall", "learn", ("recall",), unit="measurement", task="to make", lasting=True),
    StageSpec("controls", "evaluate", ("adapter",), unit="control", task="to make"),
    StageSpec("thresholds", "evaluate", ("threshold",), unit="threshold", task="to choose", lasting=True),
    StageSpec(
        "evaluate", kinds=("prediction",), unit="question", task="to answer",
        form=(*ALWAYS, *CORPUS, *AUGMENTED, *TRAINED, "translator.learned", "evaluate"), counted=True, lasting=True,
    ),
    StageSpec("judge", "evaluate", ("judgement",), unit="comparison", task="to judge", lasting=True),
    StageSpec("report", "evaluate"),
)  # fmt: skip

# flows that run several stages, and the settings on their forms
WHOLE = {
    "pipeline": (
        *ALWAYS, *CORPUS, *AUGMENTED, "augment.api.base_url", *TRAINED, "evaluate.methods", "evaluate.passages",
    ),
    "experiment": (
        *ALWAYS, "experiment", *AUGMENTED, "augment.api.base_url", *TRAINED, "evaluate", "judge.api.model",
    ),
}  # fmt: skip

_BY_NAME = {spec.name: spec for spec in STAGES}
COUNTED = tuple(spec.name for spec in STAGES if spec.counted)
FLOWS = ("pipeline", *(spec.name for spec in STAGES if not spec.flow), "experiment")
FORMS = {**{spec.name: spec.form for spec in STAGES if not spec.flow}, **WHOLE}
KINDS = ("passages", *dict.fromkeys(kind for spec in STAGES for kind in spec.kinds))  # experiments store passages
LASTING = tuple(kind for spec in STAGES if spec.lasting for kind in spec.kinds)


def spec_of(name: str) -> StageSpec:
    """Return the stage of a name; for an unknown name, such as that of a run of all stages, a stage with defaults."""
    return _BY_NAME.get(name) or StageSpec(name)
