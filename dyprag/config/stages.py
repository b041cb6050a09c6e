"""The stages of a run, one entry each: what it makes, how it is spoken of, and which settings its form shows.

A new stage is one entry here and a flow that opens it by its name. What a form shows are the basic settings of the
sections that it names, and single settings; of earlier stages those by which a stage finds what they made. All others
come from a file of settings or as JSON, two fields that every form has.
"""

from dataclasses import dataclass

ALWAYS = ("model", "store", "preset", "run.on_failures")
CORPUS = ("corpus.documents", "corpus.questions", "corpus.max_documents", "corpus.passage_tokens")
AUGMENTED = ("augment.backend", "augment.api.model", "augment.qa_pairs")
TRAINED = ("parametrize.learning_rate", "parametrize.epochs")


@dataclass(frozen=True)
class StageSpec:
    """One stage.

    Args:
        name: in the catalogue, the log and the Prefect UI.
        flow: the flow that it is part of, and the command that runs it again; empty: those of its own name.
        kinds: of artifacts, as the store knows them, that it makes.
        unit: what it works on, one of them, in its progress.
        task: what is done to these, as in '3 documents to embed'.
        form: the settings on the form of its flow, if it has one of its own.
        counted: whether `dyprag status` lists it, documents or not.
        lasting: whether its artifacts are kept although nothing refers to them: the catalogue's runs do.
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
        """The flow that it is part of, which is the `dyprag` command, too."""
        return self.flow or self.name

    @property
    def kind(self) -> str:
        """The kind of artifact that the keys of its work name; empty where a unit of work makes several."""
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
        "train-translator", kinds=("translator",), unit="translator", task="to train",
        form=(*ALWAYS, "corpus", *AUGMENTED, *TRAINED, "translator"), counted=True,
    ),
    StageSpec(
        "learn", kinds=("translator",), unit="translator", task="to learn", form=(*ALWAYS, "learn", "recall"),
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

# flows that run the others, and the settings on their forms
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
KINDS = ("passages", *dict.fromkeys(kind for spec in STAGES for kind in spec.kinds))  # passages: an experiment's
LASTING = tuple(kind for spec in STAGES if spec.lasting for kind in spec.kinds)


def spec_of(name: str) -> StageSpec:
    """The stage of a name; for any other name (a run of all stages has one) one of which nothing more is known."""
    return _BY_NAME.get(name) or StageSpec(name)
