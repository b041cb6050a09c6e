"""What the engine works on: a prompt, how it is answered, and what of the answer exists so far."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dyprag.adapters.lora import Adapters
from dyprag.corpora.documents import Document
from dyprag.model.thinking import answer
from dyprag.serving.rows import Reading
from dyprag.serving.sampling import Wish

HALF = "�"  # an incomplete character, which the next token completes


class BusyError(Exception):
    """The request queue is full."""


@dataclass(frozen=True)
class Piece:
    """The text since the previous piece. The last piece has `finish`: stop, length, timeout, or error."""

    text: str
    finish: str = ""


@dataclass(eq=False)
class Job:
    """A prompt to answer.

    Attributes:
        emit: called from the engine's thread with every piece; must not block.
        deadline: on the monotonic clock.
        passages: the passages whose adapters are injected.
        combine: merges the adapters of the passages into the one to inject.
        adapters: the adapters of the passages that exist so far.
        adapter: the adapter that is injected.
        shares_as: names the adapter by its content: states of the prompt are kept for later prompts with the same
            adapter. None: they are not, unless no adapter is injected.
        only_adapter: whether the job ends, with finish "stop", once `adapter` is there.
        cancelled: whether the client is gone.
        waited: seconds from submission to the first token.
        reading: the beginning of a long prompt, read so far.
        merged: whether `adapter` has been made from `adapters`.
        cached: tokens of the prompt that were not read, because their states were kept.
    """

    prompt: list[int]
    wish: Wish
    emit: Callable[[Piece], None]
    deadline: float
    passages: Sequence[Document] = ()
    combine: Callable[[list[Adapters]], Adapters | None] = lambda adapters: None
    adapters: list[Adapters] = field(default_factory=list)
    adapter: Adapters | None = None
    shares_as: str | None = None
    only_adapter: bool = False
    cancelled: bool = False
    ids: list[int] = field(default_factory=list)
    waited: float = 0.0
    cached: int = 0
    reading: Reading | None = None
    merged: bool = False
    _submitted: float = field(default_factory=time.monotonic)
    _sent: int = 0  # characters

    @property
    def has_adapters(self) -> bool:
        """Whether no passage's adapter is missing."""
        return self.merged or len(self.adapters) == len(self.passages)

    @property
    def kept_as(self) -> str | None:
        """The name under which states of the prompt are kept; None: they are not."""
        return "" if self.adapter is None else self.shares_as

    def take(self, token: int, ends: set[int], read: Callable[[list[int]], str]) -> bool:
        """Add a token and emit the new text, without thoughts. Returns whether the answer has ended."""
        self.waited = self.waited or time.monotonic() - self._submitted
        ended = token in ends
        if not ended:
            self.ids.append(token)
        last = ended or len(self.ids) >= self.wish.max_tokens
        said = answer(read(self.ids), last)  # a stop may stand in the space before the answer, which is not emitted
        stops = [position for word in self.wish.stop if (position := said.find(word)) >= 0]
        if stops or ended:
            return self.end("stop", said[: min(stops, default=len(said))].lstrip())
        if len(self.ids) >= self.wish.max_tokens:
            return self.end("length", said.lstrip())
        held = max((_overlap(said, word) for word in self.wish.stop), default=0)
        text = said[: len(said) - held].lstrip().rstrip(HALF)
        if len(text) > self._sent:
            self._send(Piece(text[self._sent :]))
            self._sent = len(text)
        return False

    def end(self, finish: str, text: str = "") -> bool:
        """Emit the rest of the text as the last piece."""
        self._send(Piece(text[self._sent :], finish))
        return True

    def _send(self, piece: Piece) -> None:
        try:
            self.emit(piece)
        except Exception:  # for example a closed event loop; must not affect other requests
            self.cancelled = True


def _overlap(text: str, word: str) -> int:
    """The number of characters at the end of the text that could begin the word."""
    return next((size for size in range(min(len(text), len(word) - 1), 0, -1) if text.endswith(word[:size])), 0)
