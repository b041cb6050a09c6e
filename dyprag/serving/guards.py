"""What is refused before a request is read: bodies that are too large, and more requests than can wait."""

from collections.abc import Callable
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
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most:
            await self._too_large()(scope, receive, send)
            return
        if self._inside >= self._together:
            busy = self._refuse(429, "As many requests wait as may wait. Try again soon.", "busy")
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
