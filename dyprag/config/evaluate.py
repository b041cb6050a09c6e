"""Settings of answering, stage 3 (§3.3)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from dyprag.config.base import PRESET, Section, basic, expert
from dyprag.methods.spec import ControlKind, Method, spec_of

if TYPE_CHECKING:
    from dyprag.corpora.documents import Question
    from dyprag.methods.gate import Gate
    from dyprag.model.prompts import PromptForm
Merge = Literal["sum", "mean", "matrices", "weighted"]


class EvaluateSettings(Section):
    """Stage 3: answering the test questions with each method (§3.3)."""

    methods: tuple[Method, ...] = basic(
        ("vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine"), "Methods to compare."
    )
    passages: int = basic(3, "Number of documents retrieved per question (the paper's c).", ge=1)
    prag_merge: Merge = expert(
        PRESET,
        "How PRAG merges the retrieved documents' adapters. sum, mean: of the weight changes; weighted: by the "
        "softmax of the retrieval scores; matrices: mean of the A matrices and mean of the B matrices (the "
        "official code).",
    )
    dyprag_merge: Merge = expert(PRESET, "How DyPRAG merges them; the choices are those of prag_merge.")
    strength: float = expert(
        PRESET,
        "Factor on an injected adapter's weight change when no passages are in the prompt. 0: no adapter.",
        ge=0,
    )
    combine_strength: float = expert(
        PRESET, "Factor on an injected adapter's weight change with passages in the prompt (Combine methods).", ge=0
    )
    combine_when: Literal["always", "borne-out"] = expert(
        PRESET,
        "When a Combine method injects its adapter. always; borne-out: only if the passages contain the answer that "
        "the adapter gives without them.",
    )
    max_new_tokens: int = basic(PRESET, "Maximum length of an answer in tokens.", ge=1)
    passage_order: Literal["best-first", "best-last"] = expert(
        PRESET, "Order of the passages in the prompt; best-last puts the best one next to the question."
    )
    prompt_passages: int | None = expert(
        PRESET, "Maximum number of passages in the prompt, best first. The paper's preset shows all.", ge=1
    )
    prompt_tokens: int | None = expert(
        None,
        "Maximum length of a prompt in tokens; passages are cut at the end of a sentence to fit. Empty: the "
        "model's context, less the answer.",
        ge=32,
    )
    ask_for: Literal["plain", "instruction", "examples", "sentence"] = expert(
        PRESET,
        "How the prompt requests the answer. plain: the answer begins with 'The answer is:'; instruction: with an "
        "instruction to be short; examples: after two examples; sentence: the answer begins freely. A method that "
        "injects an adapter without passages always uses plain, the form that adapters are trained with.",
    )
    reasoning: bool = expert(PRESET, "Answer the multi-hop data sets by chain of thought (§4.1).")
    reasoning_tokens: int = expert(128, "Maximum length of an answer by chain of thought, in tokens.", ge=1)
    batch_size: int = expert(
        16, "Number of questions answered and stored together; a stopped run repeats at most one batch.", ge=1
    )
    controls: tuple[ControlKind, ...] = expert(
        ("wrong", "zero"),
        "Controls for each method with adapters. wrong: other questions' documents; mean: the mean over "
        "documents; generic: one adapter trained on other documents' pairs; zero: an adapter that changes "
        "nothing. An experiment runs all of them unless this is set.",
    )
    most_questions: dict[Method, PositiveInt] = expert(
        {}, "Maximum number of questions of each data set for an expensive method, such as {flare: 50}."
    )
    flare_threshold: float | None = expert(
        None,
        "Token probability below which FLARE retrieves. Empty: the value at which half of the alignment questions "
        "retrieve; without alignment questions, its authors' rule for a sentence's mean.",
        ge=0,
        le=1,
    )
    dragin_threshold: float | None = expert(
        None,
        "Weighted entropy above which DRAGIN retrieves. Empty: the value at which half of the alignment questions "
        "retrieve; without alignment questions, its authors' 0.8.",
        ge=0,
    )

    form_order: ClassVar[tuple[str, ...]] = ("methods", "passages", "max_new_tokens")
    immaterial: ClassVar[frozenset[str]] = frozenset({
        "methods", "batch_size", "prag_merge", "dyprag_merge", "reasoning", "reasoning_tokens", "controls",
        "most_questions", "flare_threshold", "dragin_threshold",
    })  # fmt: skip

    def gate_of(self, method: str) -> "Gate | None":
        """Return the gate that decides when a Combine method leaves its adapter out, or None if it never does."""
        gated = self._combines(method) and self.combine_when == "borne-out"
        if not (gated and self.combine_strength and self.strength):
            return None
        from dyprag.methods.gate import Gate

        return Gate(self.strength / self.combine_strength)

    def form(self) -> "PromptForm":
        """Return how prompts present a question and its passages."""
        from dyprag.model.prompts import PromptForm

        return PromptForm(self.passage_order, self.ask_for, self.prompt_passages, self.prompt_tokens)

    def strength_of(self, method: str) -> float:
        """Return the factor on a method's adapter. It differs between methods with and without passages."""
        return self.combine_strength if self._combines(method) else self.strength

    def threshold_of(self, method: str) -> float | None:
        """The threshold at which a method retrieves while it answers; None if none is set, or it has none."""
        threshold: float | None = getattr(self, f"{method}_threshold", None)
        return threshold

    def answer_length(self, question: "Question") -> int:
        """Return the maximum length of a question's answer in tokens."""
        return self.reasoning_tokens if question.chain_of_thought else self.max_new_tokens

    @staticmethod
    def _combines(method: str) -> bool:
        """Whether a method shows passages and injects an adapter."""
        spec = spec_of(method)
        return spec.shows_passages and spec.injects != "nothing"
