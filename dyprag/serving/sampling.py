"""How the next token of an answer is chosen from its logits: penalties, temperature, and what is drawn from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

DRAWN_FROM = 256  # most tokens that one is drawn from: what is less likely is noise
COLDEST = 1e-5  # a lower temperature is 0: the likeliest token takes all, and 1 / temperature is no number any more


@dataclass(frozen=True)
class Wish:
    """How an answer is chosen, and where it ends.

    Attributes:
        temperature: below COLDEST the likeliest token is taken.
        top_p: the share of the probability that is drawn from, likeliest first; the likeliest token always is.
        top_k: how many tokens are drawn from; 0 or -1: DRAWN_FROM.
        min_p: how likely a token must be, as a share of the likeliest one's probability.
        repetition_penalty: divides the logits of what stands in the prompt and the answer; None: as the model has it.
        presence_penalty, frequency_penalty: taken from the logits of the answer's tokens, once or as often as they
            stand in it.
        bias: what is added to the logits of single tokens.
        stop: texts that end the answer and are no part of it.
        one_line: it ends at a line break.
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
        """Whether tokens are drawn; else each is the likeliest."""
        return self.temperature >= COLDEST


class Chooser:
    """Chooses the tokens of one answer.

    Args:
        penalty: of the model's own for repetitions, where the wish has none.
    """

    def __init__(self, wish: Wish, prompt: Sequence[int], penalty: float) -> None:
        self._wish, self._prompt = wish, list(prompt)
        penalty = penalty if wish.repetition_penalty is None else wish.repetition_penalty
        self._repetition = RepetitionPenaltyLogitsProcessor(float(penalty)) if penalty != 1.0 else None
        self._counted = bool(wish.presence_penalty or wish.frequency_penalty)
        self._draws = torch.Generator().manual_seed(wish.seed) if wish.draws else None

    @property
    def takes_likeliest(self) -> bool:
        """Whether it takes the likeliest token of the logits as they are."""
        return not (self._wish.draws or self._repetition or self._counted or self._wish.bias)

    def choose(self, logits: Tensor, ids: Sequence[int]) -> int:
        """The next token.

        Args:
            logits: [vocabulary], finite ones among them; they are left as they are.
            ids: of the answer so far.
        """
        logits = self._adjusted(logits, ids)
        return int(logits.argmax()) if self._draws is None else self._draw(logits, self._draws)

    def _adjusted(self, logits: Tensor, ids: Sequence[int]) -> Tensor:
        device = logits.device
        if self._repetition:
            told = torch.tensor([[*self._prompt, *ids]], device=device)
            logits = self._repetition(told, logits[None])[0]
        amounts = dict(self._wish.bias)
        for token, count in Counter(ids if self._counted else ()).items():
            penalty = self._wish.presence_penalty + count * self._wish.frequency_penalty
            amounts[token] = amounts.get(token, 0.0) - penalty
        if not amounts:
            return logits
        places = torch.tensor(list(amounts), device=device)
        return logits.index_add(0, places, torch.tensor([*amounts.values()], device=device, dtype=logits.dtype))

    def _draw(self, logits: Tensor, draws: torch.Generator) -> int:
        wish = self._wish
        values, places = logits.topk(min(DRAWN_FROM, len(logits), wish.top_k if wish.top_k > 0 else DRAWN_FROM))
        whole = ((logits - values[0]) / wish.temperature).logsumexp(-1)
        chances = ((values - values[0]) / wish.temperature - whole).exp().cpu()
        before = chances.cumsum(0) - chances
        out = (before >= wish.top_p) | (chances < wish.min_p * chances[0])
        chances[1:][out[1:]] = 0  # the likeliest stays, however little is to be drawn from
        return int(places[torch.multinomial(chances, 1, generator=draws)])
