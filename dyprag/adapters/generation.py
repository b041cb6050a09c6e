"""Batched generation with the base model, with another adapter for each row where wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

from dyprag.adapters.decoding import Decoding, common_prefix
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.adapters.stopping import Ends
from dyprag.model.base import BaseModel
from dyprag.model.batches import alike
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
    ends = Ends({*base.end_ids, *(base.newline_ids if stop_at_newline else ())}, stop)
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
    base: BaseModel, prompts: list[Sequence[int]], sampling: Sampling, adapters: Adapters | None, ends: Ends
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
    state: Decoding | None = None
    while any(running):
        with inject(base, adapters.select(live.tolist()) if adapters is not None and apart else adapters):
            state = state or Decoding(base, prompts, 0 if apart else common_prefix(prompts))
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
