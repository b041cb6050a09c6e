"""The settings of a translator that is learned from questions, with no trained adapters."""

from typing import ClassVar, Literal

from dyprag.config.base import Section, basic, expert


class LearnSettings(Section):
    """A translator learned from documents and what is asked about them, with no trained adapter as its target."""

    kind: Literal["attentive", "hypernetwork"] = basic(
        "attentive",
        "attentive: reads all tokens of a document; hypernetwork: the paper's, from the last one's state.",
    )
    rank: int = basic(8, "Rank of the adapters that it makes.", ge=1)
    first_layer: int = expert(10, "attentive: the layers before it are not adapted.", ge=0)
    sources: int = expert(4, "attentive: of how many layers the states are read.", ge=1)
    width: int = expert(288, "attentive: width of a slot; hypernetwork: its p.", ge=1)
    heads: int = expert(8, "attentive: heads of its attention.", ge=1)
    blocks: int = expert(2, "attentive: blocks of attention.", ge=1)
    copy_tokens: bool = expert(True, "attentive: slots also point at tokens and copy them.")
    spread: bool = expert(True, "attentive: slots begin spread over the document, each with a stretch of its own.")
    normalize: bool = expert(True, "hypernetwork: layer norm on the document's embedding.")
    init_std: float = expert(1e-3, "hypernetwork: of the initial up-projection.", gt=0)
    residual: bool = expert(True, "hypernetwork: predict the difference from one initial adapter.")
    alpha: float = expert(8.0, "LoRA's alpha of the adapters that it makes.", gt=0)
    closed: int = basic(8000, "Invented documents with facts of closed vocabularies.", ge=0)
    open: int = basic(8000, "Invented documents with new names, dates and numbers.", ge=0)
    real: int | None = basic(
        None, "Real passages with questions made by rules, from `data`. Empty: all there are.", ge=0
    )
    blanks: int = expert(1, "Sentences with a blank among a real passage's questions.", ge=0)
    gaps: int = expert(0, "Further sentences with a gap, as augmentation asks them.", ge=0)
    data: str | None = basic(None, "The data sets' folder. Empty: invented documents only.")
    steps: int = basic(1500, "Optimizer steps.", ge=1)
    documents: int = expert(8, "Documents in a step.", ge=1)
    questions: int = expert(4, "At most so many questions about each of them.", ge=1)
    row_tokens: int = expert(115, "Tokens of a document's questions in a step, unless the first has more.", ge=1)
    learning_rate: float = basic(2e-3, "AdamW's learning rate after the warm-up.", gt=0)
    warmup: int = expert(50, "Steps in which it rises.", ge=0)
    decay: float = expert(0.3, "Share of the steps, at the end, in which it falls to 0.", ge=0, le=1)
    weight_decay: float = expert(0.01, "AdamW's weight decay.", ge=0)
    clip: float = expert(1.0, "Largest norm of a step's gradient.", gt=0)
    lambda_pred: float = expert(1.0, "Weight of the right answers' loss.", ge=0)
    lambda_teacher: float = expert(0.0, "Weight of the KL towards the base model with the passage in its prompt.", ge=0)
    lambda_unrelated: float = expert(
        1.0, "Weight of the KL towards the plain base model on other documents' questions.", ge=0
    )
    unrelated: float = expert(0.25, "Share of documents asked such a question too.", ge=0, le=1)
    seed: int = expert(0, "Seed of the initial weights, the documents and their order.")
    start: str | None = basic(
        None,
        "A translator of the same sizes to begin with: a folder that `output` or the store holds, or "
        "'packaged'. Empty: a fresh one.",
    )
    output: str | None = basic(
        None, "A folder that takes the translator, in bfloat16, and its model card. Empty: none."
    )

    form_order: ClassVar[tuple[str, ...]] = (
        "kind", "data", "closed", "open", "real", "steps", "learning_rate", "rank", "start", "output",
    )  # fmt: skip
    # the lessons and the first weights stand for where they are from
    immaterial: ClassVar[frozenset[str]] = frozenset({"data", "start", "output"})
