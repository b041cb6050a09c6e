"""Responses in the format of OpenAI's API: whole, or streamed."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request

from dyprag.serving.jobs import Job, Piece
from dyprag.serving.metrics import Metrics
from dyprag.serving.refusals import error
from dyprag.serving.schema import (
    Answer,
    ChatCompletion,
    ChatRequest,
    Choice,
    PromptTokens,
    Provenance,
    Usage,
    UsedPassage,
)
from dyprag.serving.service import Ready, Service

LISTENING = 0.5  # seconds between checks whether the client is still connected
FAILURES = {
    "timeout": (
        504,
        "The answer was not finished in time. Ask for fewer tokens, or retry later.",
    ),
    "error": (500, "The answer failed; see the server's log."),
}


async def listen(pieces: "asyncio.Queue[Piece]", job: Job, request: Request | None = None) -> AsyncIterator[Piece]:
    """Yield the pieces of a job. Cancels the job if the client disconnects."""
    ended, looked = False, time.monotonic()
    try:
        while not ended:
            if request and time.monotonic() - looked >= LISTENING:  # pieces may come faster than that
                looked = time.monotonic()
                job.cancelled = job.cancelled or await request.is_disconnected()
            try:
                piece = await asyncio.wait_for(pieces.get(), LISTENING)
            except TimeoutError:
                continue
            ended = bool(piece.finish)
            yield piece
    finally:
        job.cancelled = not ended


class Reply:
    """A response in the format of OpenAI's API."""

    def __init__(self, service: Service, body: ChatRequest, ready: Ready, job: Job, began: float) -> None:
        self.ready, self.job, self.began, self.body = ready, job, began, body
        self.head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()),
            "model": ready.adapter or service.assistant.name,
        }  # fmt: skip

    def usage(self) -> Usage:
        """The tokens of prompt and answer."""
        prompt, answer = len(self.ready.prompt), len(self.job.ids)
        details = PromptTokens(cached_tokens=self.job.cached)
        return Usage(
            prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer, prompt_tokens_details=details
        )

    def provenance(self) -> Provenance:
        """How the answer was made."""
        injected = self.ready.injected if self.job.adapter is not None else ()  # the gate may drop the adapter
        shown = self.ready.in_prompt
        used = [
            UsedPassage(
                id=passage.document.id, text=passage.document.passage, score=passage.score,
                in_prompt=passage in shown, injected=passage in injected,
            )
            for passage in injected or shown
        ]  # fmt: skip
        seconds = time.monotonic() - self.began
        return Provenance(method=self.ready.method, passages=used, seconds=seconds, first_token=self.job.waited)

    def whole(self, text: str, finish: str) -> ChatCompletion:
        """The whole response."""
        choice = Choice(message=Answer(content=text.strip()), finish_reason=finish)  # type: ignore[arg-type]
        return ChatCompletion(**self.head, choices=[choice], usage=self.usage(), dyprag=self.provenance())  # type: ignore[arg-type]

    async def events(self, pieces: "asyncio.Queue[Piece]", metrics: Metrics) -> AsyncIterator[str]:
        """The response as server-sent events."""
        finish = "gone"
        try:
            yield self._event({"role": "assistant", "content": ""})
            async for piece in listen(pieces, self.job):
                finish = piece.finish
                if finish in FAILURES:
                    yield f"data: {json.dumps(error(FAILURES[finish][1], 'server_error', finish))}\n\n"
                else:
                    yield self._event({"content": piece.text}, finish)
        finally:
            metrics.ended(self.ready.method, finish or "gone", self.began, self.job)
        if self.body.stream_options and self.body.stream_options.include_usage:
            yield self._event(usage=self.usage().model_dump())
        yield "data: [DONE]\n\n"

    def _event(self, delta: dict[str, str] | None = None, finish: str = "", **more: Any) -> str:
        """A chunk of the stream. The one that ends the answer says how it was made."""
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish or None}]
        if finish:
            more["dyprag"] = self.provenance().model_dump()
        return f"data: {json.dumps({**self.head, 'object': 'chat.completion.chunk', 'choices': choices, **more})}\n\n"
