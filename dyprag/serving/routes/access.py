"""Shared by the routes: dependencies, the token check, and error responses for the schema."""

import secrets
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dyprag.serving.metrics import Metrics
from dyprag.serving.refusals import STATUSES, RefusedError
from dyprag.serving.schema import ErrorAnswer
from dyprag.serving.service import Service

Responses = dict[int | str, dict[str, Any]]
ERRORS: Responses = {status: {"model": ErrorAnswer, "description": words} for status, words in STATUSES.items()}
ERROR_SCHEMA: dict[str, Any] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
_bearer = HTTPBearer(auto_error=False, description="The server's token, if it requires one.")


# The dependencies are async, though they never wait: FastAPI would run plain functions in its thread pool, which is
# needed for preparing requests.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def _allowed(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    token: str = request.app.state.token
    if token and not (
        credentials and secrets.compare_digest(credentials.credentials.encode("latin-1"), token.encode())
    ):
        raise RefusedError(401, "This server requires its token: Authorization: Bearer …", "invalid_api_key")


Served = Annotated[Service, Depends(_service)]
Counted = Annotated[Metrics, Depends(_metrics)]
GUARDED = [Depends(_allowed)]  # the dependencies of a route that requires the token


def errors(*statuses: int) -> Responses:
    """The error responses with these statuses, for the schema."""
    return {status: ERRORS[status] for status in statuses}


def text_errors(*statuses: int) -> Responses:
    """The error responses of a route that itself returns text: they refer to the schema rather than to the class."""
    return {status: {"description": STATUSES[status], "content": ERROR_SCHEMA} for status in statuses}
