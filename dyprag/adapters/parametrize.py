"""Stage 1b: train the LoRA adapters of documents on their augmentations, p_i = F(d_i) (§3.1), in groups."""

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

from dyprag.adapters.forward import hidden_states, pack
from dyprag.adapters.health import SMALLER, fault
from dyprag.adapters.lora import Adapters, initial_adapters, stack
from dyprag.adapters.losses import Size, document_losses, step_size
from dyprag.adapters.samples import Sample
from dyprag.config import MOST_TOGETHER, LoraSettings, ParametrizeSettings
from dyprag.errors import is_out_of_memory
from dyprag.model.base import BaseModel
from dyprag.runtime import progress

logger = logging.getLogger("dyprag.parametrize")

CPU_TOKENS = 512  # tokens per pass on a CPU; more are not faster
CPU_TOGETHER = 4  # documents trained together on a CPU; their short steps fill a pass
MOST_PADDING = 0.2  # share of a group's tokens that may be padding


@dataclass(frozen=True)
class Parametrized:
    """The result of training one document's adapter.

    adapter: [1, layers, …], on the CPU, in the configured dtype.
    losses: the loss of every step.
    tokens: number of tokens trained on.
    seconds: the document's share of its group's time.
    after: the loss on the first step's samples after the last update.
    learning_rate: the rate of the training that is returned.
    fault: what is wrong with the training at every rate tried; empty if it went well.
    trainings: number of trainings, one per learning rate tried.
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
    starts: Sequence[Adapters] = (),
    first_layer: int | None = None,
) -> Iterator[tuple[int, Parametrized | Exception]]:
    """Train the adapters of several documents with AdamW on a frozen base model.

    Each document has its own matrices, loss and optimizer state, so the result is the same as if it were trained alone.
    One forward and backward pass covers a step of as many documents as fit into memory; if memory runs out, their
    number is halved. A document whose training failed (see `health`) is trained again at smaller learning rates; if
    all fail, the result with the lowest loss is returned.

    Args:
        documents: the samples of each document, from `document_samples`.
        starts: the adapter that each document's training starts from, [1, layers, …]; empty: one that all share, of
            the rank and scale of `lora`.
        first_layer: the first layer that is trained; None: `lora.first_layer`.

    Yields:
        (index, result) of each document when its group is finished. The result is the error if the document did not fit
        into memory even alone.
    """
    schedules = [schedule(samples, settings) for samples in documents]
    first_layer = lora.first_layer if first_layer is None else first_layer
    group_size = CPU_TOGETHER if base.device.type == "cpu" else MOST_TOGETHER
    with base.lock:
        memory = _TokenLimit(sys.maxsize if settings.documents else token_budget(base))
    for group in groups(schedules, settings.documents or group_size):
        results_by_document: dict[int, list[Parametrized]] = {}
        remaining = list(group)
        for factor in (1.0, *SMALLER):
            attempt = settings.model_copy(update={"learning_rate": factor * settings.learning_rate})
            steps = max(len(schedules[d]) for d in remaining)
            with progress.part(len(remaining), steps), base.lock:
                initial = [starts[d] for d in remaining] if starts else shared_start(base, lora, len(remaining))
                trained = _Group(
                    base, [schedules[d] for d in remaining], initial, first_layer, lora.dtype, attempt, memory
                )
                results = trained.train()
            result_by_document = dict(zip(remaining, results, strict=True))
            remaining = []
            for document, result in result_by_document.items():
                if isinstance(result, Parametrized):
                    results_by_document.setdefault(document, []).append(result)
                    if result.fault:
                        remaining.append(document)
                        continue
                    result = replace(result, trainings=len(results_by_document[document]))
                yield document, result
            if not remaining:
                break
        yield from ((document, _best(results_by_document[document])) for document in remaining)


def shared_start(base: BaseModel, lora: LoraSettings, count: int) -> list[Adapters]:
    """Return a copy for each document of the initial adapter that all documents share."""
    initial = initial_adapters(base, lora.rank, lora.alpha, lora.seed, count)
    return [initial.select([document]) for document in range(count)]


def _best(attempts: Sequence[Parametrized]) -> Parametrized:
    """Return the attempt with the lowest final loss, of attempts that all failed."""
    best = min(attempts, key=lambda attempt: math.inf if attempt.diverged else attempt.after)
    rates = ", ".join(f"{attempt.learning_rate:.2g}" for attempt in attempts)
    return replace(best, fault=f"{best.fault}; learning rates tried: {rates}", trainings=len(attempts))


def schedule(samples: Sequence[Sample], settings: ParametrizeSettings) -> list[list[Sample]]:
    """Return the steps of a document's training: batches of samples of similar length, reshuffled every epoch if set.

    The order depends only on the number of steps and their rank by length, so documents with the same number of
    samples have steps of similar length at the same time.
    """
    generator = random.Random(settings.seed)
    size = settings.batch_size
    ordered = sorted(samples, key=lambda sample: len(sample.ids)) if settings.shuffle or size > 1 else list(samples)
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    steps = []
    for _ in range(settings.epochs):
        if settings.shuffle:
            generator.shuffle(batches)
        steps += batches
    return steps


def groups(schedules: Sequence[Sequence[Sequence[Sample]]], limit: int) -> list[list[int]]:
    """Group documents of similar length and number of steps for training, by index, at most `limit` per group."""
    sizes = [[step_size(step) for step in steps] for steps in schedules]
    order = sorted(range(len(sizes)), key=lambda d: (len(sizes[d]), sum(rows * length for rows, length in sizes[d])))
    grouped: list[list[int]] = []
    for index in order:
        if grouped and len(grouped[-1]) < limit and _pads_little([sizes[d] for d in (*grouped[-1], index)]):
            grouped[-1].append(index)
        else:
            grouped.append([index])
    return grouped


def _tokens(sizes: Sequence[Size]) -> int:
    """Count the tokens of steps in one batch, padding included."""
    return sum(rows for rows, _ in sizes) * max(length for _, length in sizes)


def _pads_little(documents: Sequence[Sequence[Size]]) -> bool:
    separate = sum(_tokens([size]) for document in documents for size in document)
    steps = range(max(map(len, documents)))
    together = sum(_tokens([document[n] for document in documents if n < len(document)]) for n in steps)
    return together * (1 - MOST_PADDING) <= separate


def token_budget(base: BaseModel) -> int:
    """Return how many tokens of a pass fit into half of the free memory; on a CPU, at most `CPU_TOKENS`."""
    free = psutil.virtual_memory().available
    if base.device.type == "cuda":
        free = torch.cuda.mem_get_info(base.device)[0]
        free += torch.cuda.memory_reserved(base.device) - torch.cuda.memory_allocated(base.device)
    fitting = free // 2 // _bytes_per_token(base)
    return min(fitting, CPU_TOKENS) if base.device.type == "cpu" else fitting


_token_bytes: dict[tuple[str, str, str], int] = {}


def _bytes_per_token(base: BaseModel) -> int:
    """Return the bytes per token that a forward pass saves for the backward pass, measured once per model."""
    cache_key = (base.fingerprint, str(base.dtype), str(base.device))
    if cache_key not in _token_bytes:
        weights = {parameter.untyped_storage().data_ptr() for parameter in base.model.parameters()}
        saved: dict[int, int] = {}

        def record(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        adapters = initial_adapters(base, 1, 1, 0)
        adapters.require_gradients()
        tokens = min(base.max_tokens, 128)
        with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            states = hidden_states(base, pack(base, [Sample([0] * tokens, 1)]), adapters)
        del states
        _token_bytes[cache_key] = max(1, sum(saved.values()) // tokens)
    return _token_bytes[cache_key]


@dataclass
class _TokenLimit:
    """The token limit of a pass, padding included; lowered when memory runs out."""

    tokens: int


class _Group:
    """Documents that are trained together, each with its adapter, its losses, or the error that ended its training."""

    def __init__(
        self, base: BaseModel, schedules: Sequence[list[list[Sample]]], initial: Sequence[Adapters], first_layer: int,
        dtype: str, settings: ParametrizeSettings, limit: _TokenLimit,
    ) -> None:  # fmt: skip
        self.base, self.schedules, self.settings, self.limit = base, schedules, settings, limit
        self.first_layer, self.dtype = first_layer, getattr(torch, dtype)
        self.adapters = [adapter.to(base.device, torch.float32).detach().copy() for adapter in initial]
        self.parameters = [adapter.require_gradients() for adapter in self.adapters]
        self.curves: list[list[Tensor]] = [[] for _ in schedules]
        self.failed: dict[int, Exception] = {}

    def train(self) -> list[Parametrized | Exception]:
        """Run all steps; returns each document's result or error."""
        start = perf_counter()
        optimizer = torch.optim.AdamW(
            [parameter for matrices in self.parameters for parameter in matrices], lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay, fused=True,
        )  # fmt: skip
        for step in range(max(map(len, self.schedules))):
            optimizer.zero_grad(set_to_none=True)  # AdamW skips a document without a gradient
            pending = [d for d, steps in enumerate(self.schedules) if step < len(steps) and d not in self.failed]
            while pending:
                pending = pending[self._differentiate(step, pending) :]
            optimizer.step()
            progress.advance()
        after = self._after()
        # synchronise with the device once, not every step
        losses = [torch.stack(curve).tolist() if curve else [] for curve in self.curves]
        adapters = [adapter.detach().to("cpu", self.dtype) for adapter in self.adapters]
        tokens = [sum(len(sample.ids) for step in steps for sample in step) for steps in self.schedules]
        seconds = (perf_counter() - start) / sum(tokens)
        rate, epochs = self.settings.learning_rate, self.settings.epochs
        return [
            self.failed.get(d)
            or Parametrized(
                adapters[d], losses[d], n, seconds * n, after[d], rate,
                "the loss became NaN or infinite" if not _finite(adapters[d], [*losses[d], after[d]])
                else fault(losses[d], epochs, after[d]),
            )
            for d, n in enumerate(tokens)
        ]  # fmt: skip

    def _after(self) -> list[float]:
        """Compute each document's loss on its first step's samples with the trained adapter; NaN if it failed."""
        final_losses = [math.nan] * len(self.schedules)
        pending = [d for d in range(len(self.schedules)) if d not in self.failed]
        while pending:
            batch = pending[: self._fitting(0, pending)]
            samples = [self.schedules[d][0] for d in batch]
            with torch.no_grad():
                adapters = stack([self.adapters[d] for d in batch])
                losses = document_losses(self.base, adapters, samples, self.settings.loss_on, self.first_layer)
            for document, loss in zip(batch, losses.each.tolist(), strict=True):
                final_losses[document] = loss
            pending = pending[len(batch) :]
        return final_losses

    def _fitting(self, step: int, pending: Sequence[int]) -> int:
        """Return how many of the documents fit into one pass of this step; at least one."""
        sizes = [step_size(self.schedules[d][step]) for d in pending]
        count = 1
        while count < len(pending) and _tokens(sizes[: count + 1]) <= self.limit.tokens:
            count += 1
        return count

    def _differentiate(self, step: int, pending: list[int]) -> int:
        """Compute a step's gradients for as many documents as fit into memory; returns how many were processed."""
        batch = pending[: (count := self._fitting(step, pending))]
        try:
            losses = document_losses(
                self.base, stack([self.adapters[d] for d in batch]), [self.schedules[d][step] for d in batch],
                self.settings.loss_on, self.first_layer,
            )  # fmt: skip
            losses.total.backward()  # type: ignore[no-untyped-call]
        except Exception as failure:
            if not is_out_of_memory(failure):
                raise
            error = failure.with_traceback(None)  # its frames keep the tensors alive that filled the memory
        else:
            for document, loss in zip(batch, losses.each, strict=True):
                self.curves[document].append(loss)
            return count
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()
        for document in batch:
            for parameter in self.parameters[document]:
                parameter.grad = None
        if count == 1:
            self.failed[batch[0]] = error
            return 1
        self.limit.tokens = _tokens([step_size(self.schedules[d][step]) for d in batch[: count // 2]])
        logger.warning("Out of memory with %d documents per pass; continuing with %d.", count, count // 2)
        return 0


def _finite(adapter: Adapters, losses: Sequence[float]) -> bool:
    return all(map(math.isfinite, losses)) and all(bool(x.isfinite().all()) for x in adapter.tensors().values())
