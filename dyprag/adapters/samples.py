"""Training samples: a document's augmentation as token ids (§3.1), used by both stages of training."""

from dataclasses import dataclass
from math import ceil

from dyprag.corpora.documents import Augmentation, Document
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.model.base import BaseModel
from dyprag.model.prompts import reasoned_sample, training_sample


@dataclass(frozen=True)
class Sample:
    """One training sample: token ids, and how many of them come before the answer."""

    ids: list[int]
    prompt_length: int


def document_samples(
    base: BaseModel, document: Document, augmentation: Augmentation, answer: str, layout: str
) -> list[Sample]:
    """The training samples [d_i^k ⊕ q_i^j ⊕ a_i^j] of one document.

    Args:
        answer: which answer is the target: the "short" one, or the "full" sentence and then the short one, where
            questions are answered by chain of thought.
        layout: "official": for the first ⌈m/2⌉ pairs the passage and each rewrite stand in the prompt, for the others
            nothing does. "both": every pair with a passage (the document and its rewrites in turn), and without.
            "closed-book": every pair without a passage, and each text once in the prompt of one pair.

    Raises:
        DocumentError: the augmentation has no question-answer pair.
        DocumentTooLong: a sample does not fit the context.
    """
    pairs = augmentation.qa_pairs
    if not pairs:
        raise DocumentError(
            f"document {document.id!r}", "its augmentation has no question-answer pairs", "Augment it again."
        )
    texts = [document.passage, *augmentation.rewrites]
    samples = []
    for number, pair in enumerate(pairs):
        passages: list[str | None]
        if layout == "both":
            passages = [texts[number % len(texts)], None]
        elif layout == "closed-book":
            passages = [*texts[number :: len(pairs)], None]
        else:
            passages = list(texts) if number < ceil(len(pairs) / 2) else [None]
        for passage in passages:
            if answer == "full":
                made = reasoned_sample(base.tokenizer, pair.question, pair.full_answer, pair.answer, passage)
            else:
                made = training_sample(base.tokenizer, pair.question, pair.answer, passage)
            samples.append(Sample(*made))
    longest = max(len(sample.ids) for sample in samples)
    if longest > base.max_tokens:
        raise DocumentTooLong(
            f"document {document.id!r}",
            f"a training sample of it has {longest:,} tokens and the model's context {base.max_tokens:,}",
            "Split the document into shorter passages.",
        )
    return samples
