"""The settings of augmentation, stage 1a (§3.1)."""

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from dyprag.config.api import ApiSettings
from dyprag.config.base import PRESET, Section, basic, expert


class AugmentSettings(Section):
    """Stage 1a: rewrites and question-answer pairs (§3.1)."""

    backend: Literal["local", "api"] = basic(
        "local",
        "Who writes: the base model itself (local, English only), or an LLM behind an endpoint (api).",
    )
    api: ApiSettings = basic(ApiSettings(), "The endpoint, its limits and the budget.")
    rewrites: int = basic(PRESET, "Rewrites per document (the paper's n).", ge=0)
    qa_pairs: int = basic(PRESET, "Question-answer pairs per document (the paper's m).", ge=1)
    least_pairs: int = expert(
        PRESET, "Pairs without which a document counts as partial; all asked for, if fewer.", ge=1
    )
    temperature: float = expert(0.7, "Sampling temperature.", ge=0)
    top_k: int = expert(50, "Sample among so many of the likeliest tokens (local).", ge=1)
    max_new_tokens: int = expert(512, "Longest rewrite, in tokens; the API's longest answer.", ge=1)
    seed: int = expert(0, "Seed of the sampling.")
    tries: int = expert(3, "Times that what is missing, malformed or not accepted is asked for (API).", ge=1)
    rewrite_recall: float = expert(
        0.9, "Share of a document's names, numbers and dates that a rewrite must keep.", ge=0, le=1
    )
    rewrite_change: float = expert(
        0.05, "Least share of a rewrite's letters that differ from the document.", ge=0, le=1
    )
    answer_support: float = expert(
        0.85, "How alike an answer and some words of the document must be; 1: equal.", ge=0, le=1
    )
    verify: bool = expert(True, "Where they are not, ask the model with the passage; the same answer is accepted.")
    prompts: str | None = expert(None, "A folder of prompt files that stand in for the built-in ones of the same name.")
    batch_documents: int = expert(8, "Documents that generate together (local).", ge=1)

    form_order: ClassVar[tuple[str, ...]] = ("backend", "api", "qa_pairs", "rewrites")

    def material_of(self, product: Literal["rewrites", "qa_pairs"]) -> dict[str, Any]:
        """The settings that change one of the two products."""
        names = {"backend", "temperature", "seed", "max_new_tokens", product}
        names |= {"top_k"} if self.backend == "local" else set()
        names |= {"rewrite_recall", "rewrite_change"} if product == "rewrites" else {"answer_support", "verify"}
        settings = self.model_dump(mode="json", include=names)
        if self.backend == "api":  # where it is reached and how fast does not matter
            settings |= {"model": self.api.model, "extra_body": self.api.extra_body}
        return settings

    @model_validator(mode="after")
    def _endpoint_named(self) -> "AugmentSettings":
        if self.backend == "api" and not self.api.model:
            raise ValueError("backend 'api' needs the model's name at the endpoint (set augment.api.model)")
        return self
