"""What is refused before a request is read: names that are not the server's, bodies that are too large or no JSON, and
more requests than can wait."""

from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Guard:
    """ASGI middleware: bounds the memory that requests can take, body bytes × requests together.

    Args:
        body: bytes of a request at most (413).
        together: requests with a body that may be in the house (429).
        refuse: makes the answer of a status and a message.
    """

    def __init__(self, app: ASGIApp, body: int, together: int, refuse: Callable[[int, str, str], Any]) -> None:
        self._app, self._most, self._together, self._refuse = app, body, together, refuse
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            if scope.get("method") == "HEAD":  # as probes send it; what sends the answer leaves out the body
                scope = {**scope, "method": "GET"}
            await self._app(scope, receive, send)
            return
        length = _header(scope, b"content-length")
        if length.isdigit() and (len(length) > 18 or int(length) > self._most):
            await self._too_large()(scope, receive, send)
            return
        kind = _header(scope, b"content-type").split(";")[0].strip().lower()
        if scope["path"].startswith("/v1/") and kind != "application/json" and not kind.endswith("+json"):
            said = f"the request is sent as {kind[:100]!r}" if kind else "it is missing"
            refused = self._refuse(415, f"Content-Type: {said}. Send application/json.", "unsupported_media_type")
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
        """Without a length, or with a false one, the bytes are counted as they come."""
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._most:
                raise ValueError("too large")
            return message

        async def passed(message: Message) -> None:
            if got <= self._most:  # else what is said of the broken body is not what was wrong
                await send(message)

        await self._app(scope, counted, passed)
        if got > self._most:
            await self._too_large()(scope, receive, send)

    def _too_large(self) -> Any:
        return self._refuse(413, f"The request is larger than {self._most:,} bytes.", "too_large")


class Hosts:
    """ASGI middleware: refuses requests that were sent to another name than the server's, as a web page does that has
    its own name point to this machine.

    Args:
        names: the server's; "*": any.
        refuse: makes the answer of a status and a message.
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
    """The first header of a name, as the application takes it."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
