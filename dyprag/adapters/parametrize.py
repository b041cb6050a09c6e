"""Stage 1, second half: documents' augmentations become their LoRA adapters, p_i = F(d_i) (§3.1), many at once."""

import logging
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import psutil
import torch
from torch import Tensor

from dyprag.adapters.forward import hidden_states, pack, token_losses
from dyprag.adapters.health import SMALLER, fault
from dyprag.adapters.lora import Adapters, initial_adapters, stack
from dyprag.adapters.samples import Sample
from dyprag.config import MOST_TOGETHER, LoraSettings, ParametrizeSettings
from dyprag.errors import is_out_of_memory
from dyprag.model.base import BaseModel
from dyprag.runtime import progress

logger = logging.getLogger("dyprag.parametrize")

CPU_TOKENS = 512  # tokens of one pass on a CPU: more are not quicker
CPU_TOGETHER = 4  # documents trained together on a CPU: their short steps fill a pass
MOST_PADDING = 0.2  # share of a group's tokens that may be padding


@dataclass(frozen=True)
class Parametrized:
    """A trained adapter ([1, layers, …], on the CPU, in the format set for it).

    losses: of every step. tokens: trained on. seconds: the document's share of its group's. after: the loss on the
    first step's samples after the last update. learning_rate: the one that it was trained with in the end. fault: what
    is wrong with the training at all rates that were tried; empty where it went well.
    """

    adapter: Adapters
    losses: list[float]
    tokens: int
    seconds: float
    after: float
    learning_rate: float
    fault: str = ""
    trainings: int = 1

    @property
    def diverged(self) -> bool:
        """Whether a loss or a weight is NaN or infinite."""
        return not _finite(self.adapter, [*self.losses, self.after])


def parametrize(
    base: BaseModel,
    documents: Sequence[Sequence[Sample]],
    lora: LoraSettings,
    settings: ParametrizeSettings,
) -> Iterator[tuple[int, Parametrized | Exception]]:
    """Train the adapters of several documents with AdamW, the base model frozen.

    Each document has its own matrices, loss and optimizer state, so it ends as if it were trained alone; one whose
    samples run out is left as it is. One forward and backward pass serves a step of as many documents as there is room
    for. If memory runs out, their number is halved. A document whose training did not go well (see `health`) is trained
    again with smaller learning rates; if none goes well, the result is the one with the least loss.

    Args:
        documents: each one's samples, from `document_samples`.

    Yields:
        (index, result) of each document as soon as its group is done: what was made of it, or the error if even alone
        it did not fit the memory.
    """
    schedules = [schedule(samples, settings) for samples in documents]
    most = CPU_TOGETHER if base.device.type == "cpu" else MOST_TOGETHER
    with base.lock:
        room = _Room(sys.maxsize if settings.documents else token_budget(base))
    for group in groups(schedules, settings.documents or most):
        tried: dict[int, list[Parametrized]] = {}
        left = list(group)
        for part in (1.0, *SMALLER):
            slower = settings.model_copy(update={"learning_rate": part * settings.learning_rate})
            steps = max(len(schedules[d]) for d in left)
            with progress.part(len(left), steps), base.lock:
                made = _Group(base, [schedules[d] for d in left], lora, slower, room).train()
            ended = dict(zip(left, made, strict=True))
            left = []
            for document, result in ended.items():
                if isinstance(result, Parametrized):
                    tried.setdefault(document, []).append(result)
                    if result.fault:
                        left.append(document)
                        continue
                    result = replace(result, trainings=len(tried[document]))
                yield document, result
            if not left:
                break
        yield from ((document, _best(tried[document])) for document in left)


def _best(tried: Sequence[Parametrized]) -> Parametrized:
    """Of trainings that all went wrong, the one with the least loss in the end."""
    best = min(tried, key=lambda one: math.inf if one.diverged else one.after)
    rates = ", ".join(f"{one.learning_rate:.2g}" for one in tried)
    return replace(best, fault=f"{best.fault}; learning rates tried: {rates}", trainings=len(tried))


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


def groups(schedules: Sequence[Sequence[Sequence[Sample]]], most: int) -> list[list[int]]:
    """Which documents are trained together, by index: those of like length and number of steps, at most so many."""
    sizes = [[_size(step) for step in steps] for steps in schedules]
    order = sorted(range(len(sizes)), key=lambda d: (len(sizes[d]), sum(rows * length for rows, length in sizes[d])))
    made: list[list[int]] = []
    for index in order:
        if made and len(made[-1]) < most and _little_padding([sizes[d] for d in (*made[-1], index)]):
            made[-1].append(index)
        else:
            made.append([index])
    return made


Size = tuple[int, int]  # of a step: samples, and tokens of the longest


def _size(step: Sequence[Sample]) -> Size:
    return len(step), max(len(sample.ids) for sample in step)


def _tokens(sizes: Sequence[Size]) -> int:
    """Tokens of steps taken together, padding included."""
    return sum(rows for rows, _ in sizes) * max(length for _, length in sizes)


def _little_padding(documents: Sequence[Sequence[Size]]) -> bool:
    alone = sum(_tokens([size]) for document in documents for size in document)
    steps = range(max(map(len, documents)))
    together = sum(_tokens([document[n] for document in documents if n < len(document)]) for n in steps)
    return together * (1 - MOST_PADDING) <= alone


def token_budget(base: BaseModel) -> int:
    """Tokens of one pass that fit into half of the free memory, and on a CPU no more than make it quicker."""
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


@dataclass
class _Room:
    """Tokens of one pass, padding included; less when memory has run out."""

    tokens: int


class _Group:
    """Documents that are trained together, each with its adapter, its losses so far, or the error that ended it."""

    def __init__(
        self, base: BaseModel, schedules: Sequence[list[list[Sample]]], lora: LoraSettings,
        settings: ParametrizeSettings, room: _Room,
    ) -> None:  # fmt: skip
        self.base, self.schedules, self.settings, self.room = base, schedules, settings, room
        self.dtype = getattr(torch, lora.dtype)
        start = initial_adapters(base, lora.rank, lora.alpha, lora.seed, len(schedules))
        self.adapters = [start.select([document]) for document in range(len(schedules))]
        self.parameters = [adapter.require_gradients() for adapter in self.adapters]
        self.curves: list[list[Tensor]] = [[] for _ in schedules]
        self.failed: dict[int, Exception] = {}

    def train(self) -> list[Parametrized | Exception]:
        """All steps of all documents; gives what became of each."""
        began = perf_counter()
        optimizer = torch.optim.AdamW(
            [parameter for one in self.parameters for parameter in one], lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay, fused=True,
        )  # fmt: skip
        for number in range(max(map(len, self.schedules))):
            optimizer.zero_grad(set_to_none=True)  # without a gradient, AdamW leaves a document as it is
            waiting = [d for d, steps in enumerate(self.schedules) if number < len(steps) and d not in self.failed]
            while waiting:
                waiting = waiting[self._differentiate(number, waiting) :]
            optimizer.step()
            progress.advance()
        after = self._after()
        # one wait for the device, not one a step
        losses = [torch.stack(curve).tolist() if curve else [] for curve in self.curves]
        made = [adapter.detach().to("cpu", self.dtype) for adapter in self.adapters]
        tokens = [sum(len(sample.ids) for step in steps for sample in step) for steps in self.schedules]
        seconds = (perf_counter() - began) / sum(tokens)
        rate, epochs = self.settings.learning_rate, self.settings.epochs
        return [
            self.failed.get(d)
            or Parametrized(
                made[d], losses[d], n, seconds * n, after[d], rate,
                "the loss became NaN or infinite" if not _finite(made[d], [*losses[d], after[d]])
                else fault(losses[d], epochs, after[d]),
            )
            for d, n in enumerate(tokens)
        ]  # fmt: skip

    def _after(self) -> list[float]:
        """The loss of each document on its first step's samples with the trained adapter; NaN where it failed."""
        found = [math.nan] * len(self.schedules)
        waiting = [d for d in range(len(self.schedules)) if d not in self.failed]
        while waiting:
            part = waiting[: self._fitting(0, waiting)]
            batches = [self.schedules[d][0] for d in part]
            with torch.no_grad():
                adapters = stack([self.adapters[d] for d in part])
                losses = document_losses(self.base, adapters, batches, self.settings.loss_on)
            for document, loss in zip(part, losses.each.tolist(), strict=True):
                found[document] = loss
            waiting = waiting[len(part) :]
        return found

    def _fitting(self, number: int, waiting: Sequence[int]) -> int:
        """How many of the documents one pass over this step has room for; at least one."""
        sizes = [_size(self.schedules[d][number]) for d in waiting]
        count = 1
        while count < len(waiting) and _tokens(sizes[: count + 1]) <= self.room.tokens:
            count += 1
        return count

    def _differentiate(self, number: int, waiting: list[int]) -> int:
        """Gradients of a step of as many of the documents as there is room for; gives how many are dealt with."""
        part = waiting[: (count := self._fitting(number, waiting))]
        try:
            losses = document_losses(
                self.base, stack([self.adapters[d] for d in part]), [self.schedules[d][number] for d in part],
                self.settings.loss_on,
            )  # fmt: skip
            losses.total.backward()  # type: ignore[no-untyped-call]
        except Exception as failure:
            if not is_out_of_memory(failure):
                raise
            error = failure.with_traceback(None)  # the frames hold what filled the memory
        else:
            for document, loss in zip(part, losses.each, strict=True):
                self.curves[document].append(loss)
            return count
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()
        for document in part:
            for parameter in self.parameters[document]:
                parameter.grad = None
        if count == 1:
            self.failed[part[0]] = error
            return 1
        self.room.tokens = _tokens([_size(self.schedules[d][number]) for d in part[: count // 2]])
        logger.warning("The memory did not suffice for %d documents at once; going on with %d.", count, count // 2)
        return 0


def _finite(adapter: Adapters, losses: Sequence[float]) -> bool:
    return all(map(math.isfinite, losses)) and all(bool(x.isfinite().all()) for x in adapter.tensors().values())


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
