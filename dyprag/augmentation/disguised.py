"""Errors that an endpoint or gateway sends with status 200: restore their status, so that they are handled normally."""

from typing import Any

# Words in an error's code or type, as used by OpenAI, OpenRouter, Azure, LiteLLM and others.
_STATUSES = (
    (("invalid_api_key", "authentication", "unauthorized", "unauthenticated"), 401),
    (("billing", "payment", "credit", "balance"), 402),
    (("permission", "forbidden", "access_denied"), 403),
    (("not_found", "no_such", "unknown_model"), 404),
    (("quota", "rate_limit", "too_many", "throttl", "overloaded", "capacity"), 429),
    (("invalid", "bad_request", "context_length", "unsupported", "content_filter", "validation"), 400),
)


async def unmask(response: Any) -> None:
    """HTTP client hook that sets the status of a chat completion's response to that of the error in its body."""
    if response.status_code != 200 or not str(response.request.url.path).endswith("/chat/completions"):
        return
    await response.aread()
    try:
        body = response.json()
    except ValueError:  # UnicodeDecodeError is one
        return
    response.status_code = status_in(body) or 200


def status_in(body: Any) -> int | None:
    """The status of the error that a body contains instead of an answer; None if there is none."""
    if not isinstance(body, dict):
        return None
    error = error_in(body)
    if error is None:
        return None
    fields = error if isinstance(error, dict) else {}
    codes = (fields.get("code"), fields.get("status"), fields.get("status_code"), body.get("code"), body.get("status"))
    for value in codes:
        if isinstance(value, int | str) and str(value).isdecimal() and 400 <= int(value) <= 599:
            return int(value)
    words = " ".join(str(fields.get(name) or "") for name in ("code", "type", "status")).lower().replace(" ", "_")
    return next((status for phrases, status in _STATUSES if any(phrase in words for phrase in phrases)), 500)


def error_in(body: dict[str, Any]) -> Any:
    """The error that a body contains instead of an answer, an object or a text; None if there is none."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if first:
        message = first.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        return None if content else first.get("error")
    if body.get("error"):
        return body["error"]
    if body.get("object") == "error" or (isinstance(body.get("detail"), str | list) and "id" not in body):
        return body
    return None
