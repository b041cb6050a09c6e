"""Error responses in the format of OpenAI's API, with the field at fault."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MOST = 500  # characters of a message

STATUSES = {
    400: "A request that cannot be answered; the message says why.", 401: "The token is missing or wrong.",
    404: "There is no such model.", 413: "The request is too large.", 415: "The content type is not JSON.",
    429: "The request queue is full.", 500: "The answer failed.", 504: "The answer took too long.",
}  # fmt: skip


class RefusedError(Exception):
    """A request that is not answered, with its HTTP status.

    Args:
        param: the field of the request at fault.
    """

    def __init__(self, status: int, message: str, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


def error(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """The body of an error response."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(status: int, message: str, code: str | None = None, param: str | None = None) -> JSONResponse:
    """An error response."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    headers = {"Retry-After": "1"} if status == 429 else {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(error(message, kind, code, param), status, headers)


def answer_refusals(app: FastAPI) -> None:
    """Register error handlers, so that all errors of an application have this format."""
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _failed)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return refusal(error.status, str(error), error.code or None, error.param or None)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    deepest = max(error.errors(), key=lambda detail: len(detail["loc"]))  # in a union, the variant that matched best
    field = _field(deepest["loc"])
    if deepest["type"] == "json_invalid":
        reason = deepest.get("ctx", {}).get("error", "it cannot be read")
        return refusal(400, f"The request is not JSON: {reason} (character {deepest['loc'][-1]}).")
    if not field:
        return refusal(400, "The request must be a JSON object.")
    return refusal(400, f"{field}: {deepest['msg'].rstrip('.')[:MOST]}.", None, field)


def _field(location: Sequence[int | str]) -> str:
    """The field, such as `messages.0.content`, without pydantic's names of union variants."""
    parts = [str(part) for part in location[1:]]
    return ".".join(part for part in parts if part.isidentifier() or part.isdigit())[:MOST]


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code in (404, 405):
        allowed = error.headers.get("Allow") if error.headers else None
        message = f"{request.method} {request.url.path[:100]}: " + (
            f"this path accepts {allowed}." if allowed else "there is no such path. See /docs."
        )
    answer = refusal(error.status_code, message)
    answer.headers.update(error.headers or {})
    return answer


async def _failed(_: Request, error: Exception) -> JSONResponse:
    return refusal(500, "Internal server error; see the server's log.")


def shown(value: Any) -> str:
    """A value of a request as shown in an error message."""
    try:
        text = json.dumps(value)
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"
