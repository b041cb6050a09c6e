"""Choose the next token of an answer from its logits: penalties, temperature, top-k, top-p and min-p."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

DRAWN_FROM = 256  # maximum number of tokens to sample from; less likely ones are noise
COLDEST = 1e-5  # lower temperatures count as 0, since 1 / temperature would overflow


@dataclass(frozen=True)
class Wish:
    """Sampling parameters of an answer, and where it ends.

    Attributes:
        temperature: below COLDEST, decoding is greedy.
        top_p: sample from the likeliest tokens with this total probability; always includes the likeliest token.
        top_k: sample from this many tokens; 0 or -1: DRAWN_FROM.
        min_p: minimum probability of a token, relative to the likeliest one.
        repetition_penalty: divides the logits of tokens in the prompt and the answer; None: the model's default.
        presence_penalty, frequency_penalty: subtracted from the logits of the answer's tokens, once or per occurrence.
        bias: (token id, amount) pairs added to the logits.
        stop: texts that end the answer and are not part of it.
        one_line: the answer ends at a line break.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    one_line: bool = False
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()

    @property
    def draws(self) -> bool:
        """Whether tokens are sampled; otherwise decoding is greedy."""
        return self.temperature >= COLDEST


class Chooser:
    """Chooses the tokens of one answer.

    Args:
        penalty: the model's default repetition penalty.
    """

    def __init__(self, wish: Wish, prompt: Sequence[int], penalty: float) -> None:
        self._wish, self._prompt = wish, list(prompt)
        penalty = penalty if wish.repetition_penalty is None else wish.repetition_penalty
        self._repetition = RepetitionPenaltyLogitsProcessor(float(penalty)) if penalty != 1.0 else None
        self._counted = bool(wish.presence_penalty or wish.frequency_penalty)
        self._draws = torch.Generator().manual_seed(wish.seed) if wish.draws else None

    @property
    def takes_likeliest(self) -> bool:
        """Whether this is greedy decoding on unmodified logits."""
        return not (self._wish.draws or self._repetition or self._counted or self._wish.bias)

    def choose(self, logits: Tensor, ids: Sequence[int]) -> int:
        """Choose the next token.

        Args:
            logits: [vocabulary], at least one of them finite; not modified.
            ids: token ids of the answer so far.
        """
        logits = self._adjusted(logits, ids)
        return int(logits.argmax()) if self._draws is None else self._draw(logits, self._draws)

    def _adjusted(self, logits: Tensor, ids: Sequence[int]) -> Tensor:
        device = logits.device
        if self._repetition:
            context = torch.tensor([[*self._prompt, *ids]], device=device)
            logits = self._repetition(context, logits[None])[0]
        amounts = dict(self._wish.bias)
        for token, count in Counter(ids if self._counted else ()).items():
            penalty = self._wish.presence_penalty + count * self._wish.frequency_penalty
            amounts[token] = amounts.get(token, 0.0) - penalty
        if not amounts:
            return logits
        tokens = torch.tensor(list(amounts), device=device)
        return logits.index_add(0, tokens, torch.tensor([*amounts.values()], device=device, dtype=logits.dtype))

    def _draw(self, logits: Tensor, draws: torch.Generator) -> int:
        wish = self._wish
        values, tokens = logits.topk(min(DRAWN_FROM, len(logits), wish.top_k if wish.top_k > 0 else DRAWN_FROM))
        total = ((logits - values[0]) / wish.temperature).logsumexp(-1)
        probabilities = ((values - values[0]) / wish.temperature - total).exp().cpu()
        before = probabilities.cumsum(0) - probabilities
        excluded = (before >= wish.top_p) | (probabilities < wish.min_p * probabilities[0])
        probabilities[1:][excluded[1:]] = 0  # the likeliest token always stays
        return int(tokens[torch.multinomial(probabilities, 1, generator=draws)])
