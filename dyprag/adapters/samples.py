"""Training samples: a document's augmentation as token ids (§3.1), used by both training stages."""

from dataclasses import dataclass
from math import ceil

from dyprag.corpora.documents import Augmentation, Document
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.model.base import BaseModel
from dyprag.model.prompts import reasoned_sample, training_sample


@dataclass(frozen=True)
class Sample:
    """A training sample: its token ids, and how many of them belong to the prompt."""

    ids: list[int]
    prompt_length: int


def document_samples(
    base: BaseModel, document: Document, augmentation: Augmentation, answer: str, layout: str
) -> list[Sample]:
    """Build the training samples [d_i^k ⊕ q_i^j ⊕ a_i^j] of a document.

    Args:
        answer: the target: "short" for the short answer, "full" for the full sentence followed by the short answer, as
            in chain-of-thought prompts.
        layout: which passages precede a question. "official": the document and each rewrite for the first ⌈m/2⌉
            pairs, none for the others. "both": every pair once with a passage (the document and its rewrites in turn)
            and once without. "closed-book": every pair without a passage, and each text once with one of the pairs.

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
    for index, pair in enumerate(pairs):
        passages: list[str | None]
        if layout == "both":
            passages = [texts[index % len(texts)], None]
        elif layout == "closed-book":
            passages = [*texts[index :: len(pairs)], None]
        else:
            passages = list(texts) if index < ceil(len(pairs) / 2) else [None]
        for passage in passages:
            if answer == "full":
                tokens_and_prompt = reasoned_sample(
                    base.tokenizer, pair.question, pair.full_answer, pair.answer, passage
                )
            else:
                tokens_and_prompt = training_sample(base.tokenizer, pair.question, pair.answer, passage)
            samples.append(Sample(*tokens_and_prompt))
    longest = max(len(sample.ids) for sample in samples)
    if longest > base.max_tokens:
        raise DocumentTooLong(
            f"document {document.id!r}",
            f"one of its training samples has {longest:,} tokens, but the model's context is {base.max_tokens:,}",
            "Split the document into shorter passages.",
        )
    return samples
