"""Continuous batching: a thread of its own writes the answers of all requests, a token of each at a time.

Between two tokens it takes in who has come, makes one adapter for somebody who waits, and lets go of who has ended,
gone away, or run out of time. Nobody waits for another's last token, and nobody's answer ends with another's failure.
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
HALF = "�"  # of a character; what comes next completes it


class BusyError(Exception):
    """The request queue is full."""


@dataclass(frozen=True)
class Piece:
    """What was written since the last piece. The last one has `finish`: stop, length, timeout, or error."""

    text: str
    finish: str = ""


@dataclass(eq=False)
class Job:
    """A prompt to be answered.

    emit: called from the engine's thread with every piece; it must not block. deadline: on the monotonic clock.
    passages: those that adapters are to be made of; combine: gives the one to inject from theirs. made: those that are
    there; adapter: the one that is injected. cancelled: nobody listens any more. waited: seconds from its coming to its
    first token.
    """

    prompt: list[int]
    wish: Wish
    emit: Callable[[Piece], None]
    deadline: float
    passages: Sequence[Document] = ()
    combine: Callable[[list[Adapters]], Adapters | None] = lambda made: None
    made: list[Adapters] = field(default_factory=list)
    adapter: Adapters | None = None
    cancelled: bool = False
    ids: list[int] = field(default_factory=list)
    waited: float = 0.0
    _came: float = field(default_factory=time.monotonic)
    _told: int = 0  # characters

    def take(self, token: int, ends: set[int], read: Callable[[list[int]], str]) -> bool:
        """Note a token and tell what it adds to the text, thoughts left out; whether that was the last."""
        self.waited = self.waited or time.monotonic() - self._came
        ended = token in ends
        if not ended:
            self.ids.append(token)
        last = ended or len(self.ids) >= self.wish.max_tokens
        text = answer(read(self.ids), last).lstrip()
        found = [at for word in self.wish.stop if (at := text.find(word)) >= 0]
        if found or ended:
            return self.end("stop", text[: min(found, default=len(text))])
        if len(self.ids) >= self.wish.max_tokens:
            return self.end("length", text)
        held = max((_begun(text, word) for word in self.wish.stop), default=0)
        text = text[: len(text) - held].rstrip(HALF)
        if len(text) > self._told:
            self._tell(Piece(text[self._told :]))
            self._told = len(text)
        return False

    def end(self, finish: str, text: str = "") -> bool:
        """Tell the rest of the text, and that it has ended."""
        self._tell(Piece(text[self._told :], finish))
        return True

    def _tell(self, piece: Piece) -> None:
        try:
            self.emit(piece)
        except Exception:  # its listener's event loop is closed, say: that is no concern of the others
            self.cancelled = True


def _begun(text: str, word: str) -> int:
    """How much of a word's beginning the text ends with."""
    return next((size for size in range(min(len(text), len(word) - 1), 0, -1) if text.endswith(word[:size])), 0)


class Engine:
    """Writes answers on one base model until it is closed.

    Args:
        adapters: gives passages' adapters, [passages, layers, …], made now or before.
        known: whether a passage's was made before, and is there at once.
        first_layer: the layers before it are left as they are, whatever the adapters hold for them.
        most_rows: answers written together.
        most_waiting: requests that may wait behind these.
        most_tokens: of prompts that are begun between two tokens; one longer prompt is begun by itself.
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
        self._steps, self._failed_at = 0, -1  # of the whole batch, a token each
        self._changed = threading.Condition()
        self._open = True
        self._penalty = getattr(base.model.generation_config, "repetition_penalty", None) or 1.0
        self._ends = ({*base.end_ids}, {*base.end_ids, *base.newline_ids})
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Answers that are being written."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for a row or for an adapter."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether its thread is at work."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Hand in a job; from then on its `emit` is called.

        Raises:
            BusyError: as many wait as may wait, or the engine is closed.
        """
        with self._changed:
            if len(self._waiting) >= self._most_waiting or not self._open:
                raise BusyError
            self._waiting.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Write no more; what is unfinished ends with an error."""
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
                self._turn()
            except Exception:
                logger.exception("A step of %d answers failed. Each goes on by itself.", len(self._running))
                self._start_over()
        for job in (*self._running, *self._waiting):
            job.end("error")

    def _turn(self) -> None:
        self._dismiss()
        self._make_one()
        self._take_in()
        if not self._running:
            return
        tokens = self._choose()
        for row in reversed(range(len(self._running))):
            if self._is_over(self._running[row], tokens[row]):
                self._leave(row)
                tokens[row] = tokens[-1]
                tokens.pop()
        if self._running:
            self._rows.advance(tokens)
        self._steps += 1

    def _is_over(self, job: Job, token: int) -> bool:
        try:
            if token < 0:
                raise ArithmeticError("The model's logits are not finite.")
            return job.take(token, self._ends[job.wish.one_line], self._decode)
        except Exception:
            logger.exception("An answer failed.")
            return job.end("error")

    def _start_over(self) -> None:
        """Go on with every answer in new rows, after a step that failed for all. If the first step after that fails as
        well, the youngest answer is given up, as it was the one too many."""
        jobs, self._running, self._rows = self._running, [], Rows(self._base, self._first)
        if jobs and self._failed_at == self._steps:
            youngest = jobs.pop()
            self._choosers.pop(youngest, None)
            youngest.end("error")
        self._failed_at = self._steps
        for job in jobs:
            self._begin([job])

    def _dismiss(self) -> None:
        """Let go of who has gone away or run out of time."""
        now = time.monotonic()
        for row in reversed(range(len(self._running))):
            job = self._running[row]
            if job.cancelled or now > job.deadline:
                job.end("timeout")
                self._leave(row)
        over = [job for job in self._waiting if job.cancelled or now > job.deadline]
        if over:
            self._remove(over)
        for job in over:
            job.end("timeout")

    def _make_one(self) -> None:
        """Give those who wait for adapters all that were made before, and make one that was not: more would keep those
        waiting who are being answered."""
        spent = False
        for job in self._waiting[: self._most_rows]:
            try:
                while len(job.made) < len(job.passages):
                    passage = job.passages[len(job.made)]
                    known = self._known(passage)
                    if spent and not known:
                        break
                    job.made.append(self._adapters([passage]))
                    spent = spent or not known
            except Exception:
                logger.exception("No adapter could be made of %s.", passage.id)
                self._remove([job])
                job.end("error")
                return

    def _take_in(self) -> None:
        """Begin the answers of those who wait and have their adapters, as many as there are rows for."""
        chosen: list[Job] = []
        tokens = 0
        for job in self._waiting[: self._most_rows]:  # who waits for an adapter keeps nobody else waiting
            full = len(self._running) + len(chosen) >= self._most_rows
            if full or (chosen and tokens + len(job.prompt) > self._most_tokens):
                break
            if len(job.made) == len(job.passages):
                chosen.append(job)
                tokens += len(job.prompt)
        if chosen:
            self._remove(chosen)
            self._begin(chosen)

    def _begin(self, jobs: list[Job]) -> None:
        """Put jobs into rows, together if it can be; one that cannot be begun ends alone."""
        try:
            with torch.inference_mode():
                for job in jobs:
                    job.adapter = job.combine(job.made) if job.made else job.adapter
                    job.made = []
            choosers = {
                job: self._choosers.get(job) or Chooser(job.wish, job.prompt, self._penalty) for job in jobs
            }  # fmt: skip
            self._rows.join([[*job.prompt, *job.ids] for job in jobs], [job.adapter for job in jobs])
        except Exception:
            if len(jobs) > 1:
                for job in jobs:
                    self._begin([job])
                return
            logger.exception("An answer could not be begun.")
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
        """The next token of each row; -1 where there is none, as the row's logits are no numbers."""
        logits = self._rows.logits
        likeliest = logits.argmax(-1, keepdim=True)
        sound = logits.gather(-1, likeliest).isfinite()[:, 0].tolist()
        tokens = [token if good else -1 for (token,), good in zip(likeliest.tolist(), sound, strict=True)]
        for row, job in enumerate(self._running):
            chooser = self._choosers[job]
            if sound[row] and not chooser.takes_likeliest:
                try:
                    tokens[row] = chooser.choose(logits[row], job.ids)
                except Exception:
                    logger.exception("No token could be chosen for an answer.")
                    tokens[row] = -1
        return tokens
