"""The HTTP server: OpenAI's chat completions API for one base model, a demo page, health and metrics."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware

from dyprag.corpora.documents import Document
from dyprag.corpora.retrieval import BM25Retriever, Retriever
from dyprag.serving.assistant import Assistant
from dyprag.serving.guards import Guard, Hosts
from dyprag.serving.library import AdapterLibrary
from dyprag.serving.metrics import Metrics
from dyprag.serving.refusals import answer_refusals, refusal
from dyprag.serving.routes import adapters, chat, health, models, page
from dyprag.serving.service import Limits, Service

__all__ = ["Limits", "create_app"]


def create_app(
    assistant: Assistant,
    documents: Sequence[Document] | tuple[Retriever, int] = (),
    limits: Limits = Limits(),
    token: str = "",
    hosts: Sequence[str] = ("*",),
    origins: Sequence[str] = (),
    library: AdapterLibrary | None = None,
) -> FastAPI:
    """Create the server's application.

    Args:
        documents: searched for requests without documents: documents, or a retriever and its number of passages.
        token: the bearer token that clients must send; empty: none.
        hosts: accepted values of the Host header. Others are refused, which prevents DNS rebinding.
        library: the adapters that can be asked as models; None: a new library in a temporary folder.
        origins: web origins that may call the server from a browser, such as https://chat.example, or "*" for all.
    """
    if documents and isinstance(documents[0], Document):
        passages = assistant.passages(documents)  # type: ignore[arg-type]
        documents = (BM25Retriever(passages), len(passages))
    library = AdapterLibrary(assistant.base, assistant.name) if library is None else library
    service = Service(assistant, documents or None, limits, library)  # type: ignore[arg-type]
    app = FastAPI(title="dyprag", version=version("dyprag"), lifespan=_closing, docs_url="/docs", redoc_url=None)
    app.state.service, app.state.metrics, app.state.token = service, Metrics(service.engine, assistant, library), token
    app.add_middleware(Guard, body=limits.body, together=limits.rows + limits.waiting, refuse=refusal)
    app.add_middleware(Hosts, names=hosts, refuse=refusal)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
    answer_refusals(app)
    for part in (chat, adapters, models, health, page):
        app.include_router(part.router)
    return app


@asynccontextmanager
async def _closing(app: FastAPI) -> AsyncIterator[None]:
    yield
    await run_in_threadpool(app.state.service.engine.close)
    await run_in_threadpool(app.state.service.library.close)
