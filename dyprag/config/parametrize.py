"""Settings of the adapters and their training, stage 1b (§3.1)."""

from typing import ClassVar, Literal

from dyprag.config.base import PRESET, Section, basic, expert

MOST_TOGETHER = 64  # maximum number of documents trained together; more do not use an accelerator better


class LoraSettings(Section):
    """The shape of the adapters, which adapt gate_proj, up_proj and down_proj of every layer."""

    rank: int = basic(PRESET, "Rank r of the adapters.", ge=1)
    alpha: float = expert(32, "LoRA's alpha; the weight change is scaled by alpha / rank.", gt=0)
    dtype: Literal["bfloat16", "float32"] = expert(
        "bfloat16", "Number format of the stored adapters; they are trained in float32."
    )
    seed: int = expert(0, "Seed of the initial adapter, which all documents share.")
    first_layer: int = expert(
        0, "First layer that is trained. The layers below keep a zero adapter and need no backward pass.", ge=0
    )

    added: ClassVar[frozenset[str]] = frozenset({"first_layer"})


class ParametrizeSettings(Section):
    """Stage 1b: training one adapter per document (§3.1)."""

    start: Literal["random", "translated"] = expert(
        "random",
        "What a document's training starts from. random: the adapter that all documents share; translated: what "
        "`translator.learned` makes of the document, with its rank and alpha in place of `lora`'s. SmolLM2's preset "
        "then has fewer epochs and a lower learning rate.",
    )
    learning_rate: float = basic(PRESET, "AdamW's learning rate.", gt=0)
    epochs: int = basic(PRESET, "Number of passes over a document's samples.", ge=1)
    batch_size: int = expert(PRESET, "Number of samples in a step.", ge=1)
    samples: Literal["official", "both", "closed-book"] = expert(
        PRESET,
        "official: the first half of the pairs has the passage and rewrites in the prompt, the others do not; "
        "both: every pair appears once with a passage and once without; closed-book: no prompt has a passage, and "
        "each text appears once with a pair.",
    )
    answer: Literal["short", "full"] = expert(
        "short", "Which answer is trained: the short one, or the full sentence (chain of thought)."
    )
    loss_on: Literal["all", "answer"] = expert(
        "all", "Tokens that the loss is taken over: the whole sequence, or the answer only."
    )
    shuffle: bool = basic(PRESET, "Shuffle a document's steps in every epoch.")
    weight_decay: float = expert(0.01, "AdamW's weight decay.", ge=0)
    seed: int = expert(0, "Seed of the sample order.")
    documents: int | None = expert(
        None,
        "Maximum number of documents trained together. Empty: as many as fit in memory and still gain speed.",
        ge=1,
        le=MOST_TOGETHER,
    )

    immaterial: ClassVar[frozenset[str]] = frozenset({"documents"})
    added: ClassVar[frozenset[str]] = frozenset({"start"})
