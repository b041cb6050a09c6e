"""Settings of the training of a question writer."""

from typing import ClassVar

from dyprag.config.base import Section, basic, expert


class WriterSettings(Section):
    """A question writer: a LoRA of the base model that asks questions about the sentences of a passage."""

    people: str | None = basic(
        None, "Folder of files NAME.jsonl.gz with passages and questions written by people to learn from."
    )
    most_words: int = expert(130, "Maximum number of words of a passage: short ones train faster.", ge=20)
    least_questions: int = expert(2, "Minimum number of questions about a passage: they share its computation.", ge=1)
    steps: int = basic(220, "Number of optimizer steps.", ge=1)
    documents: int = expert(4, "Number of passages in a step.", ge=1)
    questions: int = expert(6, "Maximum number of questions about each passage in a step.", ge=1)
    first_layer: int = expert(10, "First layer that is adapted. The layers below need no backward pass.", ge=0)
    rank: int = basic(12, "LoRA's rank.", ge=1)
    alpha: float = expert(24.0, "LoRA's alpha.", gt=0)
    learning_rate: float = basic(1e-3, "AdamW's learning rate after the warm-up.", gt=0)
    warmup: int = expert(20, "Learning-rate warm-up steps.", ge=0)
    decay: float = expert(0.7, "Share of the steps, at the end, over which the learning rate decays to 0.", ge=0, le=1)
    weight_decay: float = expert(0.01, "AdamW's weight decay.", ge=0)
    clip: float = expert(1.0, "Maximum gradient norm.", gt=0)
    seed: int = expert(0, "Seed of the initial weights and of the order of the passages.")
    output: str | None = basic(None, "Folder to write the writer to, in bfloat16, with its card. Empty: none.")

    # the key contains the lessons themselves, not the folder that they are read from
    immaterial: ClassVar[frozenset[str]] = frozenset({"people", "output"})
