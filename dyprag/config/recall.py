"""The settings of the fact-recall benchmark."""

from typing import ClassVar

from dyprag.config.base import Section, basic, expert


class RecallSettings(Section):
    """The fact-recall benchmark: documents that no translator has seen, asked about without the passage."""

    closed: int = basic(80, "Invented documents with facts of closed vocabularies.", ge=0)
    open: int = basic(80, "Invented documents with new names, dates and numbers.", ge=0)
    popqa: int = expert(250, "PopQA's paragraphs, where learn.data holds them.", ge=0)
    multihop: int = expert(40, "Paragraphs of HotpotQA and of 2WikiMultihopQA each, where learn.data holds them.", ge=0)
    people: str | None = basic(
        None,
        "Folder of files NAME.jsonl.gz with passages and people's questions. Empty: these are left out.",
    )
    human: int = expert(200, "Passages kept from training, where recall.people holds them.", ge=0)
    kinds: int = expert(80, "Passages of sets that no training reads, likewise.", ge=0)
    everyday: int = basic(30, "Everyday documents that come with the package.", ge=0, le=30)
    questions: int = expert(4, "At most so many questions about each document.", ge=1)
    parametrized: int = basic(
        8, "Documents of each band that get an adapter of their own, trained: PRAG's ceiling.", ge=0
    )

    form_order: ClassVar[tuple[str, ...]] = ("closed", "open", "everyday", "people", "parametrized")
