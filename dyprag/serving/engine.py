"""Continuous batching: one thread generates the answers of all requests, one token of each per step.

Between steps, new requests join the batch, one missing adapter is made for a waiting request, and requests leave that
have ended, disconnected or timed out. No request waits for another to finish, and a failure ends only its own answer.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from dyprag.adapters.lora import Adapters
from dyprag.corpora.documents import Document
from dyprag.model.base import BaseModel
from dyprag.model.thinking import answer, decode
from dyprag.serving.rows import Rows
from dyprag.serving.sampling import Chooser, Wish

logger = logging.getLogger("dyprag.serving")
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
        only_adapter: whether the job ends, with finish "stop", once `adapter` is there.
        cancelled: whether the client is gone.
        waited: seconds from submission to the first token.
    """

    prompt: list[int]
    wish: Wish
    emit: Callable[[Piece], None]
    deadline: float
    passages: Sequence[Document] = ()
    combine: Callable[[list[Adapters]], Adapters | None] = lambda adapters: None
    adapters: list[Adapters] = field(default_factory=list)
    adapter: Adapters | None = None
    only_adapter: bool = False
    cancelled: bool = False
    ids: list[int] = field(default_factory=list)
    waited: float = 0.0
    _submitted: float = field(default_factory=time.monotonic)
    _sent: int = 0  # characters

    def take(self, token: int, ends: set[int], read: Callable[[list[int]], str]) -> bool:
        """Add a token and emit the new text, without thoughts. Returns whether the answer has ended."""
        self.waited = self.waited or time.monotonic() - self._submitted
        ended = token in ends
        if not ended:
            self.ids.append(token)
        last = ended or len(self.ids) >= self.wish.max_tokens
        text = answer(read(self.ids), last).lstrip()
        stops = [position for word in self.wish.stop if (position := text.find(word)) >= 0]
        if stops or ended:
            return self.end("stop", text[: min(stops, default=len(text))])
        if len(self.ids) >= self.wish.max_tokens:
            return self.end("length", text)
        held = max((_overlap(text, word) for word in self.wish.stop), default=0)
        text = text[: len(text) - held].rstrip(HALF)
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


class Engine:
    """Generates answers with one base model until it is closed.

    Args:
        adapters: returns the adapters of passages, [passages, layers, …], from a cache or newly made.
        known: whether a passage's adapter is cached.
        first_layer: the first layer that adapters are injected into.
        most_rows: maximum answers in the batch.
        most_waiting: maximum queued requests.
        most_tokens: maximum prompt tokens that join between two steps; a longer prompt joins alone.
    """

    def __init__(
        self,
        base: BaseModel,
        adapters: Callable[[Sequence[Document]], Adapters],
        known: Callable[[Document], bool],
        first_layer: int = 0,
        most_rows: int = 16,
        most_waiting: int = 256,
        most_tokens: int = 1024,
    ) -> None:
        self._base, self._adapters, self._known = base, adapters, known
        self._rows, self._first = Rows(base, first_layer), first_layer
        self._most_rows, self._most_waiting, self._most_tokens = most_rows, most_waiting, most_tokens
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._choosers: dict[Job, Chooser] = {}
        self._steps, self._failed_at = 0, -1  # decoding steps so far, and the last step that failed
        self._changed = threading.Condition()
        self._open = True
        self._penalty = getattr(base.model.generation_config, "repetition_penalty", None) or 1.0
        self._ends = ({*base.end_ids}, {*base.end_ids, *base.newline_ids})
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """The number of answers being generated."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a row or an adapter."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Queue a job, whose `emit` is called from then on.

        Raises:
            BusyError: the queue is full, or the engine is closed.
        """
        with self._changed:
            if len(self._waiting) >= self._most_waiting or not self._open:
                raise BusyError
            self._waiting.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Stop; unfinished answers end with an error."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._waiting and not self._running:
                    self._changed.wait()
                if not self._open:
                    break
            try:
                self._step()
            except Exception:
                logger.exception("A decoding step of %d answers failed; restarting each one.", len(self._running))
                self._start_over()
        for job in (*self._running, *self._waiting):
            job.end("error")

    def _step(self) -> None:
        self._drop_expired()
        self._make_adapter()
        self._hand_out()
        self._admit()
        if not self._running:
            return
        tokens = self._choose()
        for row in reversed(range(len(self._running))):
            if self._take(self._running[row], tokens[row]):
                self._leave(row)
                tokens[row] = tokens[-1]
                tokens.pop()
        if self._running:
            self._rows.advance(tokens)
        self._steps += 1

    def _take(self, job: Job, token: int) -> bool:
        """Add a token to an answer. Returns whether the answer has ended."""
        try:
            if token < 0:
                raise ArithmeticError("The model's logits are not finite.")
            return job.take(token, self._ends[job.wish.one_line], self._decode)
        except Exception:
            logger.exception("An answer failed.")
            return job.end("error")

    def _start_over(self) -> None:
        """Continue every answer in new rows after a failed step.

        If the next step fails too, the last answer to join is dropped: the batch was probably too large.
        """
        jobs, self._running, self._rows = self._running, [], Rows(self._base, self._first)
        if jobs and self._failed_at == self._steps:
            youngest = jobs.pop()
            self._choosers.pop(youngest, None)
            youngest.end("error")
        self._failed_at = self._steps
        for job in jobs:
            self._begin([job])

    def _drop_expired(self) -> None:
        """Remove requests whose client is gone or whose deadline has passed."""
        now = time.monotonic()
        for row in reversed(range(len(self._running))):
            job = self._running[row]
            if job.cancelled or now > job.deadline:
                job.end("timeout")
                self._leave(row)
        expired = [job for job in self._waiting if job.cancelled or now > job.deadline]
        if expired:
            self._remove(expired)
        for job in expired:
            job.end("timeout")

    def _make_adapter(self) -> None:
        """Give waiting requests their cached adapters, and make one new adapter.

        Only one, because running requests wait for it.
        """
        made_one = False
        for job in self._waiting[: self._most_rows]:
            try:
                while len(job.adapters) < len(job.passages):
                    passage = job.passages[len(job.adapters)]
                    known = self._known(passage)
                    if made_one and not known:
                        break
                    job.adapters.append(self._adapters([passage]))
                    made_one = made_one or not known
            except Exception:
                logger.exception("The adapter of %s could not be made.", passage.id)
                self._remove([job])
                job.end("error")
                return

    def _hand_out(self) -> None:
        """End the jobs that wait for an adapter alone and have it."""
        ready = [job for job in self._waiting if job.only_adapter and len(job.adapters) == len(job.passages)]
        if ready:
            self._remove(ready)
        for job in ready:
            try:
                with torch.inference_mode():
                    job.adapter = job.combine(job.adapters)
                job.end("stop")
            except Exception:
                logger.exception("An adapter could not be merged.")
                job.end("error")

    def _admit(self) -> None:
        """Start waiting requests that have all their adapters, as far as there are free rows."""
        chosen: list[Job] = []
        tokens = 0
        for job in self._waiting[: self._most_rows]:  # jobs without adapters are skipped and block no others
            full = len(self._running) + len(chosen) >= self._most_rows
            if full or (chosen and tokens + len(job.prompt) > self._most_tokens):
                break
            if len(job.adapters) == len(job.passages) and not job.only_adapter:
                chosen.append(job)
                tokens += len(job.prompt)
        if chosen:
            self._remove(chosen)
            self._begin(chosen)

    def _begin(self, jobs: list[Job]) -> None:
        """Put jobs into rows together; if that fails, one by one, so that only the faulty job ends."""
        try:
            with torch.inference_mode():
                for job in jobs:
                    job.adapter = job.combine(job.adapters) if job.adapters else job.adapter
                    job.adapters = []
            choosers = {
                job: self._choosers.get(job) or Chooser(job.wish, job.prompt, self._penalty) for job in jobs
            }  # fmt: skip
            self._rows.join([[*job.prompt, *job.ids] for job in jobs], [job.adapter for job in jobs])
        except Exception:
            if len(jobs) > 1:
                for job in jobs:
                    self._begin([job])
                return
            logger.exception("An answer could not be started.")
            self._choosers.pop(jobs[0], None)
            jobs[0].end("error")
            return
        self._running += jobs
        self._choosers |= choosers

    def _remove(self, jobs: list[Job]) -> None:
        with self._changed:
            self._waiting = [job for job in self._waiting if job not in jobs]

    def _leave(self, row: int) -> None:
        self._choosers.pop(self._running[row], None)
        self._rows.leave(row)
        self._running[row] = self._running[-1]
        self._running.pop()

    def _decode(self, ids: list[int]) -> str:
        return decode(self._base.tokenizer, ids)

    @torch.inference_mode()
    def _choose(self) -> list[int]:
        """The next token of each row; -1 if the row's logits are not finite."""
        logits = self._rows.logits
        likeliest = logits.argmax(-1, keepdim=True)
        finite = logits.gather(-1, likeliest).isfinite()[:, 0].tolist()
        tokens = [token if valid else -1 for (token,), valid in zip(likeliest.tolist(), finite, strict=True)]
        for row, job in enumerate(self._running):
            chooser = self._choosers[job]
            if finite[row] and not chooser.takes_likeliest:
                try:
                    tokens[row] = chooser.choose(logits[row], job.ids)
                except Exception:
                    logger.exception("The next token of an answer could not be chosen.")
                    tokens[row] = -1
        return tokens
