"""Requests as clients really send them: unusual values, histories of agents, fields of other servers.

Each is answered, or refused with the name of the field, and none affects another.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from chat_server import ASKED, post, refused, sent, serving, tiny_assistant

from dyprag.corpora.documents import Document
from dyprag.serving.app import Limits
from dyprag.serving.assistant import Assistant
from dyprag.serving.conversation import conversation
from dyprag.serving.schema import Message


@pytest.fixture(scope="module")
def assistant(tiny_model: str, folder: Path) -> Assistant:
    return tiny_assistant(tiny_model, folder)


@pytest.fixture(scope="module")
def url(assistant: Assistant) -> Iterator[str]:
    with serving(assistant, limits=Limits(answer=64)) as url:
        yield url


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
