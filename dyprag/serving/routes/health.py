"""Health check and metrics."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from dyprag.serving.refusals import RefusedError
from dyprag.serving.routes.access import GUARDED, Counted, Responses, Served, text_errors
from dyprag.serving.schema import ErrorAnswer, Health

router = APIRouter()
STOPPED: Responses = {503: {"model": ErrorAnswer, "description": "The engine has stopped."}}


@router.get("/healthz", responses=STOPPED)
async def healthz(service: Served) -> Health:
    """Report whether the server can answer."""
    engine = service.engine
    if not engine.alive:
        raise RefusedError(503, "The engine has stopped. Restart the server.")
    model, documents = service.assistant.name, service.count
    return Health(model=model, running=engine.running, waiting=engine.waiting, documents=documents)


@router.get("/metrics", response_class=PlainTextResponse, responses=text_errors(401), dependencies=GUARDED)
async def prometheus(metrics: Counted) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(metrics.text(), media_type=metrics.content_type)
