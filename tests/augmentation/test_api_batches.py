"""Augmentation through the Batch API of an endpoint: submitted, fetched by another process, and continued."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from augmenters import DOCUMENTS, LAMP, Made, maker
from llm_server import Behaviour, LLMServer

from dyprag.augmentation.api import ApiAugmenter, first_request
from dyprag.config import AugmentSettings
from dyprag.corpora.documents import Document
from dyprag.corpora.products import Product
from dyprag.errors import DocumentError, Stopped, Waiting
from dyprag.storage.artifacts import Store


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


def in_batches(augmenter: ApiAugmenter, documents: list[Document]) -> list[Product | BaseException]:
    """The product or the error of each document."""
    written = [augmenter.begin(document, "qa_pairs", document.id) for document in documents]
    return [product.exception(timeout=30) or product.result() for product in written]


def fetch(augmenter: ApiAugmenter) -> Any:
    """Fetch batches until none is open."""
    deadline = time.monotonic() + 20
    while (fetched := augmenter.fetch()).still_open and time.monotonic() < deadline:
        time.sleep(0.1)
    return fetched


def test_batches_are_submitted_and_fetched_by_another_process(server: LLMServer, made: Made):
    first = made(Behaviour(batch_seconds=0.5), batch=True)
    outcomes = in_batches(first, DOCUMENTS)
    assert all(isinstance(outcome, Waiting) and "goes into the next batch" in str(outcome) for outcome in outcomes)
    (batch,) = first.hand_in()
    assert len(batch.requests) == 3
    second = made(Behaviour(batch_seconds=0.5), batch=True)
    assert second.fetch().still_open == 1
    assert all(batch.id in str(outcome) for outcome in in_batches(second, DOCUMENTS))
    assert second.hand_in() == []  # nothing twice
    assert fetch(second).answers == 3
    products = in_batches(second, DOCUMENTS)
    assert all(isinstance(product, Product) and len(product.accepted) == 2 for product in products)
    assert second.hand_in() == []
    assert products[0].usage.tokens_out > 0  # type: ignore[union-attr]


def test_unanswered_requests_go_into_the_next_batch(server: LLMServer, made: Made):
    augmenter = made(Behaviour(batch_seconds=0.1, script=["500", "not_json", "good"]), batch=True)
    in_batches(augmenter, DOCUMENTS)
    augmenter.hand_in()
    fetched = fetch(augmenter)
    assert (fetched.answers, fetched.unanswered) == (2, 1)
    outcomes = in_batches(augmenter, DOCUMENTS)
    assert [type(outcome) for outcome in outcomes] == [Waiting, Waiting, Product]
    assert "'ask 1'" in str(outcomes[0])
    assert "'repair 1'" in str(outcomes[1])
    augmenter.hand_in()
    fetch(augmenter)
    assert all(isinstance(outcome, Product) for outcome in in_batches(augmenter, DOCUMENTS))


def test_a_line_separator_inside_a_batch_s_answer_does_not_split_it(server: LLMServer, made: Made):
    augmenter = made(Behaviour(batch_seconds=0.1), batch=True)
    odd = [Document("odd", LAMP.text.replace(" by ", "\u2028by\x85 "))]
    in_batches(augmenter, odd)
    augmenter.hand_in()
    assert fetch(augmenter).answers == 1
    assert isinstance(in_batches(augmenter, odd)[0], Product)


def test_a_later_run_submits_a_failed_batch_again(server: LLMServer, made: Made):
    augmenter = made(Behaviour(batch_seconds=0.1, batch_fate="failed"), batch=True)
    in_batches(augmenter, DOCUMENTS)
    augmenter.hand_in()
    with pytest.raises(Stopped, match=r"it failed \(told to fail\)"):
        fetch(augmenter)
    later = made(Behaviour(batch_seconds=0.1), batch=True)
    assert fetch(later).answers == 0
    in_batches(later, DOCUMENTS)
    (batch,) = later.hand_in()
    assert len(batch.requests) == 3
    fetch(later)
    assert all(isinstance(outcome, Product) for outcome in in_batches(later, DOCUMENTS))


@pytest.mark.parametrize(("fate", "answers"), [("expired", 1), ("cancelled", 1)])
def test_the_unanswered_rest_of_a_batch_is_submitted_again(server: LLMServer, made: Made, fate: str, answers: int):
    augmenter = made(Behaviour(batch_seconds=0.1, batch_fate=fate), batch=True)
    in_batches(augmenter, DOCUMENTS)
    augmenter.hand_in()
    assert fetch(augmenter).answers == answers
    server.behaviour = Behaviour(batch_seconds=0.1)
    in_batches(augmenter, DOCUMENTS)
    (batch,) = augmenter.hand_in()
    assert len(batch.requests) == 3 - answers
    fetch(augmenter)
    assert all(isinstance(outcome, Product) for outcome in in_batches(augmenter, DOCUMENTS))


def test_a_document_refused_by_a_batch_fails_and_is_not_submitted_again(server: LLMServer, made: Made):
    augmenter = made(Behaviour(batch_seconds=0.1, unsupported={"model"}), batch=True)
    in_batches(augmenter, DOCUMENTS[:1])
    augmenter.hand_in()
    fetch(augmenter)
    (error,) = in_batches(augmenter, DOCUMENTS[:1])
    assert isinstance(error, DocumentError)
    assert "the endpoint refuses it" in str(error)


def test_a_budget_holds_for_batches_too(server: LLMServer, made: Made):
    each = first_request(LAMP, "qa_pairs", "k", AugmentSettings(qa_pairs=2)).bytes + 100 + 100
    augmenter = made(Behaviour(batch_seconds=0.1), {"max_new_tokens": 100}, batch=True, max_tokens=2 * each)
    in_batches(augmenter, DOCUMENTS)
    with pytest.raises(Stopped, match="1 requests were not submitted"):
        augmenter.hand_in()
    assert fetch(augmenter).answers == 2


def test_an_endpoint_without_a_batch_api_is_recognised(server: LLMServer, made: Made):
    augmenter = made(batch=True, base_url=f"{server.root}/nothing")
    in_batches(augmenter, DOCUMENTS)
    with pytest.raises(Stopped, match=r"it does not accept a batch \(404: Invalid URL .*augment.api.batch=false"):
        augmenter.hand_in()
