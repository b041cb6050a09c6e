"""A server of `dyprag serve` for tests, with the tiny model, at a free port."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from conftest import TEXTS, wait_for

from dyprag.config import PipelineConfig
from dyprag.serving.app import create_app
from dyprag.serving.assistant import Assistant, load

QUESTION = "Who built the Ostrel lamp?"
DOCUMENTS = list(TEXTS.values())
ASKED = [{"role": "user", "content": QUESTION}]


def tiny_assistant(model: str, translator: Path) -> Assistant:
    """The assistant of a tiny model, with short answers."""
    return load(config=PipelineConfig.model_validate({
        "model": {"name": model, "dtype": "float32", "device": "cpu"},
        "translator": {"learned": str(translator)},
        "evaluate": {"max_new_tokens": 12, "passages": 2},
    }))  # fmt: skip


@contextmanager
def serving(assistant: Assistant, **options: Any) -> Iterator[str]:
    """A server at work; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(assistant, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        wait_for("the server", lambda: server.started, 60)
        yield url
    finally:
        server.should_exit = True
        thread.join(30)
        app.state.service.engine.close()


def post(url: str, body: Any, **more: Any) -> httpx.Response:
    """A request for a chat completion, and its answer."""
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, **more)


def sent(url: str, text: str, **headers: str) -> httpx.Response:
    """Send a text unchanged, whether it is JSON or not."""
    head = {"Content-Type": "application/json", **headers}
    return httpx.post(
        f"{url}/v1/chat/completions", content=text.encode("utf-8", "surrogatepass"), headers=head, timeout=60
    )


def refused(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of a refused request, which has the form that all errors have."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error
