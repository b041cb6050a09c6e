"""The models routes of OpenAI's API."""

import time
from contextlib import suppress

from fastapi import APIRouter

from dyprag.serving.library import Named, UnknownAdapterError
from dyprag.serving.refusals import RefusedError, shown
from dyprag.serving.routes.access import GUARDED, Served, errors
from dyprag.serving.schema import Model, Models
from dyprag.serving.service import Service

router = APIRouter()
STARTED = int(time.time())


@router.get("/v1/models", responses=errors(401), dependencies=GUARDED)
async def models(service: Served) -> Models:
    """List the base model and the adapters, which can be asked by their names."""
    base = Model(id=service.assistant.name, created=STARTED)
    return Models(data=[base, *(_of_adapter(named, service) for named in service.library.all())])


@router.get("/v1/models/{name:path}", responses=errors(401, 404), dependencies=GUARDED)
async def model(name: str, service: Served) -> Model:
    """Return the model or the adapter with this name, if it is served."""
    served = service.assistant.name
    with suppress(UnknownAdapterError):
        return _of_adapter(service.library.get(name), service)
    if name != served:
        message = f"There is no model {shown(name)}; this server serves {served}."
        raise RefusedError(404, message, "model_not_found", "model")
    return Model(id=served, created=STARTED)


def _of_adapter(named: Named, service: Service) -> Model:
    return Model(id=named.name, created=named.created, parent=service.assistant.name, root=str(named.folder))
