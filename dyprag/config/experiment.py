"""The settings of an experiment and of its data sets (§4)."""

from typing import Literal

from pydantic import field_validator

from dyprag.config.base import Section, basic, expert
from dyprag.config.evaluate import Method

DataSetName = Literal["2wikimultihopqa", "hotpotqa", "popqa", "complexwebquestions", "strategyqa", "iirc", "ragtruth",
                      "jsonl"]  # fmt: skip
ExperimentName = Literal["main", "out-of-distribution", "width", "alignment-size", "losses", "conflict",
                         "answer-length", "cost", "internalization"]  # fmt: skip


class DataSetSettings(Section):
    """One data set of an experiment, and how its questions are parted."""

    name: str = expert(..., "Its name in tables.", pattern=r"^[^/]+$")
    format: DataSetName | None = expert(None, "Its file format. Empty: that of the set of its name.")
    location: str | None = expert(None, "Its file or folder, within experiment.data. Empty: the folder of its name.")
    passages: str | None = expert(
        None,
        "What is retrieved from, within experiment.data: a JSONL file, a folder of texts, or DPR's "
        "psgs_w100.tsv. Empty: the set's own passages.",
    )
    questions: int = expert(300, "Test questions: the first so many (of each type).", ge=0)
    tested: bool = expert(True, "Ask the test questions; else they are only kept out of training.")
    alignment_questions: int = expert(200, "The next so many: their documents train the translator.", ge=0)
    alignment_documents: int | None = expert(
        None, "So many documents for the translator: those of the alignment questions, then "
        "others that no test question needs. Empty: those of the alignment questions.", ge=0
    )  # fmt: skip
    by_type: bool = expert(False, "Count the questions for each of the set's types by itself.")
    gold: bool = expert(False, "Take the annotated gold passages rather than retrieve any.")
    chain_of_thought: bool | None = expert(
        None, "Answer step by step. Empty: the multi-hop sets if evaluate.reasoning says so."
    )
    methods: tuple[Method, ...] | None = expert(
        None, "Of the experiment's methods only these, and their controls. Empty: all of them."
    )
    contradict: bool = expert(False, "Alter the documents so that they contradict what is true.")


class ExperimentSettings(Section):
    """An experiment of the paper (§4), or one of these with other data sets: `dyprag evaluate --experiment NAME`."""

    name: ExperimentName | None = basic(None, "The experiment to run.")
    data: str = basic("data", "The folder that holds the data sets' folders.")
    sets: tuple[DataSetSettings, ...] = expert((), "Its data sets. Empty: the paper's.")
    widths: tuple[int, ...] = expert((2, 4, 8, 16, 32), "Widths p of the experiment 'width'.")
    sizes: tuple[int, ...] = expert((480, 1200, 2400, 4800), "Alignment documents of the experiment 'alignment-size'.")
    alignment: int | None = basic(
        None, "Train the translator on the first so many alignment documents. Empty: on all.", ge=1
    )

    @field_validator("sets")
    @classmethod
    def _unlike_names(cls, sets: tuple[DataSetSettings, ...]) -> tuple[DataSetSettings, ...]:
        names = [one.name for one in sets]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two data sets are named {twice.pop()!r} (give each a name of its own, and its format)")
        if "all" in names:
            raise ValueError("a data set is named 'all' (which stands for all of them; give it another name)")
        return sets
