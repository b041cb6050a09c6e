"""What an endpoint says about one request does not stop the others, and what it counts wrongly is estimated."""

import json
import math
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from augmenters import augmenter_of
from odd_endpoints import PAIRS, completion, endpoint

from dyprag.augmentation.api import ApiAugmenter
from dyprag.augmentation.completions import finish_of, said_by, usage_of
from dyprag.augmentation.endpoint import _retry_after
from dyprag.corpora.documents import Document
from dyprag.errors import DocumentError, Stopped
from dyprag.storage.artifacts import Store

TEXT = "The Ostrel lamp was built in 1911 by Greta Olmsted. It stands 24 metres above Brevik Harbour."
GOOD, BAD = Document("good", TEXT), Document("bad", f"{TEXT} It is forbidden.")
SAID = json.dumps({"qa_pairs": PAIRS})
FLAGGED = (403, {"error": {"code": 403, "message": "Your input was flagged by moderation"}})
LARGE = (429, {"error": {"message": "Request too large for m on tokens per min (TPM): Limit 30000, Requested 40000. "
                         "The input or output tokens must be reduced.", "type": "tokens"}})  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., ApiAugmenter]:
    def make(url: str, **api: Any) -> ApiAugmenter:
        return augmenter_of(
            url, Store(tmp_path / "store"), {"rewrites": 0}, **{"give_up_after": 20, "retries": 1, **api}
        )

    return make


def pairs(augmenter: ApiAugmenter, document: Document) -> int:
    return len(augmenter.begin(document, "qa_pairs", document.id).result(timeout=60).items)


@pytest.mark.parametrize(
    ("said", "reason"), [(FLAGGED, "flagged by moderation"), (LARGE, "too many tokens")], ids=["flagged", "large"]
)
def test_a_request_that_is_refused_for_itself_fails_its_document_only(
    made: Callable[..., ApiAugmenter], said: Any, reason: str
):
    with endpoint(lambda path, body: said if "forbidden" in json.dumps(body) else completion(SAID)) as odd:
        augmenter = made(odd.url)
        start = time.monotonic()
        with pytest.raises(DocumentError, match=reason):
            pairs(augmenter, BAD)
        assert time.monotonic() - start < 10
        assert pairs(augmenter, GOOD) == 2


def test_a_403_after_answers_is_not_the_keys_fault(made: Callable[..., ApiAugmenter]):
    page = (403, "<html><title>Attention Required!</title></html>")
    with endpoint(lambda path, body: page if "forbidden" in json.dumps(body) else completion(SAID)) as odd:
        augmenter = made(odd.url)
        assert pairs(augmenter, GOOD) == 2
        with pytest.raises(DocumentError, match=r"403|Attention"):
            pairs(augmenter, BAD)
        with pytest.raises(Stopped, match="rejects the API key"):
            pairs(made(odd.url), BAD)


def test_requests_come_more_rarely_while_they_are_limited(made: Callable[..., ApiAugmenter]):
    with endpoint(lambda *_: (429, {"error": {"message": "Slow down"}})) as odd:
        with pytest.raises(Stopped, match="429"):
            pairs(made(odd.url, give_up_after=6), GOOD)
        assert 3 <= len(odd.asked) <= 9


@pytest.mark.parametrize(
    "value", ["0", "-5", "nan", "inf", "soon", formatdate(0), "Wed, 21 Oct 2015 07:28:00 +99999999999"]
)
def test_a_retry_after_that_names_no_time_to_come_counts_as_none(value: str):
    assert _retry_after({"retry-after": value}) is None


def test_a_retry_after_is_a_number_or_a_date():
    assert _retry_after({"retry-after": "2.5"}) == 2.5
    assert math.isclose(_retry_after({"retry-after": formatdate(time.time() + 60)}) or 0, 60, abs_tol=2)


@pytest.mark.parametrize("choices", [{"a": 1}, "none", 3])
def test_choices_that_are_no_list_are_an_error_of_the_document(made: Callable[..., ApiAugmenter], choices: Any):
    with endpoint(lambda *_: {**completion(SAID), "choices": choices}) as odd:
        with pytest.raises((DocumentError, Stopped)):
            pairs(made(odd.url), GOOD)


@pytest.mark.parametrize("counts", [(0, 0), (-1, 5), (True, True), ("5", 5), (None, 5)])
def test_usage_that_cannot_be_is_estimated(counts: tuple[Any, Any]):
    usage = SimpleNamespace(prompt_tokens=counts[0], completion_tokens=counts[1])
    answer = SimpleNamespace(usage=usage)
    assert usage_of(answer) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("an architect</s>", "an architect"),
        ("an architect <|im_end|>\n", "an architect"),
        ("</s> is a tag", "</s> is a tag"),
        ([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "yes"}], "yes"),
        (["yes", {"text": None}, 5], "yes"),
    ],
)
def test_control_tokens_and_thoughts_are_no_part_of_an_answer(content: Any, text: str):
    assert said_by(SimpleNamespace(content=content), "stop") == (text, False)


def test_the_timeout_holds_for_an_answer_that_arrives_in_drops(made: Callable[..., ApiAugmenter]):
    import socketserver
    import threading

    class Drops(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
            try:
                for _ in range(100):
                    self.request.sendall(b" ")
                    time.sleep(0.2)
            except OSError:
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drops) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        start = time.monotonic()
        with pytest.raises((DocumentError, Stopped)):
            pairs(made(f"http://127.0.0.1:{server.server_address[1]}/v1", timeout=1, give_up_after=3), GOOD)
        assert time.monotonic() - start < 15
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, {"message": "Incorrect API key provided: sk-12."}, "rejects the API key"),
        (400, {"message": "API key not valid. Please pass a valid API key."}, "rejects the API key"),
        (400, {"message": "Your credit balance is too low to access the API."}, "balance is exhausted"),
        (400, {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"}, "exhausted"),
        (
            429,
            {"message": "Over your quota.", "type": "insufficient_quota", "code": None},
            "quota is exhausted",
        ),
        (429, {"message": "Not active.", "type": "x", "code": "billing_not_active"}, "quota is exhausted"),
    ],
)
def test_faults_of_the_account_stop_the_run_whatever_their_status(
    made: Callable[..., ApiAugmenter], status: int, error: dict[str, Any], reason: str
):
    with endpoint(lambda *_: (status, {"error": error})) as odd:
        with pytest.raises(Stopped, match=reason):
            pairs(made(odd.url), GOOD)


@pytest.mark.parametrize(
    ("given", "finish"), [("MAX_TOKENS", "length"), ("model_length", "length"), ("SAFETY", "content_filter"),
                          ("stop", "stop"), (None, "")]
)  # fmt: skip
def test_finish_reasons_of_other_servers_are_understood(given: str | None, finish: str):
    assert finish_of(SimpleNamespace(finish_reason=given)) == finish
