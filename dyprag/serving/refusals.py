"""What is answered to a request that is not: an error as OpenAI's API gives it, which names the field."""

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
    404: "There is no such model.", 413: "The request is too large.", 415: "The request is not sent as JSON.",
    429: "Too many requests wait.", 500: "The answer failed.", 504: "The answer took too long.",
}  # fmt: skip


class RefusedError(Exception):
    """A request that is not answered, with its HTTP status.

    Args:
        param: the field of the request that is the reason.
    """

    def __init__(self, status: int, message: str, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


def error(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(status: int, message: str, code: str | None = None, param: str | None = None) -> JSONResponse:
    """The whole answer."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    headers = {"Retry-After": "1"} if status == 429 else {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(error(message, kind, code, param), status, headers)


def answer_refusals(app: FastAPI) -> None:
    """Have an application answer so whatever goes wrong."""
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _failed)


async def _refused(_: Request, given: Exception) -> JSONResponse:
    assert isinstance(given, RefusedError)
    return refusal(given.status, str(given), given.code or None, given.param or None)


async def _invalid(request: Request, given: Exception) -> JSONResponse:
    assert isinstance(given, RequestValidationError)
    deepest = max(given.errors(), key=lambda one: len(one["loc"]))  # of what could have been meant, the nearest
    place = _place(deepest["loc"])
    if deepest["type"] == "json_invalid":
        reason = deepest.get("ctx", {}).get("error", "it cannot be read")
        return refusal(400, f"The request is not JSON: {reason} (character {deepest['loc'][-1]}).")
    if not place:
        return refusal(400, "The request has to be a JSON object.")
    return refusal(400, f"{place}: {deepest['msg'].rstrip('.')[:MOST]}.", None, place)


def _place(location: Sequence[int | str]) -> str:
    """The field, as in `messages.0.content`, without pydantic's names of the types that it tried."""
    parts = [str(part) for part in location[1:]]
    return ".".join(part for part in parts if part.isidentifier() or part.isdigit())[:MOST]


async def _unknown(request: Request, given: Exception) -> JSONResponse:
    assert isinstance(given, HTTPException)
    message = str(given.detail)
    if given.status_code in (404, 405):
        told = given.headers.get("Allow") if given.headers else None
        message = f"{request.method} {request.url.path[:100]}: " + (
            f"this path takes {told}." if told else "there is no such path. See /docs."
        )
    answer = refusal(given.status_code, message)
    answer.headers.update(given.headers or {})
    return answer


async def _failed(_: Request, given: Exception) -> JSONResponse:
    return refusal(500, "The server failed; its log says why.")


def shown(value: Any) -> str:
    """A value of a request as its message repeats it."""
    try:
        text = json.dumps(value)
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"
