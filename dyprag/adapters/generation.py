"""Batched generation with the base model, optionally with a different adapter for each row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

from dyprag.adapters.decoding import Decoding
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
    """A generated answer.

    tokens: number of tokens in `ids`.
    seconds: this answer's share of the batch's wall time.
    first_token: seconds from the start of the batch to the first token.
    probabilities: the probability that the model assigned to each of `ids`.
    cut: whether generation stopped at the token limit.
    """

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
    """Generate answers to prompts, in batches of similar length.

    Args:
        base: the model; its lock is held for each batch.
        prompts: token ids of each prompt.
        sampling: decoding settings and the limit on new tokens.
        adapters: returns the adapters for the prompts of a batch, given their indices: [rows, layers, …],
            [1, layers, …] for one shared adapter, or None for none.
        batch_size: prompts per batch. Each prompt counts as one step of progress (dyprag.runtime.progress).
        stop_at_newline: whether an answer also ends at its first line break.
        stop: called with a row's new ids after each token; the row ends when it returns True.

    Returns:
        One Generation per prompt, in the order of `prompts`.
    """
    results: list[Generation | None] = [None] * len(prompts)
    ends = Ends({*base.end_ids, *(base.newline_ids if stop_at_newline else ())}, stop)
    for batch in alike([len(prompt) for prompt in prompts], batch_size):
        with base.lock:
            injected = adapters(batch) if adapters else None
            start = perf_counter()
            output = _generate_batch(base, [prompts[i] for i in batch], sampling, injected, ends)
            seconds = (perf_counter() - start) / len(batch)
        for row, index in enumerate(batch):
            ids = output.rows[row]
            text = answer(decode(base.tokenizer, ids))
            if stop_at_newline:
                text = text.lstrip("\n").split("\n", 1)[0]
            first = output.first - start
            probabilities = tuple(output.probabilities[row])
            results[index] = Generation(
                text.strip(), len(ids), seconds, first, tuple(ids), probabilities, row in output.cut
            )
    return [result for result in results if result is not None]


@dataclass
class _BatchOutput:
    """New tokens of each row and their probabilities, the rows cut at the token limit, and the time of the first
    token."""

    rows: list[list[int]]
    probabilities: list[list[float]]
    cut: set[int] = field(default_factory=set)
    first: float = 0.0


@torch.inference_mode()
def _generate_batch(
    base: BaseModel, prompts: list[Sequence[int]], sampling: Sampling, adapters: Adapters | None, ends: Ends
) -> _BatchOutput:
    """Generate the new tokens of each prompt, without its end token. Finished rows leave the batch."""
    choose = _chooser(base, sampling, len(prompts))
    output = _BatchOutput([[] for _ in prompts], [[] for _ in prompts])
    # one step of progress per prompt, reported token by token
    progress_left, share = float(len(prompts)), len(prompts) / sampling.max_new_tokens
    active = torch.arange(len(prompts), device=base.device)
    running = [True] * len(prompts)
    state = Decoding(base, prompts, adapters, sampling.max_new_tokens)
    while any(running):
        with inject(base, adapters and adapters.of_rows(active.tolist())):
            while any(running) and 4 * sum(running[index] for index in active.tolist()) > 3 * len(active):
                tokens = choose(state.logits, state.tokens, active)
                probabilities = (state.logits.gather(1, tokens[:, None])[:, 0] - state.logits.logsumexp(-1)).exp()
                chosen, likelihoods = tokens.tolist(), probabilities.tolist()
                output.first = output.first or perf_counter()  # after the device has synchronised
                for index, token, probability in zip(active.tolist(), chosen, likelihoods, strict=True):
                    running[index] = running[index] and token not in ends.tokens
                    if running[index]:
                        ids = output.rows[index]
                        ids.append(token)
                        output.probabilities[index].append(probability)
                        running[index] = not ends.after(ids)
                        if running[index] and len(ids) == sampling.max_new_tokens:
                            running[index] = False
                            output.cut.add(index)
                if any(running):
                    state.advance(tokens)
                    progress.advance(share)
                    progress_left -= share
        kept = torch.tensor(running, device=base.device)[active].nonzero()[:, 0]
        if len(kept):
            state.keep(kept)
        active = active[kept]
    progress.advance(progress_left)  # most rows end before the limit
    return output


def _chooser(base: BaseModel, sampling: Sampling, rows: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return a function that chooses each row's next token from the logits, the tokens so far, and the row numbers.

    Noise is drawn for all initial rows at every step: a row's sample does not depend on which others have ended.
    """
    penalty = base.repetition_penalty
    penalise = RepetitionPenaltyLogitsProcessor(penalty) if penalty != 1.0 else lambda tokens, logits: logits
    generator = torch.Generator().manual_seed(sampling.seed)

    def choose(logits: Tensor, tokens: Tensor, rows_left: Tensor) -> Tensor:
        logits = penalise(tokens, logits)
        if sampling.temperature <= 0:
            return logits.argmax(-1)
        values, candidates = logits.topk(min(sampling.top_k, logits.shape[-1]))
        # Gumbel trick: the argmax of log-probabilities plus Gumbel noise is a sample
        noise = -torch.empty(rows, values.shape[-1]).exponential_(generator=generator).log().to(logits.device)
        return candidates.gather(1, (values / sampling.temperature + noise[rows_left]).argmax(-1, keepdim=True))[:, 0]

    return choose
