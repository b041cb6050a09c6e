"""Settings of augmentation, stage 1a (§3.1)."""

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from dyprag.config.api import ApiSettings
from dyprag.config.base import PRESET, Section, basic, expert


class AugmentSettings(Section):
    """Stage 1a: rewrites and question-answer pairs (§3.1)."""

    backend: Literal["local", "api"] = basic(
        "local",
        "Who writes rewrites and pairs. local: the base model itself (English only); api: an LLM behind an endpoint.",
    )
    api: ApiSettings = basic(ApiSettings(), "The endpoint, its limits and the budget.")
    writer: str | None = basic(
        None,
        "Folder of a question writer, made by `dyprag learn-augmenter`, that writes the pairs (local). Empty: rules "
        "begin the questions, and the model completes them.",
    )
    rewrites: int = basic(PRESET, "Rewrites per document (the paper's n).", ge=0)
    qa_pairs: int = basic(PRESET, "Question-answer pairs per document (the paper's m).", ge=1)
    least_pairs: int = expert(
        PRESET,
        "Minimum number of pairs, or qa_pairs if that is smaller; a document with fewer counts as partial.",
        ge=1,
    )
    temperature: float = expert(0.7, "Sampling temperature.", ge=0)
    top_k: int = expert(50, "Number of likeliest tokens to sample from (local).", ge=1)
    max_new_tokens: int = expert(512, "Maximum length of a rewrite, or of the endpoint's answer, in tokens.", ge=1)
    seed: int = expert(0, "Seed of the sampling.")
    tries: int = expert(3, "Number of attempts for what is missing, malformed or rejected (api).", ge=1)
    rewrite_recall: float = expert(
        0.9, "Minimum share of a document's names, numbers and dates that a rewrite has to keep.", ge=0, le=1
    )
    rewrite_change: float = expert(
        0.05, "Minimum share of a rewrite's characters that have to differ from the document.", ge=0, le=1
    )
    answer_support: float = expert(
        0.85, "Minimum similarity between an answer and a span of the document; 1 means equal.", ge=0, le=1
    )
    verify: bool = expert(
        True,
        "If the answer is less similar, ask the model with the passage; accept the pair if its answer is the same.",
    )
    prompts: str | None = expert(
        None, "Folder of prompt files that replace the built-in ones of the same name. Empty: the built-in ones."
    )
    batch_documents: int = expert(8, "Number of documents generated together (local).", ge=1)

    # the key of the pairs contains the writer's files themselves, not the folder that they are read from
    immaterial: ClassVar[frozenset[str]] = frozenset({"writer"})
    form_order: ClassVar[tuple[str, ...]] = ("backend", "writer", "api", "qa_pairs", "rewrites")

    @property
    def question_writer(self) -> str | None:
        """The folder of the question writer that writes the pairs; None if there is none."""
        return self.writer if self.backend == "local" else None

    def material_of(self, product: Literal["rewrites", "qa_pairs"]) -> dict[str, Any]:
        """Return the settings that affect one of the two products, for its key."""
        names = {"backend", "temperature", "seed", "max_new_tokens", product}
        names |= {"top_k"} if self.backend == "local" else set()
        names |= {"rewrite_recall", "rewrite_change"} if product == "rewrites" else {"answer_support", "verify"}
        settings = self.model_dump(mode="json", include=names)
        if self.backend == "api":  # the endpoint's address and limits do not affect the result
            settings |= {"model": self.api.model, "extra_body": self.api.extra_body}
        return settings

    @model_validator(mode="after")
    def _check_model_name(self) -> "AugmentSettings":
        if self.backend == "api" and not self.api.model:
            raise ValueError(
                "with backend 'api', augment.api.model must be set: the name by which the endpoint serves the model"
            )
        return self
