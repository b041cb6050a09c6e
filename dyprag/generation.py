"""Batched generation and document embeddings with the base model, with another adapter for each row where wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from dyprag.errors import is_out_of_memory
from dyprag.injection import inject
from dyprag.lora import Adapters
from dyprag.models import BaseModel, neutralise


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int = 50
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """One answer: its text, its length in tokens, and its share of the batch's wall time in seconds."""

    text: str
    tokens: int
    seconds: float


def generate(
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    adapters: Callable[[list[int]], Adapters | None] | None = None,
    batch_size: int = 16,
    stop_at_newline: bool = True,
) -> list[Generation]:
    """Answer prompts in batches of similar length.

    Args:
        base: the model; its lock is held for each batch.
        prompts: token ids, one list a prompt.
        sampling: greedy or sampled, and the limit of new tokens.
        adapters: called with the indices of the prompts in a batch, gives their adapters ([rows, layers, …], or
            [1, layers, …] for one that all share), or None for none.
        batch_size: prompts in a batch.
        stop_at_newline: an answer ends at its first line break too, not only at the end token.

    Returns:
        One Generation a prompt, in the order of `prompts`.
    """
    results: list[Generation | None] = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        with base.lock:
            injected = adapters(batch) if adapters else None
            began = perf_counter()
            rows = _generate_batch(base, [prompts[i] for i in batch], sampling, injected, stop_at_newline)
            seconds = (perf_counter() - began) / len(batch)
        for index, ids in zip(batch, rows, strict=True):
            text = base.tokenizer.decode(ids, skip_special_tokens=True)
            if stop_at_newline:
                text = text.lstrip("\n").split("\n", 1)[0]
            results[index] = Generation(text.strip(), len(ids), seconds)
    return [result for result in results if result is not None]


@torch.inference_mode()
def _generate_batch(
    base: BaseModel, prompts: list[Sequence[int]], sampling: Sampling, adapters: Adapters | None, newline: bool
) -> list[list[int]]:
    # Keys and values of a common prefix (few-shot examples) are computed once, unless the rows' adapters differ:
    # then they differ too, from the second layer on.
    shared = common_prefix(prompts) if adapters is None or adapters.docs == 1 else 0
    ids, mask = pad([prompt[shared:] for prompt in prompts], base, side="left")
    stops = [base.tokenizer.eos_token_id, *(base.newline_ids if newline else ())]
    options: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        options = {"do_sample": True, "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": 1.0}
    with inject(base, adapters), torch.random.fork_rng(devices=[base.device] if base.device.type == "cuda" else []):
        torch.manual_seed(sampling.seed)
        if shared:
            options["past_key_values"], ids, mask = _prefill(base, prompts[0][:shared], ids, mask)
        output = base.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=stops,
            pad_token_id=base.tokenizer.pad_token_id,
            **options,
        )
    rows = []
    ends = set(stops)
    for row in output[:, ids.shape[1] :].tolist():
        length = next((position for position, token in enumerate(row) if token in ends), len(row))
        rows.append(row[:length])
    return rows


MIN_SHARED_PREFIX = 32  # below it, a pass of its own costs more than it saves


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all prompts share, leaving each at least one token; 0 where it is not worth it."""
    if len(prompts) < 2:
        return 0
    first, last = min(map(list, prompts)), max(map(list, prompts))  # whatever these two share, all share
    limit = min(len(prompt) for prompt in prompts) - 1
    shared = next((i for i, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), limit)
    return min(shared, limit) if min(shared, limit) >= MIN_SHARED_PREFIX else 0


def _prefill(base: BaseModel, prefix: Sequence[int], ids: Tensor, mask: Tensor) -> tuple[Any, Tensor, Tensor]:
    """Cache of a prefix for every row, and ids and mask with the prefix set before them."""
    from transformers import DynamicCache

    row = torch.tensor([list(prefix)], device=base.device)
    cache = DynamicCache(config=base.model.config)
    base.model(input_ids=row, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(ids.shape[0])
    front = row.expand(ids.shape[0], -1)
    return cache, torch.cat([front, ids], dim=1), torch.cat([torch.ones_like(front), mask], dim=1)


@torch.inference_mode()
def likelihoods(
    base: BaseModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], batch_size: int = 32
) -> list[float]:
    """Mean log-likelihood of each answer's tokens after its prompt; a prefix that the prompts share is computed once.

    Returns:
        One number a prompt, natural logarithm, at most 0.
    """
    results = []
    for start in range(0, len(prompts), batch_size):
        batch, wanted = prompts[start : start + batch_size], answers[start : start + batch_size]
        with base.lock:
            shared = common_prefix(batch)
            rows = [[*prompt[shared:], *answer] for prompt, answer in zip(batch, wanted, strict=True)]
            ids, mask = pad(rows, base, side="right")
            cache = None
            full, full_mask = ids, mask
            if shared:
                cache, full, full_mask = _prefill(base, batch[0][:shared], ids, mask)
            logits = base.model(
                input_ids=full[:, shared:], attention_mask=full_mask, past_key_values=cache, use_cache=bool(shared)
            ).logits
            for row, (prompt, answer) in enumerate(zip(batch, wanted, strict=True)):
                first = len(prompt) - shared
                place = logits[row, first - 1 : first - 1 + len(answer)].float().log_softmax(-1)
                tokens = torch.tensor(list(answer), device=place.device)
                results.append(place.gather(1, tokens[:, None]).mean().item())
    return results


@torch.inference_mode()
def embed(base: BaseModel, texts: Sequence[str], batch_tokens: int | None = None) -> Tensor:
    """Document embeddings s_i (§3.2): the last hidden state, before the vocabulary projection, at the last token.

    Args:
        texts: passages; what exceeds the model's context is cut off.
        batch_tokens: tokens computed together, padding included; like lengths stand side by side. None: 2,048 on a
            CPU, 16,384 elsewhere.

    Returns:
        [docs, hidden], float32, on the CPU.
    """
    most = batch_tokens or (2048 if base.device.type == "cpu" else 16384)
    tokens = [base.tokenizer(neutralise(text, base.tokenizer))["input_ids"][: base.max_tokens] for text in texts]
    embeddings = torch.empty(len(texts), base.hidden)
    order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
    while order:
        longest = len(tokens[order[-1]])
        batch = order[-max(1, most // longest) :]
        try:
            with base.lock:
                embeddings[batch] = _last_states(base, [tokens[index] for index in batch])
        except Exception as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            most = longest * (len(batch) // 2)
            continue
        order = order[: -len(batch)]
    return embeddings


def _last_states(base: BaseModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """The last hidden state at each row's last token, [rows, hidden], float32, on the CPU."""
    ids, _ = pad(rows, base, side="right")  # where causal attention never looks
    states = base.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    last = torch.tensor([len(row) - 1 for row in rows], device=base.device)
    return states[torch.arange(len(rows), device=base.device), last].float().cpu()


def pad(prompts: Sequence[Sequence[int]], base: BaseModel, side: str) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, [rows, tokens] each, padded to the longest row on one side."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), base.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(width - len(prompt), width) if side == "left" else slice(0, len(prompt))
        ids[row, place] = torch.tensor(prompt)
        mask[row, place] = 1
    return ids.to(base.device), mask.to(base.device)
