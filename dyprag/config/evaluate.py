"""The settings of answering, stage 3 (§3.3)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from dyprag.config.base import PRESET, Section, basic, expert

if TYPE_CHECKING:
    from dyprag.methods.gate import Gate
    from dyprag.model.prompts import PromptForm
Method = Literal["vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine", "flare", "dragin",
                 "zero", "generic", "prag-mean", "prag-wrong", "dyprag-mean", "dyprag-wrong",
                 "zero-combine", "generic-combine", "prag-combine-mean", "prag-combine-wrong", "dyprag-combine-mean",
                 "dyprag-combine-wrong"]  # fmt: skip
Control = Literal["wrong", "mean", "generic", "zero"]
Merge = Literal["sum", "mean", "matrices", "weighted"]


class EvaluateSettings(Section):
    """Stage 3: answering the test questions with each method (§3.3)."""

    methods: tuple[Method, ...] = basic(
        ("vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine"), "Methods compared."
    )
    passages: int = basic(3, "Documents retrieved per question (the paper's c).", ge=1)
    prag_merge: Merge = expert(
        PRESET,
        "How PRAG merges the retrieved documents' adapters: sum or mean of the deltas, weighted (by the softmax of "
        "the retrieval scores), or matrices (mean of the A's and mean of the B's, as the official code).",
    )
    dyprag_merge: Merge = expert(PRESET, "How DyPRAG merges them.")
    strength: float = basic(
        PRESET,
        "What an injected adapter's delta is multiplied by where no passages are in the prompt. 0: no adapter.",
        ge=0,
    )
    combine_strength: float = basic(PRESET, "The same beside passages, in the Combine methods.", ge=0)
    combine_when: Literal["always", "borne-out"] = expert(
        PRESET,
        "When an adapter is injected beside passages: always, or where the answer that it gives without them stands in "
        "them (borne-out).",
    )
    max_new_tokens: int = basic(PRESET, "Maximum length of an answer in tokens.", ge=1)
    passage_order: Literal["best-first", "best-last"] = expert(
        PRESET, "Order of the passages in the prompt; best-last puts the best one next to the question."
    )
    prompt_passages: int | None = expert(
        PRESET, "Passages in the prompt: the best of those that were retrieved. The paper's preset shows all.", ge=1
    )
    prompt_tokens: int | None = expert(
        None,
        "Longest prompt in tokens; passages are cut at the end of a sentence to fit. Empty: the model's "
        "context, less the answer.",
        ge=32,
    )
    ask_for: Literal["plain", "instruction", "examples", "sentence"] = expert(
        PRESET,
        "How an answer is asked for: plain (it begins with 'The answer is:'), with an instruction to be short, with "
        "two examples before it, or as a sentence (the model begins as it likes). An adapter alone is always "
        "asked as it was trained: plain.",
    )
    reasoning: bool = expert(PRESET, "Answer the multi-hop data sets by chain of thought (§4.1).")
    reasoning_tokens: int = expert(128, "Longest answer by chain of thought, in tokens.", ge=1)
    batch_size: int = expert(16, "Questions answered together, and kept together: a stopped run repeats no more.", ge=1)
    controls: tuple[Control, ...] = expert(
        ("wrong", "zero"),
        "Controls of each method with adapters: those of wrong documents, the documents' mean, a generic "
        "one trained on other documents' pairs, zero. An experiment uses all of them where this is left as it is.",
    )
    most_questions: dict[Method, PositiveInt] = expert(
        {}, "At most so many questions of each data set for a costly method, as {flare: 50}."
    )
    flare_threshold: float | None = expert(
        None,
        "Probability of a token below which FLARE retrieves. Empty: as half of "
        "the alignment questions would; without any, its authors' rule for a sentence's mean.", ge=0, le=1
    )  # fmt: skip
    dragin_threshold: float | None = expert(
        None,
        "Weighted entropy above which DRAGIN retrieves. Empty: as half of the "
        "alignment questions would; without any, its authors' 0.8.", ge=0
    )  # fmt: skip

    form_order: ClassVar[tuple[str, ...]] = ("methods", "passages", "max_new_tokens", "strength", "combine_strength")
    immaterial: ClassVar[frozenset[str]] = frozenset({
        "methods", "batch_size", "prag_merge", "dyprag_merge", "reasoning", "reasoning_tokens", "controls",
        "most_questions", "flare_threshold", "dragin_threshold",
    })  # fmt: skip

    def gate_of(self, method: str) -> "Gate | None":
        """When a method's adapter is held back: beside passages that do not bear out its own answer."""
        gated = "-combine" in method and self.combine_when == "borne-out"
        if not (gated and self.combine_strength and self.strength):
            return None
        from dyprag.methods.gate import Gate

        return Gate(self.strength / self.combine_strength)

    def form(self) -> "PromptForm":
        """How questions are put beside their passages."""
        from dyprag.model.prompts import PromptForm

        return PromptForm(self.passage_order, self.ask_for, self.prompt_passages, self.prompt_tokens)

    def strength_of(self, method: str) -> float:
        """What a method's adapter is multiplied by: another number beside passages than without them."""
        return self.combine_strength if "-combine" in method else self.strength
