"""Augmentation through an endpoint that is down or has limits: rates, budgets, and runs that stop and continue."""

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from augmenters import DOCUMENTS, LAMP, Made, maker, write
from llm_server import Behaviour, LLMServer

from dyprag.augmentation.api import ApiAugmenter
from dyprag.corpora.documents import Document
from dyprag.errors import Stopped
from dyprag.storage.artifacts import Store
from dyprag.storage.journal import responses


@pytest.fixture(scope="module")
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def made(server: LLMServer, store: Store) -> Made:
    return maker(server, store)


def test_an_endpoint_that_is_down_is_awaited_and_logged_once(server: LLMServer, made: Made, messages: list[str]):
    augmenter = made(retries=1)
    server.stop_listening()
    try:
        written = [augmenter.begin(d, p, f"{d.id}{p}") for d in DOCUMENTS for p in ("rewrites", "qa_pairs")]
        time.sleep(1.5)
        assert augmenter.endpoint._breaker.open
    finally:
        server.listen_again()
    for product in written:
        assert product.result(timeout=30).accepted
    assert len(server.requests) == 6
    assert sum(" does not answer (All connection" in message for message in messages) == 1


def test_an_endpoint_that_stays_down_stops_the_run(server: LLMServer, made: Made):
    augmenter = made(give_up_after=1.5)
    server.stop_listening()
    try:
        written = [augmenter.begin(d, p, f"{d.id}{p}") for d in DOCUMENTS for p in ("rewrites", "qa_pairs")]
        for product in written:
            with pytest.raises(Stopped, match="it has not answered for"):
                product.result(timeout=30)
    finally:
        server.listen_again()


def test_no_more_requests_are_in_flight_than_allowed(server: LLMServer, made: Made):
    augmenter = made(Behaviour(latency=0.1), concurrency=3)
    for written in [augmenter.begin(Document(f"d{n}", LAMP.text), "qa_pairs", f"k{n}") for n in range(20)]:
        written.result(timeout=30)
    assert max(request.in_flight for request in server.requests) == 3


def test_the_configured_rate_avoids_refusals(server: LLMServer, made: Made):
    augmenter = made(Behaviour(rpm_limit=60 * 45), requests_per_minute=60 * 15)
    began = time.time()
    for written in [augmenter.begin(Document(f"d{n}", LAMP.text), "qa_pairs", f"k{n}") for n in range(45)]:
        written.result(timeout=30)
    assert {request.behaviour for request in server.requests} == {"good"}
    assert server.requests[-1].arrived - began > 1.5  # not since the first arrived, which a busy machine delays


def test_every_answer_is_kept_when_the_token_budget_is_low(made: Made, store: Store):
    augmenter = made(tokens_per_minute=30_000)
    for number in range(10):
        augmenter.begin(Document(f"d{number}", LAMP.text), "qa_pairs", f"k{number}")
    time.sleep(3)
    came = len(list(responses(store)))
    augmenter.close()
    assert 1 <= came < 10
    assert len(list(responses(store))) == came


def test_running_requests_end_with_their_stage(made: Made):
    augmenter = made(Behaviour(hangs=1.0))
    begun = augmenter.begin(LAMP, "qa_pairs", "k")
    time.sleep(0.3)
    augmenter.close()
    with pytest.raises(CancelledError):
        begun.result(timeout=5)
    with pytest.raises(Stopped, match="its stage has already ended"):
        augmenter.begin(LAMP, "qa_pairs", "k").result(timeout=5)


def test_a_saturated_rate_limit_fails_no_document(made: Made):
    augmenter = made(Behaviour(rpm_limit=60 * 8, retry_after=0.3), retries=1, concurrency=16)
    for written in [augmenter.begin(Document(f"d{n}", LAMP.text), "qa_pairs", f"k{n}") for n in range(24)]:
        assert written.result(timeout=60).accepted


def test_tokens_per_minute_count_the_actual_usage(server: LLMServer, made: Made):
    augmenter = made(tokens_per_minute=60_000, augment={"max_new_tokens": 200})
    began = time.monotonic()
    for written in [augmenter.begin(Document(f"d{n}", LAMP.text), "qa_pairs", f"k{n}") for n in range(10)]:
        written.result(timeout=60)
    used = sum(request.usage["total_tokens"] for request in server.requests)
    assert used / (time.monotonic() - began) < 1.5 * 1000


def test_an_exhausted_budget_stops_and_a_higher_one_continues_without_repetition(server: LLMServer, made: Made):
    documents = [Document(f"d{n}", f"{LAMP.text} It has {n} steps.") for n in range(12)]

    def augment(augmenter: ApiAugmenter) -> tuple[int, list[str]]:
        written = [augmenter.begin(document, "qa_pairs", document.id) for document in documents]
        errors = [error for product in written if (error := product.exception(timeout=60))]
        assert all(isinstance(error, Stopped) for error in errors)
        return len(written) - len(errors), [request.digest for request in server.requests]

    complete, first = augment(made(augment={"max_new_tokens": 150}, max_tokens=3000))
    spent = sum(request.usage["total_tokens"] for request in server.requests)
    assert 0 < complete < 12
    assert spent <= 3000
    none, repeated = augment(made(augment={"max_new_tokens": 150}, max_tokens=3000))
    assert none == complete  # from the journal
    assert repeated == []
    rest, second = augment(made(augment={"max_new_tokens": 150}, max_tokens=50_000))
    assert rest == 12
    assert not set(first) & set(second)


def test_after_a_stop_anywhere_only_requests_without_an_answer_are_sent(server: LLMServer, made: Made, store: Store):
    """A process killed at any moment leaves the journal's first n answers."""
    script = ["not_json", "truncated_json", "invented"]
    whole = write(made(Behaviour(script=script), {"qa_pairs": 3}))
    total = len(server.requests)
    assert total >= 5
    (path,) = (store.root / "responses").iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(total + 1):
        path.write_bytes(b"".join(lines[:kept]))
        again = write(made(Behaviour(script=script[kept:]), {"qa_pairs": 3}))
        assert again.accepted == whole.accepted
        assert again.dropped == whole.dropped
        assert again.usage.requests == whole.usage.requests
        assert len(server.requests) == total - kept
        for more in (store.root / "responses").glob("*.jsonl"):
            if more != path:
                more.unlink()
