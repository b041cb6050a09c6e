"""Continuous batching: one thread generates the answers of all requests, one token of each per step.

Between steps, new requests join the batch, one missing adapter is made for a waiting request, and requests leave that
have ended, disconnected or timed out. No request waits for another to finish, and a failure ends only its own answer.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

import torch

from dyprag.adapters.lora import Adapters
from dyprag.corpora.documents import Document
from dyprag.model.base import BaseModel
from dyprag.model.prefixes import PrefixCache, States
from dyprag.model.thinking import decode
from dyprag.serving.jobs import BusyError, Job
from dyprag.serving.rows import Reading, Rows
from dyprag.serving.sampling import Chooser

logger = logging.getLogger("dyprag.serving")


class Engine:
    """Generates answers with one base model until it is closed.

    Args:
        adapters: returns the adapters of passages, [passages, layers, …], from a cache or newly made.
        known: whether a passage's adapter is cached.
        first_layer: the first layer that adapters are injected into.
        most_rows: maximum answers in the batch.
        most_waiting: maximum queued requests.
        most_tokens: maximum prompt tokens that join between two steps.
        piece: prompt tokens of a long prompt that are read between two steps, so that other answers go on beside it;
            0: 64 on a CPU, 1,024 on a GPU.
        prefixes: the states of read prompts; None: a cache of the usual size.
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
        piece: int = 0,
        prefixes: PrefixCache | None = None,
    ) -> None:
        self._base, self._adapters, self._known = base, adapters, known
        self._rows, self._first = Rows(base, first_layer), first_layer
        self._most_rows, self._most_waiting, self._most_tokens = most_rows, most_waiting, most_tokens
        self._piece = piece or (64 if base.device.type == "cpu" else 1024)
        self.prefixes = (prefixes or PrefixCache()) if base.can_keep_prefixes else PrefixCache(0)
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._choosers: dict[Job, Chooser] = {}
        self._steps, self._failed_at = 0, -1  # decoding steps so far, and the last step that failed
        self._changed = threading.Condition()
        self._open = True
        self._penalty = base.repetition_penalty
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
        long = self._admit()
        if self._running:
            self._decode_step()
        if long:  # last, so that no first token waits for it that could be there before
            self._read_on(long)

    def _decode_step(self) -> None:
        """Add a token to each running answer."""
        tokens = self._choose()
        for row in reversed(range(len(self._running))):
            if self._take(self._running[row], tokens[row]):
                job = self._running[row]
                self._keep(job, [*job.prompt, *job.ids][: self._rows.length(row)], row)  # a chat may go on from here
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
                while not job.has_adapters:
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
        for job in [job for job in self._waiting if job.only_adapter and job.has_adapters]:
            if self._merge(job):
                self._remove([job])
                job.end("stop")

    def _admit(self) -> Job | None:
        """Start waiting requests that have all their adapters, as far as there are free rows.

        Returns:
            The first request with more than a piece left to read, of which only the next piece is to be read.
        """
        chosen: list[Job] = []
        tokens, long = 0, None
        for job in self._waiting[: self._most_rows]:  # jobs without adapters are skipped and block no others
            if len(self._running) + len(chosen) >= self._most_rows:
                break
            if job.only_adapter or not job.has_adapters or not self._merge(job):
                continue
            unread = self._unread(job)
            if unread > self._piece:
                long = long or job
            elif chosen and tokens + unread > self._most_tokens:
                break
            else:
                chosen.append(job)
                tokens += unread
        if chosen:
            self._remove(chosen)
            self._begin(chosen)
        return long

    def _merge(self, job: Job) -> bool:
        """Make the adapter that a request injects. Returns whether that succeeded."""
        if job.merged or not job.passages:
            return True
        try:
            with torch.inference_mode():
                job.adapter = job.combine(job.adapters)
            job.merged, job.adapters = True, []
        except Exception:
            logger.exception("An adapter could not be merged.")
            self._remove([job])
            job.end("error")
        return job.merged

    def _unread(self, job: Job) -> int:
        """The tokens of a prompt that are left to read."""
        if job.reading:
            return len(job.prompt) - len(job.reading)
        known = 0 if job.kept_as is None else self.prefixes.known(job.kept_as, job.prompt)
        return len(job.prompt) - known

    def _read_on(self, job: Job) -> None:
        """Read the next piece of a long prompt."""
        try:
            job.reading = job.reading or Reading(self._base, job.adapter, self._first, self._known_states(job))
            done = len(job.reading)
            # not the last token, which is read in a row; states may be known since this step began
            if piece := job.prompt[done : min(done + self._piece, len(job.prompt) - 1)]:
                job.reading.read(piece)
        except Exception:
            logger.exception("A prompt could not be read.")
            self._remove([job])
            job.end("error")

    def _known_states(self, job: Job) -> States | None:
        """The kept states of the beginning of a prompt."""
        states = None if job.kept_as is None else self.prefixes.find(job.kept_as, job.prompt)
        job.cached = states[0][0].shape[1] if states else 0
        return states

    def _begin(self, jobs: list[Job]) -> None:
        """Put jobs into rows together; if that fails, one by one, so that only the faulty job ends."""
        try:
            choosers = {
                job: self._choosers.get(job) or Chooser(job.wish, job.prompt, self._penalty) for job in jobs
            }  # fmt: skip
            known = [job.reading.states if job.reading else self._known_states(job) for job in jobs]
            prompts = [[*job.prompt, *job.ids] for job in jobs]
            self._rows.join(prompts, [job.adapter for job in jobs], known)
        except Exception:
            if len(jobs) > 1:
                for job in jobs:
                    self._begin([job])
                return
            logger.exception("An answer could not be started.")
            self._choosers.pop(jobs[0], None)
            jobs[0].end("error")
            return
        for row, (job, prompt) in enumerate(zip(jobs, prompts, strict=True), start=len(self._running)):
            job.reading = None
            self._keep(job, prompt, row)
        self._running += jobs
        self._choosers |= choosers

    def _keep(self, job: Job, tokens: list[int], row: int) -> None:
        """Keep the states of a row's tokens for later prompts that begin with them."""
        if job.kept_as is not None:
            self.prefixes.add(job.kept_as, tokens, self._rows.states(row))

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
