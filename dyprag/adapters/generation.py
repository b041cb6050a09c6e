"""Batched generation and document embeddings with the base model, with another adapter for each row where wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, RepetitionPenaltyLogitsProcessor
from transformers.cache_utils import DynamicLayer

from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.errors import is_out_of_memory
from dyprag.model.base import BaseModel, neutralise
from dyprag.model.thinking import answer, decode
from dyprag.runtime import progress


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int = 50
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """One answer: its text, its length in tokens, its share of the batch's wall time in seconds, the seconds from the
    batch's beginning to its first token, its token ids with the probability that the model gave to each, and whether
    it is cut: it had not ended when the limit of tokens was reached."""

    text: str
    tokens: int
    seconds: float
    first_token: float
    ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    cut: bool = False


def generate(
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    adapters: Callable[[list[int]], Adapters | None] | None = None,
    batch_size: int = 16,
    stop_at_newline: bool = True,
    stop: Callable[[Sequence[int]], bool] | None = None,
) -> list[Generation]:
    """Answer prompts in batches of similar length.

    Args:
        base: the model; its lock is held for each batch.
        prompts: token ids, one list a prompt.
        sampling: greedy or sampled, and the limit of new tokens.
        adapters: called with the indices of the prompts in a batch, gives their adapters ([rows, layers, …], or
            [1, layers, …] for one that all share), or None for none.
        batch_size: prompts in a batch. Each prompt counts as a step of the work under way (dyprag.runtime.progress).
        stop_at_newline: an answer ends at its first line break too, not only at the end token.
        stop: asked with a row's new ids after each token; where it says so, the row ends.

    Returns:
        One Generation a prompt, in the order of `prompts`.
    """
    results: list[Generation | None] = [None] * len(prompts)
    ends = _Ends({*base.end_ids, *(base.newline_ids if stop_at_newline else ())}, stop)
    for batch in alike([len(prompt) for prompt in prompts], batch_size):
        with base.lock:
            injected = adapters(batch) if adapters else None
            began = perf_counter()
            written = _generate_batch(base, [prompts[i] for i in batch], sampling, injected, ends)
            seconds = (perf_counter() - began) / len(batch)
        for row, index in enumerate(batch):
            ids = written.rows[row]
            text = answer(decode(base.tokenizer, ids))
            if stop_at_newline:
                text = text.lstrip("\n").split("\n", 1)[0]
            first = written.first - began
            chances = tuple(written.probabilities[row])
            results[index] = Generation(text.strip(), len(ids), seconds, first, tuple(ids), chances, row in written.cut)
    return [result for result in results if result is not None]


LONGEST_PERIOD = 24  # tokens of a phrase that is said again and again
TIMES = 3


def repeats(ids: Sequence[int]) -> bool:
    """Whether an answer has begun to say one phrase over and over: its last tokens, at least twelve, are the
    same phrase three times in a row or more. Greedy decoding does not leave such a loop, so nothing new would come."""
    size = len(ids)
    for period in range(1, min(LONGEST_PERIOD, size // TIMES) + 1):
        span = max(TIMES, -(-12 // period)) * period  # a short phrase more often: "1, 1, 1" may be an answer
        if span <= size and all(ids[at] == ids[at - period] for at in range(size - span + period, size)):
            return True
    return False


MOST_PADDING = 0.25  # share of a batch's tokens that may be padding
LITTLE_PADDING = 512  # tokens of it that cost less than another batch would


def alike(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of like length, the shortest first: a long prompt would make all those beside it as long."""
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        area = lengths[index] * (len(batches[-1]) + 1) if batches else 0
        padding = area - tokens - lengths[index]
        if batches and len(batches[-1]) < batch_size and padding <= max(LITTLE_PADDING, MOST_PADDING * area):
            batches[-1].append(index)
            tokens += lengths[index]
        else:
            batches.append([index])
            tokens = lengths[index]
    return batches


@dataclass(frozen=True)
class _Ends:
    """What ends a row: one of these tokens, which is no part of it, or a function of its ids."""

    tokens: set[int]
    stop: Callable[[Sequence[int]], bool] | None

    def after(self, ids: Sequence[int]) -> bool:
        return self.stop is not None and self.stop(ids)


@dataclass
class _Written:
    """New tokens of each row and their probabilities, the rows that the limit cut, and the clock when the first were
    there."""

    rows: list[list[int]]
    probabilities: list[list[float]]
    cut: set[int] = field(default_factory=set)
    first: float = 0.0


@torch.inference_mode()
def _generate_batch(
    base: BaseModel, prompts: list[Sequence[int]], sampling: Sampling, adapters: Adapters | None, ends: _Ends
) -> _Written:
    """The new tokens of each prompt, without the one that ended it. Rows that have ended are computed no further."""
    # Keys and values of a common prefix (few-shot examples) are computed once, unless the rows' adapters differ:
    # then they differ too, from the second layer on.
    apart = adapters is not None and adapters.docs > 1
    choose = _chooser(base, sampling, len(prompts))
    written = _Written([[] for _ in prompts], [[] for _ in prompts])
    steps, share = float(len(prompts)), len(prompts) / sampling.max_new_tokens  # one a prompt; of them, one a token
    live = torch.arange(len(prompts), device=base.device)
    running = [True] * len(prompts)
    state: _Decoding | None = None
    while any(running):
        with inject(base, adapters.select(live.tolist()) if adapters is not None and apart else adapters):
            state = state or _Decoding(base, prompts, 0 if apart else common_prefix(prompts))
            while any(running) and 4 * sum(running[index] for index in live.tolist()) > 3 * len(live):
                tokens = choose(state.logits, state.tokens, live)
                chances = (state.logits.gather(1, tokens[:, None])[:, 0] - state.logits.logsumexp(-1)).exp()
                said, likely = tokens.tolist(), chances.tolist()
                written.first = written.first or perf_counter()  # now they are there, on an accelerator too
                for index, token, chance in zip(live.tolist(), said, likely, strict=True):
                    running[index] = running[index] and token not in ends.tokens
                    if running[index]:
                        ids = written.rows[index]
                        ids.append(token)
                        written.probabilities[index].append(chance)
                        running[index] = not ends.after(ids)
                        if running[index] and len(ids) == sampling.max_new_tokens:
                            running[index] = False
                            written.cut.add(index)
                if any(running):
                    state.advance(tokens)
                    progress.advance(share)
                    steps -= share
        kept = torch.tensor(running, device=base.device)[live].nonzero()[:, 0]
        if len(kept):
            state.keep(kept)
        live = live[kept]
    progress.advance(steps)  # most rows end before the limit
    return written


class _Decoding:
    """Rows that are written together: their keys and values, their tokens, and the logits of each one's next."""

    def __init__(self, base: BaseModel, prompts: Sequence[Sequence[int]], shared: int) -> None:
        self._base = base
        ids, mask = pad([prompt[shared:] for prompt in prompts], base, side="left")
        self._cache, self.tokens, self._mask = _prefill(base, prompts[0][:shared], ids, mask)
        for index, layer in enumerate(self._cache.layers):
            if type(layer) is DynamicLayer:
                self._cache.layers[index] = _RoomyLayer(layer)
        self._forward(self.tokens[:, shared:], (self._mask.cumsum(1) - 1).clamp(min=0)[:, shared:])

    def _forward(self, ids: Tensor, positions: Tensor) -> None:
        self.logits = next_logits(self._base, ids, self._mask, positions, self._cache)

    def advance(self, tokens: Tensor) -> None:
        """Put one more token behind each row."""
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._forward(tokens[:, None], self._mask.sum(1, keepdim=True) - 1)

    def keep(self, places: Tensor) -> None:
        """Go on with some of the rows only."""
        self._cache.batch_select_indices(places)
        self.tokens, self._mask, self.logits = self.tokens[places], self._mask[places], self.logits[places]


def next_logits(base: BaseModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Logits of the token behind each row, [rows, vocabulary], float32; the rows' keys and values go into the cache."""
    states = base.model.get_decoder()(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    # of two dimensions and contiguous: given a slice of three, torch copies the vocabulary's matrix for each row
    return base.head(states[:, -1].contiguous()).float()


class _RoomyLayer(DynamicLayer):
    """Keys and values of one layer with room for more, where a DynamicLayer copies all of them at every token."""

    ROOM = 32

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        if layer.keys is not None and layer.values is not None:
            self.lazy_initialization(layer.keys, layer.values)
            self.update(layer.keys, layer.values)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put the states behind those that are there."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = keys = self._behind("_key_room", self.keys, key_states)
        self.values = values = self._behind("_value_room", self.values, value_states)
        return keys, values

    def _behind(self, name: str, past: Tensor | None, states: Tensor) -> Tensor:
        before = past.shape[-2] if past is not None and past.numel() else 0
        after = before + states.shape[-2]
        room: Tensor | None = getattr(self, name, None)
        if room is None or room.shape[0] != states.shape[0] or room.shape[-2] < after:
            room = states.new_empty((*states.shape[:-2], after + self.ROOM, states.shape[-1]))
            if past is not None and before:
                room[..., :before, :] = past
            setattr(self, name, room)
        room[..., before:after, :] = states
        return room[..., :after, :]


def _chooser(base: BaseModel, sampling: Sampling, rows: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A function of logits, the tokens so far, and the rows' numbers that gives each row's next token.

    A row's chances do not hang on which others have ended: there is a draw for each of the first rows at each step.
    """
    penalty = getattr(base.model.generation_config, "repetition_penalty", None) or 1.0
    penalise = RepetitionPenaltyLogitsProcessor(penalty) if penalty != 1.0 else lambda tokens, logits: logits
    draws = torch.Generator().manual_seed(sampling.seed)

    def choose(logits: Tensor, tokens: Tensor, numbers: Tensor) -> Tensor:
        logits = penalise(tokens, logits)
        if sampling.temperature <= 0:
            return logits.argmax(-1)
        values, places = logits.topk(min(sampling.top_k, logits.shape[-1]))
        # the Gumbel trick: the largest of log-probabilities with such noise is a sample
        noise = -torch.empty(rows, values.shape[-1]).exponential_(generator=draws).log().to(logits.device)
        return places.gather(1, (values / sampling.temperature + noise[numbers]).argmax(-1, keepdim=True))[:, 0]

    return choose


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
    cache = DynamicCache(config=base.model.config)
    if not prefix:
        return cache, ids, mask
    row = torch.tensor([list(prefix)], device=base.device)
    base.model.get_decoder()(input_ids=row, past_key_values=cache, use_cache=True)
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
    results: list[float] = []
    for start in range(0, len(prompts), batch_size):
        batch, wanted = prompts[start : start + batch_size], answers[start : start + batch_size]
        with base.lock:
            shared = common_prefix(batch)
            rows = [[*prompt[shared:], *answer] for prompt, answer in zip(batch, wanted, strict=True)]
            cache, ids, mask = _prefill(base, batch[0][:shared], *pad(rows, base, side="right"))
            states = base.model.get_decoder()(
                input_ids=ids[:, shared:], attention_mask=mask, past_key_values=cache, use_cache=bool(shared)
            ).last_hidden_state
            # the vocabulary projection costs as much as all layers: only for what stands before an answer's token
            spans = [(len(prompt) - shared - 1, len(answer)) for prompt, answer in zip(batch, wanted, strict=True)]
            before = torch.cat([states[row, first : first + size] for row, (first, size) in enumerate(spans)])
            logs = base.head(before).float().log_softmax(-1)
            tokens = torch.tensor([token for answer in wanted for token in answer], device=logs.device)
            chosen = logs.gather(1, tokens[:, None])[:, 0].split([size for _, size in spans])
            results.extend(part.mean().item() for part in chosen)
        progress.advance(len(batch))
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
        progress.advance(len(batch))
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
