"""The token limit of answers, and how it adapts to models that think before they answer."""

from collections.abc import Callable
from dataclasses import replace

from dyprag.augmentation.limits import Budget
from dyprag.augmentation.refusals import Unanswered
from dyprag.corpora.products import Request
from dyprag.errors import Stopped

SIGNS = 64  # maximum tokens that a chat template adds to the messages
LONGER = 4  # factor of the token limit if thoughts used all tokens
IN_VAIN = 3  # give up after this many answers of nothing but thoughts, if there was no other


class Room:
    """The token limit for the answers of one endpoint.

    Args:
        tokens: the configured limit (augment.max_new_tokens).
        budget: must allow a higher limit.
    """

    def __init__(self, tokens: int, budget: Budget) -> None:
        self.longest = LONGER * tokens  # the highest limit that the endpoint allows
        self._set, self._asked, self._budget = tokens, tokens, budget
        self._spoken = False  # whether any answer was more than thoughts
        self._in_vain = 0  # number of answers of nothing but thoughts

    def tokens(self, request: Request) -> int:
        """The token limit for the answer to a request."""
        return min(request.tokens or self._asked, self.longest)

    def longer(self, request: Request) -> Request | None:
        """A request with a higher limit, after an answer of nothing but thoughts.

        None if that would not help, or would exceed the budget.
        """
        tokens = min(LONGER * self._set, self.longest)
        worth = tokens > self.tokens(request) and (self._spoken or not self._in_vain)
        if not worth or not self._budget.allows(request.bytes + SIGNS, tokens):
            return None
        return replace(request, label=f"{request.label} longer", tokens=tokens)

    def heard(self, request: Request) -> None:
        """Note an answer that is more than thoughts. If it needed a higher limit, later requests get it too."""
        self._spoken = True
        self._asked = max(self._asked, request.tokens or 0)

    def thought_away(self, request: Request, stop: Callable[[str, str], Stopped]) -> Unanswered | Stopped:
        """The error for a document whose answers are nothing but thoughts.

        Args:
            stop: stops all requests with a reason and a remedy; called if all answers so far are like that.
        """
        self._in_vain += 1
        reason = (
            f"the model used all {self.tokens(request):,} tokens before it began to answer, probably by thinking first"
        )
        remedy = (
            f"Raise augment.max_new_tokens ({self._set}), or turn thinking off, for example by augment.api.extra_body="
            "{chat_template_kwargs: {enable_thinking: false}} (vLLM, SGLang) or {reasoning_effort: low} (OpenAI)."
        )
        if self._in_vain >= IN_VAIN and not self._spoken:
            return stop(reason, remedy)
        return Unanswered(f"document {request.document_id!r}", reason, remedy)
