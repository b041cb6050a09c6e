"""Endpoints and proxies that answer as some do: a real server on loopback, with one function for what it says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, dict[str, Any]], Any]  # path and body; gives a body, or (status, body)
PAIRS = [
    {"question": "Who built the Ostrel lamp?", "answer": "Greta Olmsted", "full_answer": "Greta Olmsted built it."},
    {"question": "When was the Ostrel lamp built?", "answer": "1911", "full_answer": "It was built in 1911."},
]


@dataclass
class Odd:
    """A running server: its address, and the (path, body) of each request."""

    url: str
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def limits(self) -> list[int]:
        """Tokens that each answer might have."""
        return [body["max_tokens"] for path, body in self.asked if path.endswith("/chat/completions")]


@contextmanager
def endpoint(answer: Answer) -> Iterator[Odd]:
    """Serve what a function answers to every request."""
    odd = Odd("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent = json.loads(raw) if raw.startswith(b"{") else {}
            odd.asked.append((self.path, sent))
            said = answer(self.path, sent)
            status, body = said if isinstance(said, tuple) else (200, said)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    odd.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield odd
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def completion(content: Any, finish: str = "stop", thoughts: int = 0, **message: Any) -> dict[str, Any]:
    """A chat completion with a message of any kind."""
    usage = {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "usage": usage | {"completion_tokens_details": {"reasoning_tokens": thoughts}},
        "choices": [{"index": 0, "finish_reason": finish,
                     "message": {"role": "assistant", "content": content, **message}}],
    }  # fmt: skip


def wants(body: dict[str, Any]) -> str:
    """What a request is for: rewrites, qa_pairs, or verify."""
    text = json.dumps(body)
    return next((name for name in ("qa_pairs", "rewrites") if name in text), "verify")
