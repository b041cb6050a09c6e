"""The models routes of OpenAI's API."""

import time

from fastapi import APIRouter

from dyprag.serving.refusals import RefusedError, shown
from dyprag.serving.routes.access import GUARDED, Served, errors
from dyprag.serving.schema import Model, Models

router = APIRouter()
STARTED = int(time.time())


@router.get("/v1/models", responses=errors(401), dependencies=GUARDED)
async def models(service: Served) -> Models:
    """List the served model."""
    return Models(data=[Model(id=service.assistant.name, created=STARTED)])


@router.get("/v1/models/{name:path}", responses=errors(401, 404), dependencies=GUARDED)
async def model(name: str, service: Served) -> Model:
    """Return the model with this name, if it is served."""
    served = service.assistant.name
    if name != served:
        message = f"There is no model {shown(name)}; this server serves {served}."
        raise RefusedError(404, message, "model_not_found", "model")
    return Model(id=served, created=STARTED)
