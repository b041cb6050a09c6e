"""Stage 1, second half: documents' augmentations become their LoRA adapters, p_i = F(d_i) (§3.1), many at once."""

import logging
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import psutil
import torch
from torch import Tensor

from dyprag.config import MOST_TOGETHER, LoraSettings, ParametrizeSettings
from dyprag.errors import is_out_of_memory
from dyprag.forward import hidden_states, pack, token_losses
from dyprag.lora import Adapters, initial_adapters, stack
from dyprag.models import BaseModel
from dyprag.samples import Sample

logger = logging.getLogger("dyprag.parametrize")

CPU_TOKENS = 512  # tokens of one step on a CPU: more are not quicker
MOST_PADDING = 0.2  # share of a group's tokens that may be padding


@dataclass(frozen=True)
class Parametrized:
    """A trained adapter ([1, layers, …], on the CPU, in the format set for it), the loss of every step, the number of
    tokens trained on, the document's share of its group's seconds, and whether the training left the numbers."""

    adapter: Adapters
    losses: list[float]
    tokens: int
    seconds: float
    diverged: bool


def parametrize(
    base: BaseModel,
    documents: Sequence[Sequence[Sample]],
    lora: LoraSettings,
    settings: ParametrizeSettings,
) -> Iterator[tuple[int, Parametrized | Exception]]:
    """Train the adapters of several documents with AdamW, the base model frozen.

    One forward and backward pass serves a step of every document of a group. Each has its own matrices, loss and
    optimizer state, so it ends as if it were trained alone; one whose samples run out is left as it is. If memory runs
    out, the group is halved.

    Args:
        documents: each one's samples, from `document_samples`.

    Yields:
        (index, result) of each document as soon as its group is done: what was made of it, or the error if even alone
        it did not fit the memory.
    """
    schedules = [schedule(samples, settings) for samples in documents]
    with base.lock:
        budget = sys.maxsize if settings.documents else token_budget(base)
        waiting = groups(schedules, budget, settings.documents or MOST_TOGETHER)
    while waiting:
        group, *waiting = waiting
        try:
            with base.lock:
                made = _train_group(base, [schedules[d] for d in group], lora, settings)
        except Exception as failure:
            if not is_out_of_memory(failure):
                raise
            error = failure.with_traceback(None)  # the frames hold what filled the memory
        else:
            yield from zip(group, made, strict=True)
            continue
        if base.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(group) == 1:
            yield group[0], error
            continue
        half = len(group) // 2
        logger.warning("The memory did not suffice for %d documents at once; going on with %d.", len(group), half)
        failed = max(_tokens([_sizes(schedules[d]) for d in group]))
        waiting = [half_group for part in (group, *waiting) for half_group in _halved(part, half, failed, schedules)]


def _halved(
    group: list[int], half: int, failed: int, schedules: Sequence[Sequence[Sequence[Sample]]]
) -> list[list[int]]:
    """A group in parts of at most `half` documents, if it has steps of as many tokens as one that failed."""
    if max(_tokens([_sizes(schedules[d]) for d in group])) < failed:
        return [group]
    return [group[start : start + half] for start in range(0, len(group), half)]


def schedule(samples: Sequence[Sample], settings: ParametrizeSettings) -> list[list[Sample]]:
    """The steps of a document's training: batches of samples of like length, shuffled in every epoch if so set.

    The order depends on the number of steps and their rank by length only, so documents with equally many samples
    have steps of like length at the same time.
    """
    order = random.Random(settings.seed)
    size = settings.batch_size
    alike = sorted(samples, key=lambda sample: len(sample.ids)) if settings.shuffle or size > 1 else list(samples)
    batches = [alike[start : start + size] for start in range(0, len(alike), size)]
    steps = []
    for _ in range(settings.epochs):
        if settings.shuffle:
            order.shuffle(batches)
        steps += batches
    return steps


def groups(schedules: Sequence[Sequence[Sequence[Sample]]], budget: int, most: int) -> list[list[int]]:
    """Which documents are trained together, by index: those of like length and number of steps.

    Args:
        budget: tokens, padding included, that a step may have; a document that alone has more is a group of its own.
        most: documents in a group.
    """
    sizes = [_sizes(steps) for steps in schedules]
    order = sorted(range(len(sizes)), key=lambda d: (len(sizes[d]), sum(rows * length for rows, length in sizes[d])))
    made: list[list[int]] = []
    for index in order:
        if made and len(made[-1]) < most and _fits([sizes[d] for d in (*made[-1], index)], budget):
            made[-1].append(index)
        else:
            made.append([index])
    return made


Sizes = list[tuple[int, int]]  # of each step: samples, and tokens of the longest


def _sizes(steps: Sequence[Sequence[Sample]]) -> Sizes:
    return [(len(step), max(len(sample.ids) for sample in step)) for step in steps]


def _tokens(sizes: Sequence[Sizes]) -> list[int]:
    """Tokens of each step of documents trained together, padding included."""
    tokens = []
    for number in range(max(map(len, sizes))):
        present = [document[number] for document in sizes if number < len(document)]
        tokens.append(sum(rows for rows, _ in present) * max(length for _, length in present))
    return tokens


def _fits(sizes: Sequence[Sizes], budget: int) -> bool:
    together, alone = _tokens(sizes), sum(rows * length for document in sizes for rows, length in document)
    return max(together) <= budget and sum(together) * (1 - MOST_PADDING) <= alone


def token_budget(base: BaseModel) -> int:
    """Tokens of one step that fit into half of the free memory, and on a CPU no more than make it quicker."""
    free = psutil.virtual_memory().available
    if base.device.type == "cuda":
        free = torch.cuda.mem_get_info(base.device)[0]
        free += torch.cuda.memory_reserved(base.device) - torch.cuda.memory_allocated(base.device)
    fitting = free // 2 // _bytes_per_token(base)
    return min(fitting, CPU_TOKENS) if base.device.type == "cpu" else fitting


_token_bytes: dict[tuple[str, str, str], int] = {}


def _bytes_per_token(base: BaseModel) -> int:
    """Bytes that a forward pass keeps for the backward pass, measured once on one row."""
    known = (base.fingerprint, str(base.dtype), str(base.device))
    if known not in _token_bytes:
        weights = {parameter.untyped_storage().data_ptr() for parameter in base.model.parameters()}
        kept: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        adapters = initial_adapters(base, 1, 1, 0)
        adapters.require_gradients()
        tokens = min(base.max_tokens, 128)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            states = hidden_states(base, pack(base, [Sample([0] * tokens, 1)]), adapters)
        del states
        _token_bytes[known] = max(1, sum(kept.values()) // tokens)
    return _token_bytes[known]


def _train_group(
    base: BaseModel, schedules: Sequence[list[list[Sample]]], lora: LoraSettings, settings: ParametrizeSettings
) -> list[Parametrized]:
    began = perf_counter()
    adapters = [initial_adapters(base, lora.rank, lora.alpha, lora.seed) for _ in schedules]
    parameters = [tensor for adapter in adapters for tensor in adapter.require_gradients()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    curves: list[list[Tensor]] = [[] for _ in schedules]
    for number in range(max(map(len, schedules))):
        active = [d for d, steps in enumerate(schedules) if number < len(steps)]
        losses = document_losses(
            base, stack([adapters[d] for d in active]), [schedules[d][number] for d in active], settings.loss_on
        )
        optimizer.zero_grad(set_to_none=True)  # without a gradient, AdamW leaves a document as it is
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for document, loss in zip(active, losses.each, strict=True):
            curves[document].append(loss)
    tokens = [sum(len(sample.ids) for step in steps for sample in step) for steps in schedules]
    values = [torch.stack(curve).tolist() for curve in curves]  # one wait for the device, not one a step
    dtype = getattr(torch, lora.dtype)
    made = [adapter.detach().to("cpu", dtype) for adapter in adapters]
    seconds = perf_counter() - began
    return [
        Parametrized(adapter, losses, count, seconds * count / sum(tokens), _diverged(adapter, losses))
        for adapter, losses, count in zip(made, values, tokens, strict=True)
    ]


def _diverged(adapter: Adapters, losses: Sequence[float]) -> bool:
    sound = all(map(math.isfinite, losses)) and all(x.isfinite().all() for x in adapter.tensors().values())
    return not sound


@dataclass(frozen=True)
class DocumentLosses:
    """`total`: the sum of the documents' losses, with a gradient; each: [docs], without."""

    total: Tensor
    each: Tensor


def document_losses(
    base: BaseModel, adapters: Adapters, batches: Sequence[Sequence[Sample]], loss_on: str = "all"
) -> DocumentLosses:
    """For each document the mean next-token cross-entropy of its batch under its own adapter.

    Args:
        adapters: [docs, layers, …].
        batches: each document's samples.
        loss_on: mean over "all" tokens, or over those of the "answer".
    """
    counts = [len(batch) for batch in batches]
    device = base.device
    documents = torch.arange(len(batches), device=device).repeat_interleave(torch.tensor(counts, device=device))
    if len(set(counts)) > 1:  # the injection takes equally many rows a document
        adapters = adapters.select(documents.tolist())
    batch = pack(base, [sample for part in batches for sample in part], loss_on)
    document = documents[batch.rows]
    tokens = torch.bincount(document, minlength=len(batches)).clamp(min=1)  # a sample of one token predicts nothing
    losses = token_losses(base, hidden_states(base, batch, adapters), batch.targets, 1.0 / tokens[document])
    each = torch.zeros(len(batches), device=device).index_add_(0, document, losses.nll.float())
    return DocumentLosses(losses.total, each / tokens)
