"""The chat completions route of OpenAI's API."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from dyprag.serving.jobs import BusyError, Job, Piece
from dyprag.serving.metrics import Metrics
from dyprag.serving.refusals import RefusedError
from dyprag.serving.replies import FAILURES, Reply, listen
from dyprag.serving.routes.access import ERRORS, GUARDED, Counted, Responses, Served
from dyprag.serving.schema import ChatCompletion, ChatRequest
from dyprag.serving.service import Ready, Service

router = APIRouter()
STREAMED = {"content": {"text/event-stream": {}}, "description": "The answer, streamed if `stream` is set."}
RESPONSES: Responses = {200: STREAMED, **{status: words for status, words in ERRORS.items() if status != 404}}


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=RESPONSES, dependencies=GUARDED)
async def chat_completions(body: ChatRequest, request: Request, service: Served, metrics: Counted) -> Any:
    """Answer the last message, from documents if there are any."""
    start = time.monotonic()
    pieces: asyncio.Queue[Piece] = asyncio.Queue()
    ready, job = await _submit(body, service, metrics, pieces, start)
    reply = Reply(service, body, ready, job, start)
    if body.stream:
        events = reply.events(pieces, metrics)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    text = ""
    async for piece in listen(pieces, job, request):
        text += piece.text
    metrics.ended(ready.method, piece.finish, start, job)
    if piece.finish in FAILURES:
        status, message = FAILURES[piece.finish]
        raise RefusedError(status, message, piece.finish)
    return reply.whole(text, piece.finish)


async def _submit(
    body: ChatRequest, service: Service, metrics: Metrics, pieces: "asyncio.Queue[Piece]", start: float
) -> tuple[Ready, Job]:
    """Prepare a request and submit it to the engine, which puts the answer's pieces into the queue.

    Raises:
        RefusedError: the request cannot be answered, or the queue is full. The metrics count it as refused.
    """
    method: str = body.method or "default"
    loop = asyncio.get_running_loop()

    def emit(piece: Piece) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    try:
        ready = await _within(service.limits.seconds, service.prepare, body)
        method = ready.method
        job = service.job(ready, emit, start + service.limits.seconds)
        service.engine.submit(job)
    except (RefusedError, BusyError) as refused:
        metrics.ended(method, "refused", start)
        if isinstance(refused, BusyError):
            raise RefusedError(429, "The request queue is full. Retry shortly.", "busy") from None
        raise
    return ready, job


async def _within(seconds: float, prepare: Callable[[ChatRequest], Ready], body: ChatRequest) -> Ready:
    """Prepare a request in a thread, with the same time limit as for an answer."""
    try:
        async with asyncio.timeout(seconds):
            return await to_thread.run_sync(prepare, body, abandon_on_cancel=True)
    except TimeoutError:
        message = "The request could not be prepared in time. Send shorter documents."
        raise RefusedError(504, message, "timeout", "documents" if body.documents else "messages") from None
