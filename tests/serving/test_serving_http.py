"""The server's HTTP: malformed requests, other paths, origins and hosts, and errors that all have the same format."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_server import ASKED, post, refused, sent, serving, tiny_assistant

from dyprag.errors import ModelError
from dyprag.serving.app import Limits
from dyprag.serving.assistant import Assistant


@pytest.fixture(scope="module")
def assistant(tiny_model: str, folder: Path) -> Assistant:
    return tiny_assistant(tiny_model, folder)


@pytest.fixture(scope="module")
def url(assistant: Assistant) -> Iterator[str]:
    with serving(assistant, limits=Limits(answer=64)) as url:
        yield url


def test_a_malformed_request_gets_an_exact_error(url: str):
    assert "not JSON" in refused(sent(url, '{"messages": ['))["message"]
    assert "JSON object" in refused(sent(url, "null"))["message"]
    assert "JSON object" in refused(sent(url, ""))["message"]
    assert "JSON object" in refused(sent(url, "[1]"))["message"]
    refused(sent(url, '{"messages": ' + "[" * 50_000))
    refused(sent(url, '{"seed": 1' + "0" * 5000 + "}"))
    text = json.dumps({"messages": ASKED})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert "application/json" in refused(sent(url, text, **{"Content-Type": kind}), 415)["message"]
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/problem+json"):
        assert sent(url, text, **{"Content-Type": kind}).status_code == 200


def test_unknown_paths_and_methods_get_helpful_errors(url: str, assistant: Assistant):
    chat = f"{url}/v1/chat/completions"
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = httpx.request(method, chat, headers={"Content-Type": "application/json"})
        assert "accepts POST" in refused(answer, 405)["message"]
        assert answer.headers["Allow"] == "POST"
    assert httpx.head(chat).status_code == 405
    assert "/v1/completions" in refused(httpx.post(f"{url}/v1/completions", json={}), 404)["message"]
    assert httpx.get(f"{url}/v1/models/{assistant.name}").json()["id"] == assistant.name
    assert refused(httpx.get(f"{url}/v1/models/gpt-4o"), 404)["code"] == "model_not_found"
    for path in ("", "/healthz", "/v1/models", "/metrics"):
        answer = httpx.head(f"{url}{path}")
        assert (answer.status_code, answer.content) == (200, b"")


def test_duplicate_headers_and_truncated_bodies_affect_no_other_request(url: str):
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"messages": ASKED, "max_tokens": 1})
    for head in (
        f"Content-Length: {len(body)}\r\nContent-Length: {len(body)}",
        f"Content-Length: {len(body)}\r\nContent-Length: 1",
        "Content-Length: 10000", "Content-Length: -1", f"Content-Length: {'9' * 5000}", "Transfer-Encoding: chunked",
    ):  # fmt: skip
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            lines = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}\r\n\r\n"
            connection.sendall((lines + body).encode())
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(20)
            assert b" 500 " not in connection.recv(4096)
    assert post(url, {"messages": ASKED, "max_tokens": 1}).status_code == 200


def test_cors_is_allowed_only_for_configured_origins(assistant: Assistant):
    asks = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    body, header = {"messages": ASKED, "max_tokens": 1}, {"Authorization": "Bearer t"}
    with serving(assistant) as url:
        assert "access-control-allow-origin" not in post(url, body, headers=asks).headers
    with serving(assistant, origins=["https://chat.example"], token="t") as url:
        allowed = httpx.options(f"{url}/v1/chat/completions", headers=asks)
        assert allowed.status_code == 200  # a preflight request has no token
        assert allowed.headers["access-control-allow-origin"] == "https://chat.example"
        for headers, status in (({**asks, **header}, 200), (asks, 401)):
            answer = post(url, body, headers=headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "https://chat.example"
        other = {**asks, "Origin": "https://evil.example"}
        assert "access-control-allow-origin" not in post(url, body, headers={**other, **header}).headers


def test_a_foreign_host_is_refused_in_the_same_format(assistant: Assistant):
    with serving(assistant, hosts=["127.0.0.1", "localhost", "[::1]"]) as url:
        for host, status in (("evil.example", 400), ("", 400), ("LOCALHOST:80", 200), ("[::1]:80", 200)):
            answer = httpx.get(f"{url}/healthz", headers={"Host": host})
            assert answer.status_code == status
            assert status == 200 or refused(answer)["code"] == "invalid_host"


def test_an_internal_error_has_the_same_format(assistant: Assistant, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    with serving(assistant) as url:
        monkeypatch.setattr("dyprag.serving.service.conversation", broken)
        error = refused(post(url, {"messages": ASKED}), 500)
        assert error["type"] == "server_error"
        assert "secret" not in error["message"]
        monkeypatch.undo()
        assert post(url, {"messages": ASKED, "max_tokens": 1}).status_code == 200


def test_slow_preparation_and_a_refusing_template_get_clear_errors(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch
):
    with serving(assistant, limits=Limits(seconds=0.5)) as url:
        body = {"messages": ASKED, "max_tokens": 1}
        monkeypatch.setattr("dyprag.serving.service.conversation", lambda messages: time.sleep(3))
        began = time.monotonic()
        assert refused(post(url, body), 504)["code"] == "timeout"
        assert time.monotonic() - began < 2.5
        monkeypatch.undo()

        def refusing(*_: Any) -> str:
            raise ModelError("model 'm'", "System role not supported", "Take another.")

        monkeypatch.setattr("dyprag.serving.service.chat_text", refusing)
        assert "System role not supported" in refused(post(url, body))["message"]
        monkeypatch.undo()
        assert post(url, body).status_code == 200
