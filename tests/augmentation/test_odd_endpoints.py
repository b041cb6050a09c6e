"""Unusual answers of endpoints: errors with status 200, only thoughts, refusals, failed batches."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from augmenters import augmenter_of
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_endpoints import PAIRS, Answer, Odd, completion, endpoint, wants

from dyprag.augmentation.api import ApiAugmenter
from dyprag.augmentation.diagnosis import base_address
from dyprag.augmentation.disguised import status_in
from dyprag.corpora.documents import Document
from dyprag.corpora.products import Product, ProductName
from dyprag.errors import DocumentError, Stopped, Waiting
from dyprag.storage.artifacts import Store

LAMP = Document("lamp", "The Ostrel lamp was built in 1911 by Greta Olmsted. It stands 24 metres above Brevik Harbour.")
THOUGHT = "<think>\nThe passage is short.\n</think>\n\n"
GOOD = json.dumps({"qa_pairs": PAIRS})


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., ApiAugmenter]:
    def make(url: str, augment: dict[str, Any] | None = None, **api: Any) -> ApiAugmenter:
        return augmenter_of(url, Store(tmp_path / "store"), augment, **{"give_up_after": 3, "retries": 1, **api})

    return make


def write(augmenter: ApiAugmenter, document: Document = LAMP, product: ProductName = "qa_pairs") -> Product:
    return augmenter.begin(document, product, f"{document.id}-{product}").result(timeout=60)


ERRORS = {
    "openrouter": ({"error": {"message": "Insufficient credits.", "code": 402}}, Stopped, "balance is exhausted .*Ins"),
    "key": ({"error": {"message": "No auth credentials found", "code": 401}}, Stopped, "rejects the API key"),
    "key by its code": ({"error": {"message": "Wrong.", "code": "invalid_api_key"}}, Stopped, "rejects the API key"),
    "quota": ({"error": {"message": "Spent.", "code": "insufficient_quota"}}, Stopped, "quota is exhausted"),
    "model": ({"error": {"message": "No such model", "type": "model_not_found"}}, Stopped, "does not know model 'm'"),
    "vllm": ({"object": "error", "message": "Prompt is bad.", "type": "BadRequestError", "code": 400}, DocumentError,
             "refuses it .*Prompt is bad"),
    "in a choice": ({"choices": [{"error": {"code": 403, "message": "Moderated"}, "message": {"content": ""}}]},
                    DocumentError, "refuses it .*Moderated"),
    "forbidden": ({"error": {"code": 403, "message": "This key has no access."}}, Stopped, "rejects the API key .403"),
    "text": ({"error": "Internal failure of the gateway"}, DocumentError, "failed 2 times .*Internal failure"),
    "detail": ({"detail": "Upstream is gone"}, DocumentError, "failed 2 times"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "words"), ERRORS.values(), ids=ERRORS)
def test_an_error_with_status_200_gets_its_real_status(
    made: Callable[..., ApiAugmenter], body: dict[str, Any], kind: type[Exception], words: str
):
    with endpoint(lambda path, _: body if "chat" in path else (404, {})) as odd:
        with pytest.raises(kind, match=words):
            write(made(odd.url))
        assert len(odd.limits) <= 2


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from("error code choices message status detail object x".split()), inner),
    max_leaves=8,
))  # fmt: skip
@settings(max_examples=150)
def test_any_body_gives_an_error_status_or_none(body: Any):
    assert status_in(body) is None or 400 <= status_in(body) <= 599  # type: ignore[operator]


@pytest.mark.parametrize(
    "answer",
    [{"choices": []}, {"choices": None}, {}, [], "null", "<html><title>Sign in</title></html>"],
    ids=["no choice", "null", "empty", "a list", "nothing", "page"],
)
def test_answers_other_than_chat_completions_end_with_a_clear_reason(made: Callable[..., ApiAugmenter], answer: Any):
    with endpoint(lambda *_: answer) as odd:
        with pytest.raises((Stopped, DocumentError), match=r"not with chat completions|malformed body|failed 2 times"):
            write(made(odd.url))


@pytest.mark.parametrize("status", [403, 500, 502])
def test_a_gateway_s_page_is_described_by_its_title(made: Callable[..., ApiAugmenter], status: int):
    page = f"<!DOCTYPE html><html><head><title>Blocked\n by policy</title></head>{'<p>x</p>' * 500}</html>"
    with endpoint(lambda *_: (status, page)) as odd:
        with pytest.raises((Stopped, DocumentError), match=r"a web page, 'Blocked by policy'") as caught:
            write(made(odd.url))
    assert len(str(caught.value)) < 400


def thinking(limit: int, **message: Any) -> Answer:
    """Thoughts use `limit` tokens before a valid answer."""

    def answer(_: str, body: dict[str, Any]) -> Any:
        if body["max_tokens"] <= limit:
            return completion(finish="length", thoughts=body["max_tokens"], **message)
        return completion(GOOD)

    return answer


SILENT = {
    "null": {"content": None},
    "empty": {"content": ""},
    "reasoning_content": {"content": None, "reasoning_content": "The passage says that"},
    "reasoning": {"content": "", "reasoning": '{"qa_pairs": [] would be'},
    "open thought": {"content": "<think>\nThe passage says that"},
}


@pytest.mark.parametrize("message", SILENT.values(), ids=SILENT)
def test_if_thoughts_use_all_tokens_the_limit_is_raised_once_and_for_later_requests(
    made: Callable[..., ApiAugmenter], message: dict[str, Any]
):
    with endpoint(thinking(600, **message)) as odd:
        augmenter = made(odd.url)
        product = write(augmenter)
        assert len(product.accepted) == 2
        assert odd.limits == [512, 2048]
        assert product.usage.requests == 2
        write(augmenter, Document("other", LAMP.text))
        assert odd.limits == [512, 2048, 2048]


@pytest.mark.parametrize("message", SILENT.values(), ids=SILENT)
def test_if_a_higher_limit_does_not_help_the_run_stops_with_the_reason(
    made: Callable[..., ApiAugmenter], message: dict[str, Any]
):
    with endpoint(thinking(10**6, **message)) as odd:
        augmenter = made(odd.url)
        with pytest.raises(DocumentError, match=r"used all 2,048 tokens before it began.*Raise augment.max_new_tokens"):
            write(augmenter)
        assert odd.limits == [512, 2048]
        outcomes = [augmenter.begin(Document(f"d{n}", LAMP.text), "qa_pairs", f"d{n}") for n in range(20)]
        errors = [outcome.exception(timeout=60) for outcome in outcomes]
        assert any(isinstance(error, Stopped) for error in errors)
        assert "used all 512 tokens before it began" in str(errors[-1])
        before = len(odd.limits)
        write_again = augmenter.begin(LAMP, "rewrites", "another").exception(timeout=60)
        assert isinstance(write_again, Stopped)
        assert len(odd.limits) == before <= 22


def test_the_limit_is_not_raised_beyond_the_budget(made: Callable[..., ApiAugmenter]):
    with endpoint(thinking(600, content=None)) as odd:
        with pytest.raises(DocumentError, match="used all 512 tokens"):
            write(made(odd.url, max_tokens=2000))
        assert odd.limits == [512]


def test_thoughts_in_the_text_are_ignored(made: Callable[..., ApiAugmenter]):
    def answer(_: str, body: dict[str, Any]) -> Any:
        return completion(THOUGHT.replace("<think>", "") + (GOOD if wants(body) == "qa_pairs" else "Greta Olmsted"))

    with endpoint(answer) as odd:
        assert len(write(made(odd.url)).accepted) == 2
        assert len(odd.limits) == 1


def test_a_verification_is_read_after_its_thoughts(made: Callable[..., ApiAugmenter]):
    unsupported = [{**PAIRS[0], "answer": "Mrs Olmsted of Brevik", "full_answer": "Mrs Olmsted of Brevik built it."}]

    def answer(_: str, body: dict[str, Any]) -> Any:
        pairs = json.dumps({"qa_pairs": unsupported})
        return completion(THOUGHT + (pairs if wants(body) == "qa_pairs" else "Mrs Olmsted of Brevik"))

    with endpoint(answer) as odd:
        product = write(made(odd.url, {"qa_pairs": 1}))
    assert [one.marks["by"] for one in product.accepted] == ["model"]


def test_an_answer_in_the_reasoning_field_is_found(made: Callable[..., ApiAugmenter]):
    with endpoint(lambda *_: completion(None, reasoning_content=GOOD)) as odd:
        assert len(write(made(odd.url)).accepted) == 2


DECLINES = {
    "refusal": (completion(None, refusal="I cannot help with lamps."), "declines to answer .I cannot help with lamps"),
    "filter": (completion(None, "content_filter"), "content filter blocked"),
    "empty filter": (completion("", "content_filter"), "content filter blocked"),
}


@pytest.mark.parametrize(("answer", "words"), DECLINES.values(), ids=DECLINES)
def test_a_model_that_declines_fails_the_document_at_once_with_its_words(
    made: Callable[..., ApiAugmenter], answer: Any, words: str
):
    with endpoint(lambda *_: answer) as odd:
        with pytest.raises(DocumentError, match=words):
            write(made(odd.url))
        assert len(odd.limits) == 1


def test_an_empty_answer_is_reported_as_empty(made: Callable[..., ApiAugmenter]):
    with endpoint(lambda *_: completion("")) as odd:
        with pytest.raises(DocumentError, match=r"3 answers contained no usable qa pairs \(it is empty\)"):
            write(made(odd.url))


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://h:1/v1/", "http://h:1/v1"),
        (" http://h:1/v1 ", "http://h:1/v1"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1"),
        ("http://h:1/v1/chat/completions/", "http://h:1/v1"),
        ("https://x.services.ai.azure.com/models", "https://x.services.ai.azure.com/models"),
        ("  ", None),
        (None, None),
    ],
)
def test_pasted_urls_are_accepted(given: str | None, address: str | None):
    assert base_address(given) == address


def test_a_url_with_a_superfluous_v1_is_refused_with_the_right_one(made: Callable[..., ApiAugmenter]):
    def answer(path: str, _: Any) -> Any:
        return {"data": [{"id": "m"}]} if path == "/models" else (404, {"detail": "Not Found"})

    with endpoint(answer) as odd:
        with pytest.raises(Stopped, match=rf"but there is one under {odd.url.removesuffix('/v1')}\. Set augment"):
            write(made(odd.url))


# ---- batches


def batches(status: str, errors: Any = None, lines: list[dict[str, Any]] | None = None) -> Answer:
    """A Batch API on which every batch ends in the same way."""

    def answer(path: str, _: Any) -> Any:
        if path.endswith("/content"):
            return "\n".join(json.dumps(line) for line in lines or [])
        if path.endswith("/files"):
            return {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "r", "purpose": "batch"}
        batch = {"id": "batch-1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1",
                 "completion_window": "24h", "created_at": 1, "status": status, "errors": errors}  # fmt: skip
        return {**batch, "output_file_id": None, "error_file_id": "file-2" if lines else None}

    return answer


LIMIT = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached for m. Limit: 90,000 tokens."}
ERRORED = {"object": "list", "data": [{**LIMIT, "line": None, "param": None}]}


def uploads(odd: Odd) -> int:
    return sum(path.endswith("/files") for path, _ in odd.asked)


@pytest.mark.parametrize(
    ("errors", "words"),
    [(ERRORED, "Enqueued token limit reached for m"), (None, "gives no reason"), ({"data": None}, "gives no reason")],
    ids=["told", "none", "null"],
)
def test_a_failed_batch_reports_its_reason_and_is_submitted_once_per_run(
    made: Callable[..., ApiAugmenter], errors: Any, words: str, messages: list[str]
):
    with endpoint(batches("FAILED" if errors is None else "failed", errors)) as odd:
        augmenter = made(odd.url, batch=True)
        for turn in range(3):
            waiting = augmenter.begin(LAMP, "qa_pairs", "k").exception(timeout=60)
            assert isinstance(waiting, Waiting)
            assert (words in str(waiting)) == bool(turn)
            if turn:
                with pytest.raises(Stopped, match=words):
                    augmenter.hand_in()
            else:
                augmenter.hand_in()
                with pytest.raises(Stopped, match=rf"batch batch-1 .*it failed \(.*{words}.*corpus\.max_documents"):
                    augmenter.fetch()
        assert uploads(odd) == 1
        assert any("Batch batch-1 is failed; 1 of its 1 requests were not answered" in line for line in messages)
        for handed_in in ("goes into the next batch", "is in batch batch-1"):
            later = made(odd.url, batch=True)
            waiting = str(later.begin(LAMP, "qa_pairs", "k").exception(timeout=60))
            assert handed_in in waiting
            assert "batch-1 is failed" in waiting
            assert (words in waiting) == (errors is ERRORED)
            later.hand_in()
        assert uploads(odd) == 2


def test_a_batch_with_only_errors_reports_the_reason(made: Callable[..., ApiAugmenter]):
    lines: list[dict[str, Any]] = []
    with endpoint(batches("completed", lines=lines)) as odd:
        augmenter = made(odd.url, batch=True)
        augmenter.begin(LAMP, "qa_pairs", "k").exception(timeout=60)
        (batch,) = augmenter.hand_in()
        lines.append({"custom_id": batch.requests[0].key,
                      "response": {"status_code": 401, "body": {"error": {"message": "No such key."}}}})  # fmt: skip
        with endpoint(batches("completed", lines=lines)) as ended:
            later = made(ended.url, batch=True)
            with pytest.raises(Stopped, match="No such key"):
                later.fetch()


@pytest.mark.parametrize("status", ["expired", "EXPIRED", "cancelled", "canceled"])
def test_requests_of_an_expired_batch_go_into_the_next(
    made: Callable[..., ApiAugmenter], messages: list[str], status: str
):
    with endpoint(batches(status)) as odd:
        augmenter = made(odd.url, batch=True)
        for _ in range(2):
            augmenter.begin(LAMP, "qa_pairs", "k").exception(timeout=60)
            assert len(augmenter.hand_in()) == 1
            assert augmenter.fetch().unanswered == 1
            time.sleep(0.01)
    assert any(f"Batch batch-1 is {status.lower()}; 1 of its 1 requests were not answered" in line for line in messages)


def test_a_batch_answer_of_only_thoughts_is_requested_with_a_higher_limit(made: Callable[..., ApiAugmenter]):
    lines: list[dict[str, Any]] = []
    with endpoint(batches("completed", lines=lines)) as odd:
        first = made(odd.url, batch=True)
        first.begin(LAMP, "qa_pairs", "k").exception(timeout=60)
        (batch,) = first.hand_in()
    lines.append({"custom_id": batch.requests[0].key,
                  "response": {"status_code": 200, "body": completion(None, "length", 512)}})  # fmt: skip
    with endpoint(batches("completed", lines=lines)) as odd:
        later = made(odd.url, batch=True)
        assert later.fetch().answers == 1
        waiting = later.begin(LAMP, "qa_pairs", "k").exception(timeout=60)
        assert "'ask 1 longer' goes into the next batch" in str(waiting)
        later.hand_in()
        assert uploads(odd) == 1
