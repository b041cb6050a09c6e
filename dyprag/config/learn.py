"""Settings of a translator that is trained on questions, without trained adapters as targets."""

from typing import ClassVar, Literal

from dyprag.config.base import Section, basic, expert


class LearnSettings(Section):
    """A translator trained on documents and questions about them, without trained adapters as targets."""

    kind: Literal["attentive", "hypernetwork"] = basic(
        "attentive",
        "attentive: reads all tokens of a document; hypernetwork: the paper's, reads the last token's state.",
    )
    rank: int = basic(8, "Rank of the adapters that the translator makes.", ge=1)
    first_layer: int = expert(10, "attentive: first layer that is adapted.", ge=0)
    sources: int = expert(4, "attentive: number of layers whose states are read.", ge=1)
    width: int = expert(288, "attentive: width of a slot; hypernetwork: intermediate width p.", ge=1)
    heads: int = expert(8, "attentive: number of attention heads.", ge=1)
    blocks: int = expert(2, "attentive: number of attention blocks.", ge=1)
    copy_tokens: bool = expert(True, "attentive: slots also point at tokens and copy them.")
    spread: bool = expert(True, "attentive: slots start spread over the document, each on a stretch of its own.")
    normalize: bool = expert(True, "hypernetwork: apply layer norm to the document's embedding.")
    init_std: float = expert(
        1e-3, "hypernetwork: standard deviation of the initial weights of the up-projection.", gt=0
    )
    residual: bool = expert(True, "hypernetwork: predict the difference from one initial adapter.")
    alpha: float = expert(8.0, "LoRA's alpha of the adapters that the translator makes.", gt=0)
    closed: int = basic(8000, "Number of invented documents with facts from closed vocabularies.", ge=0)
    open: int = basic(8000, "Number of invented documents with new names, dates and numbers.", ge=0)
    real: int | None = basic(
        None, "Number of real passages from `data`, with questions made by rules. Empty: all there are.", ge=0
    )
    blanks: int = expert(1, "Number of fill-in-the-blank sentences among a real passage's questions.", ge=0)
    gaps: int = expert(0, "Number of further fill-in-the-blank sentences, in the form that augmentation uses.", ge=0)
    data: str | None = basic(None, "Folder of data sets. Empty: only invented documents.")
    steps: int = basic(1500, "Number of optimizer steps.", ge=1)
    documents: int = expert(8, "Number of documents in a step.", ge=1)
    questions: int = expert(4, "Maximum number of questions about each document in a step.", ge=1)
    row_tokens: int = expert(
        115, "Maximum tokens of a document's questions in a step; the first question may exceed it.", ge=1
    )
    learning_rate: float = basic(2e-3, "AdamW's learning rate after the warm-up.", gt=0)
    warmup: int = expert(50, "Learning-rate warm-up steps.", ge=0)
    decay: float = expert(0.3, "Share of the steps, at the end, over which the learning rate decays to 0.", ge=0, le=1)
    weight_decay: float = expert(0.01, "AdamW's weight decay.", ge=0)
    clip: float = expert(1.0, "Maximum gradient norm.", gt=0)
    lambda_pred: float = expert(1.0, "Weight of the loss on the correct answers.", ge=0)
    lambda_teacher: float = expert(
        0.0, "Weight of the KL divergence from the base model with the passage in its prompt.", ge=0
    )
    lambda_unrelated: float = expert(
        1.0, "Weight of the KL divergence from the plain base model on other documents' questions.", ge=0
    )
    unrelated: float = expert(0.25, "Share of documents that are also asked another document's question.", ge=0, le=1)
    seed: int = expert(0, "Seed of the initial weights, the documents and their order.")
    start: str | None = basic(
        None,
        "Translator of the same sizes whose weights training starts from: a folder from `output` or the store, or "
        "'packaged'. Empty: fresh weights.",
    )
    output: str | None = basic(
        None, "Folder to write the translator to, in bfloat16, with its model card. Empty: none."
    )

    form_order: ClassVar[tuple[str, ...]] = (
        "kind", "data", "closed", "open", "real", "steps", "learning_rate", "rank", "start", "output",
    )  # fmt: skip
    # the key contains the lessons and the initial weights themselves, not the paths that they are read from
    immaterial: ClassVar[frozenset[str]] = frozenset({"data", "start", "output"})
