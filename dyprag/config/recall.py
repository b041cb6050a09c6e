"""Settings of the fact-recall benchmark."""

from typing import ClassVar

from dyprag.config.base import Section, basic, expert


class RecallSettings(Section):
    """The fact-recall benchmark: questions about documents unseen in training, without the passage in the prompt."""

    closed: int = basic(80, "Number of invented documents with facts from closed vocabularies.", ge=0)
    open: int = basic(80, "Number of invented documents with new names, dates and numbers.", ge=0)
    popqa: int = expert(250, "Number of PopQA's paragraphs, if learn.data has them.", ge=0)
    multihop: int = expert(
        40, "Number of paragraphs from each of HotpotQA and 2WikiMultihopQA, if learn.data has them.", ge=0
    )
    people: str | None = basic(
        None,
        "Folder of files NAME.jsonl.gz with passages and questions written by people. Empty: none.",
    )
    human: int = expert(
        200, "Number of passages from recall.people of data sets that training reads, kept out of training.", ge=0
    )
    kinds: int = expert(80, "Number of passages from recall.people of data sets that training never reads.", ge=0)
    everyday: int = basic(30, "Number of everyday documents, which come with the package.", ge=0, le=30)
    questions: int = expert(4, "Maximum number of questions about each document.", ge=1)
    parametrized: int = basic(
        8, "Number of documents of each band that get a trained adapter of their own: PRAG's ceiling.", ge=0
    )

    form_order: ClassVar[tuple[str, ...]] = ("closed", "open", "everyday", "people", "parametrized")
