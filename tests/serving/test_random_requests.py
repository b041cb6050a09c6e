"""Random requests, mostly valid with some unusual fields: each is answered or refused, and no text is lost."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from chat_server import ASKED, QUESTION, post, refused, serving, tiny_assistant
from hypothesis import HealthCheck
from hypothesis import strategies as st

from dyprag.errors import DypragError
from dyprag.serving.app import Limits
from dyprag.serving.assistant import Assistant
from dyprag.serving.conversation import conversation
from dyprag.serving.schema import ChatRequest


@pytest.fixture(scope="module")
def assistant(tiny_model: str, folder: Path) -> Assistant:
    return tiny_assistant(tiny_model, folder)


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
