"""Settings of the documents and test questions."""

from pydantic import model_validator

from dyprag.config.base import Section, basic, expert


class CorpusSettings(Section):
    """Where the documents and the test questions come from."""

    documents: str = basic(
        "demo",
        "A folder (.txt, .md, .html, .pdf), a JSONL, Parquet, CSV or TSV file, a glob, a URL of one of these, or "
        "'demo'.",
    )
    questions: str | None = basic(
        None,
        "A JSONL file of test questions, or 'demo'. Empty: the demo corpus has its own; with any other corpus "
        "there are none, and nothing is evaluated.",
    )
    max_documents: int | None = basic(None, "Maximum number of documents, taken from the beginning. Empty: all.", ge=1)
    max_questions: int | None = expert(
        None, "Maximum number of questions about each document (and pair of documents). Empty: all.", ge=1
    )
    passage_tokens: int | None = basic(
        None,
        "Maximum tokens of a passage; longer documents are split. Empty: no document is split, and each has to "
        "fit the model's context.",
        ge=16,
    )
    overlap: int = expert(0, "Maximum tokens shared with the previous passage, in whole sentences.", ge=0)
    held_out: float = basic(0.25, "Share of the documents that are kept out of the translator's training.", ge=0, lt=1)

    @model_validator(mode="after")
    def _check_overlap(self) -> "CorpusSettings":
        if self.overlap and self.overlap >= (self.passage_tokens or 0):
            raise ValueError("overlap must be less than passage_tokens (set a larger passage_tokens, or lower overlap)")
        return self
