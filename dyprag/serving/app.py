"""The HTTP server: OpenAI's chat completions over one base model, a page to try it, health and metrics."""

import asyncio
import json
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dyprag.adapters.lora import Adapters, merge, stack
from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.retrieval import BM25Retriever, Retriever, among_given
from dyprag.errors import DocumentError, ModelError
from dyprag.methods.gate import borne_out
from dyprag.methods.protocol import Prompt, fit
from dyprag.model.prompts import chat_text, encode, question_prompt
from dyprag.serving.assistant import Assistant
from dyprag.serving.conversation import Conversation, conversation
from dyprag.serving.engine import BusyError, Engine, Job, Piece
from dyprag.serving.guards import Guard, Hosts
from dyprag.serving.metrics import Metrics
from dyprag.serving.refusals import STATUSES, RefusedError, answer_refusals, error, refusal, shown
from dyprag.serving.sampling import Wish
from dyprag.serving.schema import (
    Answer,
    ChatCompletion,
    ChatRequest,
    Choice,
    ErrorAnswer,
    Health,
    Made,
    Model,
    Models,
    Usage,
    UsedPassage,
)
from dyprag.serving.unsupported import refuse_unsupported

PAGE = Path(__file__).with_name("page.html")
PLAIN = "chat"  # how a request is called that has neither documents nor a method
LISTENING = 0.5  # seconds after which a client is asked whether it is still there


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    rows: answers written together; waiting: requests beside these, more are refused (429). body: bytes of a request
    (413); prompt, answer: tokens (400). seconds: for a request in all (504).
    """

    rows: int = 16
    waiting: int = 256
    body: int = 1_000_000
    prompt: int = 4096
    answer: int = 1024
    seconds: float = 120.0


@dataclass(frozen=True)
class Ready:
    """A request that can be handed in: its prompt, how it is chosen, and what it is made from."""

    method: str
    prompt: list[int]
    wish: Wish
    injected: tuple[Retrieved, ...]
    in_prompt: tuple[Retrieved, ...]
    question: str


class Service:
    """The model's side of the server: requests become jobs of the engine.

    Args:
        documents: what is searched for requests that bring no documents: a retriever, and how many passages it has.
    """

    def __init__(self, assistant: Assistant, documents: tuple[Retriever, int] | None, limits: Limits) -> None:
        self.assistant, self.limits = assistant, limits
        self.retriever: Retriever | None = documents[0] if documents else None
        self.count = documents[1] if documents else 0
        first = getattr(assistant.translator, "first_layer", 0)
        self.engine = Engine(
            assistant.base, assistant.adapters, assistant.known, first, limits.rows, limits.waiting
        )  # fmt: skip

    def prepare(self, body: ChatRequest) -> Ready:
        """The prompt, and the passages that adapters are made of.

        Raises:
            RefusedError: a conversation that cannot be answered, a document that is no text, a prompt that is too long.
        """
        refuse_unsupported(body)
        limits, base, asked = self.limits, self.assistant.base, conversation(body.messages)
        new, named = body.max_completion_tokens, "max_completion_tokens"
        if new is None:
            new, named = body.max_tokens, "max_tokens"
        if (new or 0) > limits.answer:
            message = f"{named} is {shown(new)}; this server writes {limits.answer} tokens at most."
            raise RefusedError(400, message, param=named)
        given = body.given()
        if given is None and self.retriever is None and body.method not in (None, "vanilla"):
            message = f"Method {body.method} needs documents: give some, or serve some."
            raise RefusedError(400, message, param="method")
        method = body.method or (PLAIN if given is None and self.retriever is None else "dyprag-combine")
        new = new or (256 if method == PLAIN else self.assistant.sampling.max_new_tokens)
        most = max(0, min(limits.prompt, base.max_tokens - new))
        found = () if method in (PLAIN, "vanilla") else self._found(asked.searched, given, body.passages)
        try:
            prompt = self._prompt(method, asked, found, most)
        except ModelError as fault:
            reason = f"the model's chat template refuses them ({str(fault)[:300]})"
            raise RefusedError(400, f"messages: {reason}.", param="messages") from None
        if len(prompt.ids) > most:
            message = f"messages: the prompt has {len(prompt.ids)} tokens; {most} fit, with {new} for the answer."
            raise RefusedError(400, message, "context_length_exceeded", "messages")
        injected = found if method in ("dyprag", "dyprag-combine") else ()
        return Ready(
            method, prompt.ids, self._wish(body, new, method != PLAIN), injected, prompt.passages, asked.question
        )

    def _prompt(self, method: str, asked: Conversation, found: tuple[Retrieved, ...], most: int) -> Prompt:
        tokenizer = self.assistant.base.tokenizer
        if method == PLAIN:
            ids = encode(tokenizer, chat_text(tokenizer, asked.question, "", asked.history, asked.system))
            return fit((), lambda _: ids, most)
        form = self.assistant.form
        in_prompt = form.arranged(found) if method in ("rag", "dyprag-combine") else ()

        def render(texts: Sequence[str]) -> list[int]:
            ask_for = "plain" if method == "dyprag" else form.ask_for  # its adapters were trained so
            return question_prompt(tokenizer, asked.question, texts, False, asked.history, asked.system, ask_for)

        return fit(in_prompt, render, form.longest(most))

    def _wish(self, body: ChatRequest, new: int, one_line: bool) -> Wish:
        bias = tuple((int(token), value) for token, value in body.logit_bias.items())
        size = self.assistant.base.model.config.get_text_config().vocab_size
        if beyond := [token for token, _ in bias if token >= size]:
            message = f"logit_bias: there is no token {beyond[0]}; this model has {size}."
            raise RefusedError(400, message, param="logit_bias")
        seed = secrets.randbits(62) if body.seed is None else body.seed
        if not -(2**63) <= seed < 2**63:  # clients draw them as they like
            seed %= 2**63
        return Wish(
            new, body.temperature, body.top_p, seed, body.stops, one_line, body.top_k, body.min_p,
            body.repetition_penalty, body.presence_penalty, body.frequency_penalty, bias,
        )  # fmt: skip

    def _found(self, question: str, given: list[Document] | None, count: int | None) -> tuple[Retrieved, ...]:
        count = count or self.assistant.chosen
        if given is None:
            return tuple(self.retriever.search(question, count)) if self.retriever else ()
        for document in given:
            if len(re.findall(r"[\x00-\x08\x0e-\x1f\ufffd]", document.text)) > len(document.text) / 100:
                raise RefusedError(400, f"{document.id}: it is not text. Give its text.", param="documents")
        try:
            passages = self.assistant.passages(given)
        except DocumentError as fault:
            raise RefusedError(400, str(fault), param="documents") from None
        return among_given(passages, question, count)

    def job(self, ready: Ready, emit: Callable[[Piece], None], deadline: float) -> Job:
        """What the engine is handed."""
        scores = [found.score for found in ready.injected]

        def combine(made: list[Adapters]) -> Adapters | None:
            if not made:
                return None
            merged = merge(stack(made), self.assistant.merging, scores).times(self.assistant.strength(ready.method))
            if gate := self.assistant.gate(ready.method):
                shown = [one.document.passage for one in ready.in_prompt]
                (merged,) = borne_out(self.assistant.base, [merged], [ready.question], [shown], gate)
            return merged

        passages = [found.document for found in ready.injected]
        return Job(ready.prompt, ready.wish, emit, deadline, passages, combine)


def create_app(
    assistant: Assistant,
    documents: Sequence[Document] | tuple[Retriever, int] = (),
    limits: Limits = Limits(),
    token: str = "",
    hosts: Sequence[str] = ("*",),
    origins: Sequence[str] = (),
) -> FastAPI:
    """The server's application.

    Args:
        documents: what is searched for requests that bring none: documents, or a retriever and its number of passages.
        token: what a client has to give as a bearer token; empty: none.
        hosts: names under which it may be called; others are refused, so that no web page can reach it by a name of
            its own.
        origins: web pages that may call it from a browser, such as https://chat.example, or "*" for all.
    """
    if documents and isinstance(documents[0], Document):
        passages = assistant.passages(documents)  # type: ignore[arg-type]
        documents = (BM25Retriever(passages), len(passages))
    service = Service(assistant, documents or None, limits)  # type: ignore[arg-type]
    metrics = Metrics(service.engine, assistant)
    bearer = HTTPBearer(auto_error=False, description="The server's token, if it has one.")

    def allowed(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if token and not (given and secrets.compare_digest(given.credentials.encode("latin-1"), token.encode())):
            raise RefusedError(401, "This server wants its token: Authorization: Bearer …", "invalid_api_key")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.engine.close)

    app = FastAPI(title="dyprag", version=version("dyprag"), lifespan=lifespan, docs_url="/docs", redoc_url=None)
    app.state.service = service
    app.add_middleware(Guard, body=limits.body, together=limits.rows + limits.waiting, refuse=refusal)
    app.add_middleware(Hosts, names=hosts, refuse=refusal)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
    answer_refusals(app)
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": words} for status, words in STATUSES.items()
    }
    guarded: dict[str, Any] = {"dependencies": [Depends(allowed)]}
    streamed = {"content": {"text/event-stream": {}}, "description": "The answer; in pieces if `stream` is set."}

    @app.post(
        "/v1/chat/completions", response_model=ChatCompletion, responses={200: streamed, **_but(errors, 404)}, **guarded
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Any:
        """Answer the last message, from documents if there are some."""
        began = time.monotonic()
        method: str = body.method or "default"
        try:
            ready = await _within(limits.seconds, service.prepare, body)
            method = ready.method
            pieces: asyncio.Queue[Piece] = asyncio.Queue()
            loop = asyncio.get_running_loop()

            def emit(piece: Piece) -> None:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

            job = service.job(ready, emit, began + limits.seconds)
            service.engine.submit(job)
        except (RefusedError, BusyError) as refused:
            metrics.ended(method, "refused", began)
            if isinstance(refused, BusyError):
                raise RefusedError(429, "As many requests wait as may wait. Try again soon.", "busy") from None
            raise
        reply = _Reply(service, body, ready, job, began)
        if body.stream:
            events = reply.events(pieces, metrics)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        text = ""
        async for piece in listen(pieces, job, request):
            text += piece.text
        metrics.ended(method, piece.finish, began, job)
        if piece.finish in _FAILURES:
            status, message = _FAILURES[piece.finish]
            raise RefusedError(status, message, piece.finish)
        return reply.whole(text, piece.finish)

    @app.get("/v1/models", responses=_only(errors, 401), **guarded)
    async def models() -> Models:
        """The model that is served."""
        return Models(data=[Model(id=assistant.name, created=_STARTED)])

    @app.get("/v1/models/{name:path}", responses=_only(errors, 401, 404), **guarded)
    async def model(name: str) -> Model:
        """The model of this name, if it is served."""
        if name != assistant.name:
            message = f"There is no model {shown(name)}; this server has {assistant.name}."
            raise RefusedError(404, message, "model_not_found", "model")
        return Model(id=assistant.name, created=_STARTED)

    @app.get("/healthz", responses={503: {"model": ErrorAnswer, "description": "It has stopped working."}})
    async def healthz() -> Health:
        """Whether answers can be expected."""
        engine = service.engine
        if not engine.alive:
            raise RefusedError(503, "The engine has stopped. Start the server again.")
        return Health(model=assistant.name, running=engine.running, waiting=engine.waiting, documents=service.count)

    schema = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    refused: dict[int | str, dict[str, Any]] = {401: {"description": STATUSES[401], "content": schema}}

    @app.get("/metrics", response_class=PlainTextResponse, responses=refused, **guarded)
    async def prometheus() -> Response:
        """In Prometheus' text format."""
        return Response(metrics.text(), media_type=metrics.content_type)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        """A page to try it."""
        inline = "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
        policy = f"default-src 'self'; {inline}; frame-ancestors 'none'"
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=headers)

    return app


_STARTED = int(time.time())
_FAILURES = {
    "timeout": (504, "The answer was not there in time. Ask for fewer tokens, or try again when less is asked."),
    "error": (500, "The answer failed; the server's log says why."),
}


async def listen(pieces: "asyncio.Queue[Piece]", job: Job, request: Request | None = None) -> AsyncIterator[Piece]:
    """A job's pieces up to the last; the job is cancelled where nobody listens any more."""
    ended = False
    try:
        while not ended:
            try:
                piece = await asyncio.wait_for(pieces.get(), LISTENING)
            except TimeoutError:
                if request and await request.is_disconnected():
                    job.cancelled = True
                continue
            ended = bool(piece.finish)
            yield piece
    finally:
        job.cancelled = not ended


class _Reply:
    """An answer in the forms of OpenAI's API."""

    def __init__(self, service: Service, body: ChatRequest, ready: Ready, job: Job, began: float) -> None:
        self.ready, self.job, self.began, self.body = ready, job, began, body
        self.head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": service.assistant.name,
        }  # fmt: skip

    def usage(self) -> Usage:
        """Tokens, in and out."""
        given, written = len(self.ready.prompt), len(self.job.ids)
        return Usage(prompt_tokens=given, completion_tokens=written, total_tokens=given + written)

    def made(self) -> Made:
        """How it was made."""
        injected = self.ready.injected if self.job.adapter is not None else ()  # else it was held back
        shown = self.ready.in_prompt
        used = [
            UsedPassage(
                id=one.document.id, text=one.document.passage, score=one.score, in_prompt=one in shown,
                injected=one in injected,
            )
            for one in injected or shown
        ]  # fmt: skip
        seconds = time.monotonic() - self.began
        return Made(method=self.ready.method, passages=used, seconds=seconds, first_token=self.job.waited)

    def whole(self, text: str, finish: str) -> ChatCompletion:
        """All at once."""
        choice = Choice(message=Answer(content=text.strip()), finish_reason=finish)  # type: ignore[arg-type]
        return ChatCompletion(**self.head, choices=[choice], usage=self.usage(), dyprag=self.made())  # type: ignore[arg-type]

    async def events(self, pieces: "asyncio.Queue[Piece]", metrics: Metrics) -> AsyncIterator[str]:
        """As server-sent events."""
        finish = "gone"
        try:
            yield self._event({"role": "assistant", "content": ""})
            async for piece in listen(pieces, self.job):
                finish = piece.finish
                if finish in _FAILURES:
                    yield f"data: {json.dumps(error(_FAILURES[finish][1], 'server_error', finish))}\n\n"
                else:
                    yield self._event({"content": piece.text}, finish)
        finally:
            metrics.ended(self.ready.method, finish or "gone", self.began, self.job)
        if self.body.stream_options and self.body.stream_options.include_usage:
            yield self._event(usage=self.usage().model_dump())
        yield "data: [DONE]\n\n"

    def _event(self, delta: dict[str, str] | None = None, finish: str = "", **more: Any) -> str:
        """A chunk; the one that ends the answer says how it was made."""
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish or None}]
        if finish:
            more["dyprag"] = self.made().model_dump()
        return f"data: {json.dumps({**self.head, 'object': 'chat.completion.chunk', 'choices': choices, **more})}\n\n"


async def _within(seconds: float, prepare: Callable[[ChatRequest], Ready], body: ChatRequest) -> Ready:
    """A request's preparation, in a thread; it is not waited for longer than for an answer."""
    try:
        async with asyncio.timeout(seconds):
            return await to_thread.run_sync(prepare, body, abandon_on_cancel=True)
    except TimeoutError:
        message = "The request could not be prepared in time. Send shorter documents."
        raise RefusedError(504, message, "timeout", "documents" if body.documents else "messages") from None


def _but(errors: dict[int | str, dict[str, Any]], status: int) -> dict[int | str, dict[str, Any]]:
    return {one: words for one, words in errors.items() if one != status}


def _only(errors: dict[int | str, dict[str, Any]], *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: errors[status] for status in statuses}
