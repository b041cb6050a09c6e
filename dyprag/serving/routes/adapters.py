"""Named adapters: documents become an adapter once, which is then asked as a model; and vLLM's routes for adapters."""

import asyncio
import time
from typing import Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, PlainTextResponse

from dyprag.adapters.exchange.export import PEFT_FILES
from dyprag.errors import ExportError
from dyprag.serving.jobs import BusyError, Piece
from dyprag.serving.library import Named, UnknownAdapterError
from dyprag.serving.refusals import RefusedError, shown
from dyprag.serving.routes.access import ERRORS, GUARDED, Responses, Served, errors, text_errors
from dyprag.serving.schema import AdapterRequest, LoadRequest, MadeOf, NamedAdapter, NamedAdapters, UnloadRequest
from dyprag.serving.service import Service

router = APIRouter()
MADE: Responses = {
    201: {"model": NamedAdapter, "description": "The adapter was made now."},
    **{status: words for status, words in ERRORS.items() if status != 404},
}
FILE: dict[str, Any] = {"content": {"application/octet-stream": {}}, "description": "The file."}
LOADED: Responses = {
    200: {"content": {"text/plain": {}}, "description": "Done."}, **text_errors(400, 401, 404, 413, 415, 429)
}  # fmt: skip


@router.post("/v1/adapters", responses=MADE, dependencies=GUARDED)
async def make_adapter(body: AdapterRequest, response: Response, service: Served) -> NamedAdapter:
    """Make an adapter from documents; its id is a model's name in chats from then on.

    The same documents and question give the same id, and the adapter is not written again.
    """
    start = time.monotonic()
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()

    def end(finish: str) -> None:
        if not ended.done():
            ended.set_result(finish)

    def emit(piece: Piece) -> None:
        loop.call_soon_threadsafe(end, piece.finish)

    passages = await to_thread.run_sync(service.sources, body)
    job = service.adapter_job(passages, emit, start + service.limits.seconds)
    try:
        service.engine.submit(job)
    except BusyError:
        raise RefusedError(429, "The request queue is full. Retry shortly.", "busy") from None
    try:
        finish = await ended
    finally:
        job.cancelled = not ended.done()
    if finish != "stop" or job.adapter is None:
        if finish == "timeout":
            raise RefusedError(504, "The adapter was not made in time. Send shorter documents.", finish, "documents")
        raise RefusedError(500, "The adapter could not be made; see the server's log.", "error")
    made_of = [(passage.document.id, passage.score) for passage in passages]
    first = body.documents[0]
    titled = "" if isinstance(first, str) else first.title or first.id
    label = body.name or body.question or titled or passages[0].document.text
    try:
        named, made = await to_thread.run_sync(
            service.library.add, job.adapter, label, made_of, body.question, int(time.time())
        )
    except ExportError as error:
        raise RefusedError(500, f"The adapter cannot be written: {error.reason}.", "error") from None
    response.status_code = 201 if made else 200
    return described(named, service)


@router.get("/v1/adapters", responses=errors(401), dependencies=GUARDED)
async def adapters(service: Served) -> NamedAdapters:
    """List the adapters, the newest first."""
    return NamedAdapters(data=[described(named, service) for named in service.library.all()])


@router.get("/v1/adapters/{name}/files/{file}", responses={200: FILE, **errors(401, 404)}, dependencies=GUARDED,
            response_class=FileResponse)  # fmt: skip
async def adapter_file(name: str, file: Literal[PEFT_FILES], service: Served) -> Any:  # type: ignore[valid-type]
    """Return one of the two files of an adapter in PEFT's format."""
    try:
        path = service.library.get(name).folder / file
    except UnknownAdapterError:
        raise _unknown(name) from None
    if not await to_thread.run_sync(path.is_file):
        raise _unknown(name)
    return FileResponse(path, media_type="application/octet-stream")


@router.get("/v1/adapters/{name:path}", responses=errors(401, 404), dependencies=GUARDED)
async def adapter(name: str, service: Served) -> NamedAdapter:
    """Return the adapter of this name."""
    try:
        return described(service.library.get(name), service)
    except UnknownAdapterError:
        raise _unknown(name) from None


@router.delete("/v1/adapters/{name:path}", responses=errors(401, 404), dependencies=GUARDED)
async def delete_adapter(name: str, service: Served) -> Response:
    """Forget an adapter, and remove its folder if this server made it."""
    try:
        await to_thread.run_sync(service.library.remove, name)
    except UnknownAdapterError:
        raise _unknown(name) from None
    return Response(status_code=204)


@router.post("/v1/load_lora_adapter", response_class=PlainTextResponse, responses=LOADED,
             dependencies=GUARDED)  # fmt: skip
async def load_lora_adapter(body: LoadRequest, service: Served) -> Any:
    """Give a folder among the server's adapters a name, as vLLM does."""
    try:
        await to_thread.run_sync(service.library.load, body.lora_name, body.lora_path, int(time.time()))
    except ValueError as error:
        raise RefusedError(400, f"{error}.", param=str(error).split(":")[0]) from None
    return f"Success: LoRA adapter '{body.lora_name}' added successfully."


@router.post("/v1/unload_lora_adapter", response_class=PlainTextResponse, responses=LOADED,
             dependencies=GUARDED)  # fmt: skip
async def unload_lora_adapter(body: UnloadRequest, service: Served) -> Any:
    """Forget a name, as vLLM does. The folder stays."""
    try:
        service.library.unload(body.lora_name)
    except UnknownAdapterError:
        raise _unknown(body.lora_name) from None
    return f"Success: LoRA adapter '{body.lora_name}' removed successfully."


def described(named: Named, service: Service) -> NamedAdapter:
    """An adapter as the API describes it."""
    return NamedAdapter(
        id=named.name, created=named.created, parent=service.assistant.name,
        fingerprint=service.assistant.base.fingerprint, path=str(named.folder), rank=named.rank,
        alpha=named.alpha, bytes=named.bytes, question=named.question,
        passages=[MadeOf(id=identity, score=score) for identity, score in named.made_of],
    )  # fmt: skip


def _unknown(name: str) -> RefusedError:
    return RefusedError(404, f"There is no adapter {shown(name)}. POST /v1/adapters makes one.", "model_not_found")
