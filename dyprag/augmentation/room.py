"""How many tokens an answer may have, and what comes of a model that spends all of them on thoughts."""

from collections.abc import Callable
from dataclasses import replace

from dyprag.augmentation.limits import Budget
from dyprag.augmentation.products import Request
from dyprag.augmentation.refusals import Unanswered
from dyprag.errors import Stopped

SIGNS = 64  # of a chat template around the messages, in tokens at most
LONGER = 4  # times the tokens that an answer may have, where thoughts took all of them
IN_VAIN = 3  # answers of nothing but thoughts, before any other, after which no other is expected


class Room:
    """The tokens of the answers of one endpoint.

    Args:
        tokens: that an answer may have (augment.max_new_tokens).
        budget: beyond which none is given more.
    """

    def __init__(self, tokens: int, budget: Budget) -> None:
        self.longest = LONGER * tokens  # that the endpoint allows
        self._set, self._asked, self._budget = tokens, tokens, budget
        self._spoken = False  # whether an answer was more than thoughts
        self._in_vain = 0  # answers that were nothing else

    def tokens(self, request: Request) -> int:
        """Tokens that the answer to a request may have."""
        return min(request.tokens or self._asked, self.longest)

    def longer(self, request: Request) -> Request | None:
        """A request once more, whose answer ended in its thoughts: with room for more. None where that is not worth
        it, or would exceed the budget."""
        tokens = min(LONGER * self._set, self.longest)
        worth = tokens > self.tokens(request) and (self._spoken or not self._in_vain)
        if not worth or not self._budget.allows(request.bytes + SIGNS, tokens):
            return None
        return replace(request, label=f"{request.label} longer", tokens=tokens)

    def heard(self, request: Request) -> None:
        """An answer was more than thoughts; where it took room for more, others get that too."""
        self._spoken = True
        self._asked = max(self._asked, request.tokens or 0)

    def thought_away(self, request: Request, stop: Callable[[str, str], Stopped]) -> Unanswered | Stopped:
        """What a document is told whose answers are nothing but thoughts.

        Args:
            stop: ends all requests, for a reason and with a remedy; called where every answer is like that.
        """
        self._in_vain += 1
        reason = (
            f"the model's answer was cut at {self.tokens(request):,} tokens before it began, as happens where a model "
            "thinks first"
        )
        remedy = (
            f"Raise augment.max_new_tokens ({self._set}), or turn thinking off, such as with augment.api.extra_body="
            "{chat_template_kwargs: {enable_thinking: false}} (vLLM, SGLang) or {reasoning_effort: low} (OpenAI)."
        )
        if self._in_vain >= IN_VAIN and not self._spoken:
            return stop(reason, remedy)
        return Unanswered(f"document {request.document_id!r}", reason, remedy)
