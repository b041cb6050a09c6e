"""Requests and replies of the tests' LLM service, as HTTP has them."""

import asyncio
import json
import re
from dataclasses import dataclass, field

from llm_refusals import Json, error_body

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Json:
        value = json.loads(self.body or b"{}")
        if not isinstance(value, dict):
            raise ValueError("the body is not a JSON object")
        return value


@dataclass
class Reply:
    status: int
    body: Json | bytes
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, bytes]:
        """Head and body."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        kind = "application/octet-stream" if isinstance(self.body, bytes) else "application/json"
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Error')}", *map(": ".join, headers.items())]
        return "\r\n".join([*lines, "", ""]).encode(), body


UNAUTHORISED = Reply(401, error_body("Incorrect API key provided.", code="invalid_api_key"))


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    method, target, _ = first.split(" ", 2)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target.partition("?")[0], headers, body)


def form_parts(request: Request) -> dict[str, tuple[str, bytes]]:
    """The (file name, content) of each field of a multipart/form-data body."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    parts: dict[str, tuple[str, bytes]] = {}
    for part in request.body.split(b"--" + boundary[1].encode())[1:-1] if boundary else ():
        head, _, content = part.partition(b"\r\n\r\n")
        names = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode()))
        parts[names.get("name", "")] = (names.get("filename", ""), content.removesuffix(b"\r\n"))
    return parts
