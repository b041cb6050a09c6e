"""The settings of documents and test questions."""

from pydantic import model_validator

from dyprag.config.base import Section, basic, expert


class CorpusSettings(Section):
    """Where the documents and the test questions come from."""

    documents: str = basic(
        "demo",
        "A folder (.txt, .md, .html, .pdf), a JSONL, Parquet, CSV or TSV file, a glob, a URL of these, or 'demo'.",
    )
    questions: str | None = basic(
        None,
        "A JSONL file of test questions, or 'demo'. Empty: the demo's own with the demo corpus, otherwise "
        "none, and nothing is evaluated.",
    )
    max_documents: int | None = basic(None, "Use only the first so many documents. Empty: all.", ge=1)
    max_questions: int | None = expert(
        None, "Take at most so many questions about each document (and pair of documents).", ge=1
    )
    passage_tokens: int | None = basic(
        None,
        "Split documents into passages of at most so many tokens. Empty: each is taken whole, and must fit "
        "the model's context.",
        ge=16,
    )
    overlap: int = expert(0, "Of a passage's tokens, most that the one before it ends with; in whole sentences.", ge=0)
    held_out: float = basic(0.25, "Share of the documents that the translator is not trained on.", ge=0, lt=1)

    @model_validator(mode="after")
    def _room_beside_the_overlap(self) -> "CorpusSettings":
        if self.overlap and self.overlap >= (self.passage_tokens or 0):
            raise ValueError("overlap must be less than passage_tokens (set passage_tokens, or lower overlap)")
        return self
