"""Stage 1, second half: a document's augmentation becomes its LoRA adapter p_i = F(d_i) (§3.1)."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from dyprag.config import LoraSettings, ParametrizeSettings
from dyprag.documents import Augmentation, Document
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.generation import pad
from dyprag.lora import Adapters, initial_adapters, inject
from dyprag.models import BaseModel
from dyprag.prompts import training_sample


@dataclass(frozen=True)
class Sample:
    """One training sample: token ids, and how many of them come before the answer."""

    ids: list[int]
    prompt_length: int


@dataclass(frozen=True)
class Parametrized:
    """A trained adapter ([1, layers, …], float32), the loss of every step, and the number of tokens trained on."""

    adapter: Adapters
    losses: list[float]
    tokens: int


def document_samples(
    base: BaseModel, document: Document, augmentation: Augmentation, answer: str, layout: str
) -> list[Sample]:
    """The training samples [d_i^k ⊕ q_i^j ⊕ a_i^j] of one document.

    Args:
        answer: "short" or "full": which answer is the target (the full one where answers use chain of thought).
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
            f"document {document.id!r}", "its augmentation has no question-answer pair", "Augment it again."
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
            target = pair.full_answer if answer == "full" else pair.answer
            samples.append(Sample(*training_sample(base.tokenizer, pair.question, target, passage)))
    longest = max(len(sample.ids) for sample in samples)
    if longest > base.max_tokens:
        raise DocumentTooLong(
            f"document {document.id!r}",
            f"a training sample of it has {longest:,} tokens and the model's context {base.max_tokens:,}",
            "Split the document into shorter passages.",
        )
    return samples


def parametrize(
    base: BaseModel,
    samples: Sequence[Sample],
    lora: LoraSettings,
    settings: ParametrizeSettings,
    on_step: Callable[[int, float], None] | None = None,
) -> Parametrized:
    """Train one document's adapter with AdamW on its samples, the base model frozen.

    Args:
        samples: from `document_samples`.
        on_step: called with (step, loss) after every optimizer step.

    Returns:
        The adapter, its learning curve and the tokens seen.
    """
    with base.lock:
        adapter = initial_adapters(base, lora.rank, lora.alpha, lora.seed)
        parameters = list(adapter.tensors().values())
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        order = random.Random(settings.seed)
        losses: list[float] = []
        tokens = 0
        for _ in range(settings.epochs):
            for batch in _batches(samples, settings, order):
                loss = sample_loss(base, adapter, batch, settings.loss_on)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                tokens += sum(len(sample.ids) for sample in batch)
                if on_step:
                    on_step(len(losses), losses[-1])
    trained = Adapters(
        {p: t.detach() for p, t in adapter.a.items()}, {p: t.detach() for p, t in adapter.b.items()}, adapter.scale
    )
    return Parametrized(trained, losses, tokens)


def _batches(samples: Sequence[Sample], settings: ParametrizeSettings, order: random.Random) -> list[list[Sample]]:
    """The steps of one epoch: samples of like length together, so that little is padded, and the steps shuffled."""
    alike = sorted(samples, key=lambda sample: len(sample.ids)) if settings.batch_size > 1 else list(samples)
    size = settings.batch_size
    batches = [alike[start : start + size] for start in range(0, len(alike), size)]
    if settings.shuffle:
        order.shuffle(batches)
    return batches


def sample_loss(base: BaseModel, adapters: Adapters, batch: Sequence[Sample], loss_on: str) -> Tensor:
    """Mean next-token cross-entropy of a batch under adapters: over all tokens, or over the answer only."""
    ids, mask = pad([sample.ids for sample in batch], base, side="right")
    targets = ids.masked_fill(mask == 0, -100)
    if loss_on == "answer":
        for row, sample in enumerate(batch):
            targets[row, : sample.prompt_length] = -100
    with inject(base, adapters):
        logits = base.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets[:, 1:].flatten(), ignore_index=-100
    )
