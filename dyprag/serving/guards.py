"""Middleware that refuses requests before they are parsed: wrong Host or content type, too large, late, too many."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE = 20.0  # seconds to wait for the next part of a body


class Guard:
    """ASGI middleware that bounds the memory of requests: body bytes × concurrent requests.

    A body of which nothing arrives for PATIENCE seconds is refused (408), so that it takes no place for long.

    Args:
        body: maximum bytes of a request body (413).
        together: maximum concurrent requests with a body (429).
        refuse: creates a response from a status, a message and a code.
    """

    def __init__(self, app: ASGIApp, body: int, together: int, refuse: Callable[[int, str, str], Any]) -> None:
        self._app, self._most, self._together, self._refuse = app, body, together, refuse
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            if scope.get("method") == "HEAD":  # sent by health probes; the server drops the body of the response
                scope = {**scope, "method": "GET"}
            await self._app(scope, receive, send)
            return
        length = _header(scope, b"content-length")
        if length.isdigit() and (len(length) > 18 or int(length) > self._most):
            await self._too_large()(scope, receive, send)
            return
        kind = _header(scope, b"content-type").split(";")[0].strip().lower()
        if scope["path"].startswith("/v1/") and kind != "application/json" and not kind.endswith("+json"):
            reason = f"{kind[:100]!r} is not supported" if kind else "it is missing"
            refused = self._refuse(415, f"Content-Type: {reason}. Send application/json.", "unsupported_media_type")
            await refused(scope, receive, send)
            return
        if self._inside >= self._together:
            busy = self._refuse(429, "The request queue is full. Retry shortly.", "busy")
            await busy(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._bounded(scope, receive, send)
        finally:
            self._inside -= 1

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the bytes as they arrive, since Content-Length may be missing or wrong."""
        received, whole, late = 0, False, False

        async def counted() -> Message:
            nonlocal received, whole, late
            try:
                message = await (receive() if whole else asyncio.wait_for(receive(), PATIENCE))
            except TimeoutError:
                late = True
                raise ValueError("late") from None
            whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._most:
                raise ValueError("too large")
            return message

        async def passed(message: Message) -> None:
            if received <= self._most and not late:  # otherwise the application complains of a truncated body
                await send(message)

        await self._app(scope, counted, passed)
        if late:
            refused = self._refuse(408, "The rest of the request did not arrive. Send it again.", "incomplete")
            await refused(scope, receive, send)
        elif received > self._most:
            await self._too_large()(scope, receive, send)

    def _too_large(self) -> Any:
        return self._refuse(413, f"The request is larger than {self._most:,} bytes.", "too_large")


class Hosts:
    """ASGI middleware that refuses requests with a foreign Host header, which prevents DNS rebinding.

    Args:
        names: accepted host names; "*": any.
        refuse: creates a response from a status, a message and a code.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str], refuse: Callable[[int, str, str], Any]) -> None:
        self._app, self._names, self._refuse = app, [name.strip("[]").lower() for name in names], refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and "*" not in self._names:
            host = _header(scope, b"host").lower()
            name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
            if name not in self._names:
                message = f"Host: {host[:100]!r} is not a name of this server."
                await self._refuse(400, message, "invalid_host")(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _header(scope: Scope, name: bytes) -> str:
    """The first header of this name, as the application reads it."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
