"""Requests as clients really send them: unusual values, histories of agents, fields of other servers.

Each is answered, or refused with the name of the field, and none affects another.
"""

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from chat_server import ASKED, QUESTION, post, serving, tiny_assistant
from hypothesis import HealthCheck
from hypothesis import strategies as st

from dyprag.corpora.documents import Document
from dyprag.errors import DypragError, ModelError
from dyprag.serving.app import Limits
from dyprag.serving.assistant import Assistant
from dyprag.serving.conversation import conversation
from dyprag.serving.schema import ChatRequest, Message


@pytest.fixture(scope="module")
def assistant(tiny_model: str, folder: Path) -> Assistant:
    return tiny_assistant(tiny_model, folder)


@pytest.fixture(scope="module")
def url(assistant: Assistant) -> Iterator[str]:
    with serving(assistant, limits=Limits(answer=64)) as url:
        yield url


def sent(url: str, text: str, **headers: str) -> httpx.Response:
    """Send a text unchanged, whether it is JSON or not."""
    head = {"Content-Type": "application/json", **headers}
    return httpx.post(
        f"{url}/v1/chat/completions", content=text.encode("utf-8", "surrogatepass"), headers=head, timeout=60
    )


def refused(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


ANSWERED = [
    '"temperature": 1e-38', '"temperature": 1e-40', '"temperature": 1e-300', '"temperature": 5e-324',
    '"temperature": 1e-400', '"temperature": -0.0', '"temperature": 1e-4', '"temperature": 2', '"temperature": "0.5"',
    '"temperature": null', '"temperature": 1, "top_p": 0', '"temperature": 1, "top_p": 1e-40',
    '"temperature": 1, "top_p": 1e-300', '"temperature": 1, "top_p": null', '"temperature": 1, "top_k": 0',
    '"temperature": 1, "top_k": -1', '"temperature": 1, "top_k": 1', f'"temperature": 1, "top_k": {10**30}',
    '"temperature": 2, "min_p": 1', '"temperature": 2, "min_p": 1e-300', '"presence_penalty": 2', '"n": null',
    '"frequency_penalty": -2', '"repetition_penalty": 1.3', '"repetition_penalty": 0.01', '"repetition_penalty": 100',
    '"logit_bias": {}', '"logit_bias": {"7": 100, "8": -100}', '"logit_bias": null',
    f'"temperature": 1, "seed": {2**64}', f'"temperature": 1, "seed": {-10**40}', '"temperature": 1, "seed": -1',
    '"stop": ""', '"stop": [""]', '"stop": []', '"stop": null', '"stop": ["", "zzz"]',
    '"stop": ["a", "b", "c", "d", "e"]',
    '"max_tokens": null', '"max_tokens": null, "max_completion_tokens": 3', '"response_format": {"type": "text"}',
    '"format": "text", "regex": "", "stop_token_ids": [], "bad_words": null', '"response_format": null',
    '"logprobs": false, "top_logprobs": null', '"logprobs": null', '"best_of": 1',
    '"tools": [{"type": "function", "function": {"name": "f"}}]', '"tools": [], "tool_choice": "auto"',
    '"tool_choice": "none", "parallel_tool_calls": true', '"modalities": ["text"]', '"modalities": null',
    '"user": "me", "metadata": {"a": "b"}, "store": true, "service_tier": "auto", "reasoning_effort": "low"',
    '"stream_options": {"include_usage": true}', '"stream_options": {"include_usage": null}', '"stream": null',
    '"unknown": NaN', '"unknown": {"deep": [[[[1]]]]}', '"model": null', '"model": "gpt-4o"', '"model": "a\\u0000b"',
    '"documents": [{"text": "The Ostrel lamp.", "title": null, "id": null}]', '"documents": []', '"method": null',
]  # fmt: skip


@pytest.mark.parametrize("fields", ANSWERED)
def test_unusual_but_valid_values_are_answered(url: str, fields: str):
    answer = sent(url, f'{{"messages": {json.dumps(ASKED)}, "max_tokens": 3, {fields}}}')
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] in ("stop", "length")


REFUSED = [
    ("temperature", '"temperature": NaN'), ("temperature", '"temperature": Infinity'),
    ("temperature", '"temperature": -Infinity'), ("temperature", '"temperature": 1e999'),
    ("temperature", '"temperature": -1e-40'), ("temperature", '"temperature": 1e300'),
    ("temperature", '"temperature": "hot"'), ("temperature", '"temperature": [1]'), ("top_p", '"top_p": 1.0001'),
    ("top_p", '"top_p": NaN'), ("top_k", '"top_k": -2'), ("top_k", '"top_k": 1.5'), ("min_p", '"min_p": 2'),
    ("presence_penalty", '"presence_penalty": 2.1'), ("frequency_penalty", '"frequency_penalty": NaN'),
    ("repetition_penalty", '"repetition_penalty": 0'), ("repetition_penalty", '"repetition_penalty": 1e300'),
    ("logit_bias", '"logit_bias": {"7": 101}'), ("logit_bias", '"logit_bias": {"seven": 1}'),
    ("logit_bias", '"logit_bias": {"999999999": 1}'), ("logit_bias", '"logit_bias": {"-1": 1}'),
    ("logit_bias", '"logit_bias": [1]'), ("max_tokens", '"max_tokens": 0'), ("max_tokens", '"max_tokens": -1'),
    ("max_tokens", f'"max_tokens": {10**30}'), ("max_completion_tokens", '"max_completion_tokens": 65'),
    ("max_completion_tokens", '"max_completion_tokens": 0'), ("n", '"n": 0'), ("n", '"n": 2'),
    ("best_of", '"best_of": 3'), ("seed", '"seed": 1.5'), ("seed", '"seed": "x"'), ("stop", f'"stop": "{"a" * 201}"'),
    ("stop", f'"stop": {json.dumps(["a"] * 17)}'), ("stop", '"stop": [1]'), ("stop", '"stop": {"a": 1}'),
    ("logprobs", '"logprobs": true'), ("logprobs", '"logprobs": 5'), ("top_logprobs", '"top_logprobs": 2'),
    ("response_format", '"response_format": {"type": "json_object"}'),
    ("response_format", '"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": {}}}'),
    ("response_format", '"response_format": "json"'), ("guided_json", '"guided_json": {"type": "object"}'),
    ("regex", '"regex": "[a-z]+"'), ("ebnf", '"ebnf": "root ::= [a-z]"'), ("format", '"format": "json"'),
    ("format", '"format": {"type": "object"}'), ("structural_tag", '"structural_tag": "{}"'),
    ("stop_token_ids", '"stop_token_ids": [2]'), ("bad_words", '"bad_words": ["lamp"]'),
    ("allowed_token_ids", '"allowed_token_ids": [5, 6]'),
    ("grammar", '"grammar": "root ::= [a-z]"'), ("tool_choice", '"tool_choice": "required"'),
    ("tool_choice", '"tool_choice": {"type": "function", "function": {"name": "f"}}'),
    ("function_call", '"function_call": {"name": "f"}'), ("modalities", '"modalities": ["text", "audio"]'),
    ("stream", '"stream": "perhaps"'), ("stream_options", '"stream_options": 3'), ("documents", '"documents": "text"'),
    ("passages", '"passages": 0'), ("model", '"model": 3'), ("method", '"method": ""'), ("echo", '"echo": true'),
]  # fmt: skip


@pytest.mark.parametrize(("field", "fields"), REFUSED)
def test_unsupported_fields_are_refused_by_name(url: str, field: str, fields: str):
    error = refused(sent(url, f'{{"messages": {json.dumps(ASKED)}, {fields}}}'))
    assert field in error["message"]
    assert error["param"].split(".")[0] == field
    assert error["type"] == "invalid_request_error"


CALLED = {
    "role": "assistant", "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Brevik"}'}}],
}  # fmt: skip
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "Sunny"}
SUNNY = 'Result of weather({"at": "Brevik"}):\nSunny'


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistants(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


HISTORIES: dict[str, tuple[list[dict[str, Any]], tuple[list[tuple[str, str]], str, str]]] = {
    "turns": ([user("A?"), assistants("B."), user("C?")], ([("A?", "B.")], "C?", "C?")),
    "a tool": ([user("A?"), CALLED, RESULT, user("So?")], ([], f"A?\n\n{SUNNY}\n\nSo?", "So?")),
    "a tool last": ([user("A?"), CALLED, RESULT], ([], f"A?\n\n{SUNNY}", "A?")),
    "a tool that was answered": (
        [user("A?"), CALLED, RESULT, assistants("It is sunny."), user("So?")],
        ([(f"A?\n\n{SUNNY}", "It is sunny.")], "So?", "So?"),
    ),
    "words and a call": (
        [user("A?"), {**CALLED, "content": "I look."}, RESULT, user("So?")],
        ([("A?", "I look.")], f"{SUNNY}\n\nSo?", "So?"),
    ),
    "an empty text and a call": ([user("A?"), {**CALLED, "content": ""}, RESULT], ([], f"A?\n\n{SUNNY}", "A?")),
    "no parts and a call": ([user("A?"), {**CALLED, "content": []}, RESULT], ([], f"A?\n\n{SUNNY}", "A?")),
    "a result in parts": (
        [user("A?"), CALLED, {**RESULT, "content": [{"type": "text", "text": "Sunny"}]}],
        ([], f"A?\n\n{SUNNY}", "A?"),
    ),
    "an old function": (
        [user("A?"), assistants(None, function_call={"name": "f", "arguments": "{}"}),
         {"role": "function", "name": "f", "content": "1"}],
        ([], "A?\n\nResult of f:\n1", "A?"),
    ),
    "calls that are none": (
        [user("A?"), assistants(None, tool_calls=[3, {"id": 5}, {"id": "c", "function": "f"}]), user("B?")],
        ([], "A?\n\nB?", "B?"),
    ),
    "an unknown call": ([user("A?"), {"role": "tool", "content": "1"}], ([], "A?\n\nResult of a tool:\n1", "A?")),
    "two users": ([user("Look."), user("A?")], ([], "Look.\n\nA?", "A?")),
    "two assistants": (
        [user("A?"), assistants("B."), assistants("C."), user("D?")], ([("A?", "B.\n\nC.")], "D?", "D?"),
    ),
    "a greeting": ([assistants("Hello!"), user("A?")], ([("", "Hello!")], "A?", "A?")),
    "an assistant that refused": (
        [user("A?"), assistants(None, refusal="No."), user("B?")], ([("A?", "No.")], "B?", "B?"),
    ),
    "a part that refused": (
        [user("A?"), assistants([{"type": "refusal", "refusal": "No."}]), user("B?")], ([("A?", "No.")], "B?", "B?"),
    ),
    "an empty answer": ([user("A?"), assistants(""), user("B?")], ([("A?", "")], "B?", "B?")),
    "plain texts as parts": ([user(["A", {"type": "text", "text": "B?"}])], ([], "A\nB?", "A\nB?")),
    "half an emoji": ([user("A?\ud83d")], ([], "A??", "A??")),
}  # fmt: skip


@pytest.mark.parametrize(("messages", "expected"), HISTORIES.values(), ids=HISTORIES.keys())
def test_a_history_becomes_turns_and_is_answered(url: str, messages: list[dict[str, Any]], expected: Any):
    read = conversation([Message.model_validate(message) for message in messages])
    assert (read.history, read.question, read.searched) == expected
    body = {"messages": [{"role": "system", "content": "Be brief."}, *messages], "max_tokens": 2}
    for more in ({}, {"documents": ["A lamp stands in Brevik."], "method": "dyprag-combine"}):
        answer = sent(url, json.dumps({**body, **more}))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "messages"), ("hello", "messages"), ([{"role": "system", "content": "Be brief."}], "no user message"),
        ([user("A?"), assistants("B.")], "must be from the user"), ([user("")], "empty"), ([user(None)], "messages.0"),
        ([user([])], "messages.0"), ([user([{"type": "text"}])], "messages.0.content.0"),
        ([user([{"type": "image_url", "image_url": {"url": "https://x"}}])], "messages.0.content.0: parts of this"),
        ([user(3)], "messages.0.content"),
        ([user([{"type": "input_audio", "input_audio": {}}, "A?"])], "only text"), (["A?"], "messages.0"),
        ([{"role": "admin", "content": "A?"}], "messages.0.role"), ([{"content": "A?"}], "messages.0.role"),
        ([user("A?"), CALLED, {**RESULT, "content": None}], "messages.2"), (ASKED * 1001, "messages"),
        ([user("A?"), {**CALLED, "tool_calls": "all"}, RESULT], "messages.1.tool_calls"),
        ([user("word " * 30_000)], "messages: the prompt has"),
    ],
)  # fmt: skip
def test_invalid_messages_are_refused_with_their_field(url: str, messages: Any, words: str):
    error = refused(post(url, {"messages": messages}))
    assert words in error["message"]
    assert error["param"].startswith("messages")
    assert len(error["message"]) < 600


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


def test_unusual_requests_do_not_change_the_answers_of_others(assistant: Assistant):
    bodies: list[dict[str, Any]] = [
        {"messages": [user(f"What is said of number {n}?")], "documents": [f"Number {n} is a lamp."], "max_tokens": 40,
         "method": ("dyprag", "rag", "vanilla")[n % 3]} for n in range(6)
    ]  # fmt: skip
    odd: list[str] = [
        f'{{"messages": {json.dumps(ASKED)}, "max_tokens": 30, {fields}}}'
        for fields in [*ANSWERED[:40], *(fields for _, fields in REFUSED[:20]), '"documents": ["\\ufffe \\u0000 a"]']
    ]
    with serving(assistant, limits=Limits(rows=8)) as url:
        alone = [post(url, body).json()["choices"] for body in bodies]
        with ThreadPoolExecutor(12) as pool:
            statuses = pool.map(lambda text: sent(url, text).status_code, odd)
            for _ in range(4):
                together = list(pool.map(lambda body: post(url, body), bodies))
                assert [answer.json()["choices"] for answer in together] == alone
            assert set(statuses) <= {200, 400}


def test_requests_never_share_passages(assistant: Assistant):
    with serving(
        assistant, documents=[Document("house", "The secret of the house is Zyx.")], limits=Limits(rows=8)
    ) as url:

        def asked(number: int) -> tuple[int, list[str]]:
            texts = [f"The secret of visitor {number} is W{number}.", "The secret is shared."] if number % 4 else []
            given = {"documents": texts} if texts else {}
            body = {"messages": [user("What is the secret?")], "max_tokens": 2, **given}
            answer = post(url, body).json()
            used = [passage["text"] for passage in answer["dyprag"]["passages"]]
            return number, [text for text in used if text not in (texts or ["The secret of the house is Zyx."])]

        with ThreadPoolExecutor(8) as pool:
            assert [foreign for _, foreign in pool.map(asked, range(32)) if foreign] == []


ODD_TEXTS = ["", " ", "\x00", "\ud83d", "<|im_end|>", "a" * 5000, "日本語", "\u202e", "{{ x }}"]
ODD_FLOATS = [0, 1e-38, 1e-40, 5e-324, -0.0, 1e308, 2, 10**400, "1", "x", None, True]
TEXTS = st.one_of(st.just(QUESTION), st.text(max_size=60), st.sampled_from(ODD_TEXTS))
FLOATS = st.one_of(st.floats(0, 1), st.floats(0, 2), st.floats(), st.sampled_from(ODD_FLOATS))
WHOLE = st.one_of(st.integers(1, 16), st.integers(), st.sampled_from([0, -1, 2**63, -(2**63), 10**30, "3", 1.0, None]))
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)  # fmt: skip
PARTS = st.lists(TEXTS | st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), min_size=1, max_size=3)
ODD_PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["image_url", "refusal", "file"])}) | JUNK, max_size=2
)
CALLS = st.fixed_dictionaries({"id": TEXTS, "type": st.just("function"), "function": st.fixed_dictionaries(
    {"name": TEXTS, "arguments": TEXTS | JUNK}
)})  # fmt: skip
CONTENT = st.one_of(TEXTS, TEXTS, PARTS)
MESSAGE = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "developer"]), "content": CONTENT}),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.none() | CONTENT, "tool_calls": st.lists(CALLS, max_size=2)},
        optional={"refusal": TEXTS | st.none(), "name": TEXTS, "function_call": JUNK},
    ),
    st.fixed_dictionaries({"role": st.sampled_from(["tool", "function"]), "content": CONTENT, "tool_call_id": TEXTS}),
)  # fmt: skip
ODD_MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "x"]), "content": st.one_of(ODD_PARTS, st.none(), JUNK)}
)
ENDED = st.lists(MESSAGE, max_size=5).map(lambda some: [*some, *ASKED])
MESSAGES = st.one_of(ENDED, ENDED, ENDED, ENDED, st.lists(MESSAGE | ODD_MESSAGE, max_size=4), JUNK)
DOCUMENTS = st.lists(TEXTS | st.fixed_dictionaries({"text": TEXTS, "title": TEXTS | st.none()}), min_size=1, max_size=3)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["temperature", "top_p", "min_p", "frequency_penalty", "repetition_penalty"], FLOATS),
    **dict.fromkeys(["max_tokens", "max_completion_tokens", "seed", "top_k", "n", "best_of", "passages"], WHOLE),
    **dict.fromkeys(["logprobs", "response_format", "tools", "tool_choice", "modalities", "user", "else"], JUNK),
    "stop": st.one_of(TEXTS, st.lists(TEXTS, max_size=6), JUNK),
    "logit_bias": st.dictionaries(st.integers(-1, 450).map(str), st.integers(-100, 100) | FLOATS, max_size=4) | JUNK,
    "stream": st.booleans(), "stream_options": st.fixed_dictionaries({"include_usage": st.booleans() | st.none()}),
    "documents": st.one_of(DOCUMENTS, DOCUMENTS, JUNK), "model": TEXTS | JUNK,
    "method": st.sampled_from(["vanilla", "rag", "dyprag", "dyprag-combine", "", None]),
}  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly valid messages with some unusual fields, so that many requests are answered."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=4, unique=True))
    return {"messages": draw(MESSAGES), "temperature": 1.0, **{name: draw(FIELDS[name]) for name in names}}


def test_no_request_causes_a_500_or_stops_the_engine(assistant: Assistant):
    with serving(assistant, limits=Limits(answer=16, rows=4)) as url, httpx.Client(timeout=30) as client:
        expected = post(url, {"messages": ASKED, "max_tokens": 8}).json()["choices"]
        statuses: Counter[int] = Counter()

        @hypothesis.settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
        @hypothesis.given(body=bodies())
        def sent_any(body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            answer = client.post(
                f"{url}/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}
            )
            statuses[answer.status_code] += 1
            assert answer.status_code in (200, 400), answer.text
            if answer.status_code == 400:
                refused(answer)
            assert "server_error" not in answer.text

        sent_any()
        assert statuses[200] > 3
        assert post(url, {"messages": ASKED, "max_tokens": 8}).json()["choices"] == expected
        assert httpx.get(f"{url}/healthz").json()["running"] == 0


@hypothesis.settings(max_examples=150, database=None)
@hypothesis.given(messages=MESSAGES)
def test_any_history_becomes_alternating_turns_or_is_refused(messages: Any):
    from pydantic import ValidationError

    from dyprag.serving.refusals import RefusedError

    try:
        body = ChatRequest.model_validate({"messages": messages})
        read = conversation(body.messages)
    except (ValidationError, RefusedError):
        return
    except DypragError as error:
        pytest.fail(str(error))
    assert read.question.strip()
    assert read.searched.strip()
    texts = [message.text for message in body.messages if message.role in ("user", "tool") and message.text.strip()]
    whole = "\n".join([*(text for turn in read.history for text in turn), read.question])
    assert all(text in whole for text in texts)  # no text is lost
