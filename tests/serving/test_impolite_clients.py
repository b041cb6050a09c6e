"""Clients that leave in the middle, send half a request, or ask by a name that is gone; and stops in leading space."""

import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from chat_server import ASKED, DOCUMENTS, post, refused, serving, tiny_assistant
from conftest import wait_for

from dyprag.serving import guards
from dyprag.serving.app import Limits
from dyprag.serving.assistant import Assistant
from dyprag.serving.jobs import Job, Piece
from dyprag.serving.library import AdapterLibrary
from dyprag.serving.sampling import Wish


@pytest.fixture(scope="module")
def assistant(tiny_model: str, folder: Path) -> Assistant:
    return tiny_assistant(tiny_model, folder)


@pytest.fixture(scope="module")
def url(assistant: Assistant) -> Iterator[str]:
    with serving(assistant, limits=Limits(answer=2000, rows=2)) as url:
        yield url


def connected(url: str, body: str, length: int) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    head = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}"
    connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n{body}".encode())
    return connection


def running(url: str) -> int:
    return int(httpx.get(f"{url}/healthz").json()["running"])


def test_a_client_that_leaves_while_tokens_flow_frees_its_row(url: str):
    """Tokens come all the time, so waiting for one never takes long enough to look whether the client is there."""
    body = '{"messages": [{"role": "user", "content": "Go on."}], "max_tokens": 1500, "logit_bias": {"2": -100}}'
    gone = [connected(url, body, len(body)) for _ in range(2)]
    wait_for("both answers", lambda: running(url) == 2, 30)
    for connection in gone:
        connection.close()
    start = time.monotonic()
    assert post(url, {"messages": ASKED, "max_tokens": 1}).status_code == 200
    wait_for("free rows", lambda: running(url) == 0, 5)
    assert time.monotonic() - start < 8


def test_half_a_request_is_refused_after_a_while(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guards, "PATIENCE", 0.5)
    with connected(url, "{", 100) as connection:
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come apart
            answer += (part := connection.recv(4096))
            assert part, answer
    assert b" 408 " in answer
    assert b"did not arrive" in answer
    monkeypatch.setattr(guards, "PATIENCE", 0.001)  # is not for answers, only for what is sent
    assert post(url, {"messages": ASKED, "max_tokens": 4}).status_code in (200, 408)


def test_an_adapter_that_was_unloaded_is_a_404_by_any_name(assistant: Assistant, tmp_path: Path):
    library = AdapterLibrary(assistant.base, assistant.name, tmp_path)
    with serving(assistant, library=library) as url:
        made = httpx.post(f"{url}/v1/adapters", json={"documents": DOCUMENTS[:1]}, timeout=60).json()
        loaded = {"lora_name": "support", "lora_path": made["id"]}
        assert httpx.post(f"{url}/v1/load_lora_adapter", json=loaded).status_code == 200
        asked = {"messages": ASKED, "model": "support", "max_tokens": 1}
        assert post(url, asked).status_code == 200
        assert httpx.post(f"{url}/v1/unload_lora_adapter", json={"lora_name": "support"}).status_code == 200
        assert "support" in refused(post(url, asked), 404)["message"]
        assert httpx.post(f"{url}/v1/load_lora_adapter", json=loaded).status_code == 200
        assert post(url, asked).status_code == 200


def test_a_model_whose_name_looks_like_an_adapters_is_asked_by_its_name(assistant: Assistant):
    name = assistant.name
    assistant.name = "run-202607010930"
    try:
        with serving(assistant) as url:
            assert post(url, {"messages": ASKED, "model": assistant.name, "max_tokens": 1}).status_code == 200
            refused(post(url, {"messages": ASKED, "model": "run-202607010931", "max_tokens": 1}), 404)
    finally:
        assistant.name = name


@pytest.mark.parametrize(
    ("tokens", "stop", "text"),
    [
        (["\n", "Ada"], ("\n",), ""),
        (["\n\n", "Question:"], ("\n\nQuestion",), ""),
        ([" ", "Ada", "\n", "x"], ("\n",), "Ada"),
        ([" Ada", " built"], (" built",), "Ada"),
        ([" Ada", " built"], ("x",), "Ada built"),
    ],
)
def test_a_stop_may_stand_before_the_answers_first_letter(tokens: list[str], stop: tuple[str, ...], text: str):
    pieces: list[Piece] = []
    job = Job([1], Wish(len(tokens), stop=stop), pieces.append, math.inf)
    for number in range(len(tokens)):
        if job.take(number, {99}, lambda ids: "".join(tokens[i] for i in ids)):
            break
    assert "".join(piece.text for piece in pieces) == text
    assert pieces[-1].finish == ("stop" if stop != ("x",) else "length")
