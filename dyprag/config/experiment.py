"""Settings of an experiment and its data sets (§4)."""

from typing import Literal

from pydantic import field_validator

from dyprag.config.base import Section, basic, expert
from dyprag.methods.spec import Method

DataSetName = Literal["2wikimultihopqa", "hotpotqa", "popqa", "complexwebquestions", "strategyqa", "iirc", "ragtruth",
                      "jsonl"]  # fmt: skip
ExperimentName = Literal["main", "out-of-distribution", "width", "alignment-size", "losses", "conflict",
                         "answer-length", "cost", "internalization"]  # fmt: skip


class DataSetSettings(Section):
    """One data set of an experiment, and how its questions are split into test and alignment questions."""

    name: str = expert(..., "Name of the data set in tables.", pattern=r"^[^/]+$")
    format: DataSetName | None = expert(None, "File format. Empty: that of the data set of this name.")
    location: str | None = expert(None, "File or folder, within experiment.data. Empty: the folder of the same name.")
    passages: str | None = expert(
        None,
        "Passages to retrieve from, within experiment.data: a JSONL file, a folder of texts, or DPR's "
        "psgs_w100.tsv. Empty: the data set's own passages.",
    )
    questions: int = expert(300, "Number of test questions (of each type), taken from the beginning.", ge=0)
    tested: bool = expert(True, "Ask the test questions. If false, they are only kept out of training.")
    alignment_questions: int = expert(
        200,
        "Number of alignment questions, taken after the test questions; the translator is trained on their documents.",
        ge=0,
    )
    alignment_documents: int | None = expert(
        None,
        "Number of documents to train the translator on: those of the alignment questions, then others that no "
        "test question needs. Empty: only those of the alignment questions.",
        ge=0,
    )
    by_type: bool = expert(False, "Count the questions of each type separately.")
    gold: bool = expert(False, "Use the annotated gold passages instead of retrieving.")
    chain_of_thought: bool | None = expert(
        None, "Answer step by step. Empty: for multi-hop data sets if evaluate.reasoning is set."
    )
    methods: tuple[Method, ...] | None = expert(
        None, "Run only these of the experiment's methods, and their controls. Empty: all of them."
    )
    contradict: bool = expert(False, "Change the documents so that they contradict the true facts.")


class ExperimentSettings(Section):
    """An experiment of the paper (§4), on the paper's or other data sets: `dyprag evaluate --experiment NAME`."""

    name: ExperimentName | None = basic(None, "Experiment to run.")
    data: str = basic("data", "Folder that contains the data sets' folders.")
    sets: tuple[DataSetSettings, ...] = expert((), "The experiment's data sets. Empty: the paper's.")
    widths: tuple[int, ...] = expert((2, 4, 8, 16, 32), "Widths p in the experiment 'width'.")
    sizes: tuple[int, ...] = expert(
        (480, 1200, 2400, 4800), "Numbers of alignment documents in the experiment 'alignment-size'."
    )
    alignment: int | None = basic(
        None, "Maximum number of alignment documents to train the translator on, from the beginning. Empty: all.", ge=1
    )

    @field_validator("sets")
    @classmethod
    def _check_names(cls, sets: tuple[DataSetSettings, ...]) -> tuple[DataSetSettings, ...]:
        names = [data_set.name for data_set in sets]
        if duplicates := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two data sets are named {duplicates.pop()!r} (give each a unique name, and its format)")
        if "all" in names:
            raise ValueError("a data set is named 'all', which is reserved (give it another name)")
        return sets
