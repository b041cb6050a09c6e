"""The journal: every response survives a kill, and none is reused once its product is complete."""

import json
from pathlib import Path

import pytest

from dyprag.corpora.products import OpenBatch, Response, Wanted
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.journal import Journal, responses


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def answer(request: str, product: str = "p", text: str = "Grüße\u2028 \ud800", tokens: int = 10) -> Response:
    return Response(request, product, "doc", "ask 1", text, "stop", "m", tokens, 2 * tokens, 40, 0.5, 1, None, 1.5)


def test_a_response_is_found_by_another_process(store: Store):
    journal = Journal(store)
    journal.add(answer("r1"))
    journal.add(answer("r2", text="b"))
    for again in (journal, Journal(store)):
        found = again.find("p", "r1")
        assert found is not None
        assert (found.text, found.tokens_out) == ("Grüße\u2028 ?", 20)
        assert again.find("p", "r2") == answer("r2", text="b")
        assert again.find("p", "r3") is None
        assert again.find("q", "r1") is None
        assert again.tokens == {"m": (20, 40)}


def test_responses_of_a_finished_product_are_kept_but_not_reused(store: Store):
    journal = Journal(store)
    journal.add(answer("r1"))
    journal.close("p")
    journal.close("never asked for")
    assert journal.find("p", "r1") is None
    again = Journal(store)
    assert again.find("p", "r1") is None
    assert again.tokens == {"m": (10, 20)}  # spent all the same
    assert [response.request for response in responses(store)] == ["r1"]
    again.add(answer("r1", text="anew"))
    found = Journal(store).find("p", "r1")
    assert found is not None
    assert found.text == "anew"


@pytest.mark.parametrize("end", [1, 20, 150])
def test_an_incomplete_line_is_skipped(store: Store, end: int, messages: list[str]):
    journal = Journal(store)
    journal.add(answer("r1"))
    journal.add(answer("r2"))
    (path,) = (store.root / "responses").iterdir()
    path.write_bytes(path.read_bytes()[:-end])
    again = Journal(store)
    assert again.find("p", "r1") is not None
    assert (again.find("p", "r2") is None) is (end > 1)  # without its end of line it is whole
    again.add(answer("r3"))
    assert Journal(store).find("p", "r3") is not None
    assert bool(messages) is (end > 1)


def test_malformed_lines_are_skipped(store: Store, messages: list[str]):
    Journal(store).add(answer("r1"))
    (path,) = (store.root / "responses").iterdir()
    with path.open("a") as stream:
        stream.write('[1]\n{"response": {"request": "x"}}\n{"odd": 1}\nnoise\n')
    assert Journal(store).find("p", "r1") is not None
    assert len(list(responses(store))) == 1
    assert len(messages) >= 4


def test_batches_are_open_until_they_end(store: Store):
    journal = Journal(store)
    batch = OpenBatch("batch_1", 12.5, (Wanted("r1", "p", "doc", "ask 1", 40),))
    journal.open_batch(batch)
    assert list(Journal(store).open_batches()) == [batch]
    journal.end_batch("batch_1")
    assert list(Journal(store).open_batches()) == []


def test_the_next_process_knows_why_a_batch_left_a_request_unanswered(store: Store):
    journal = Journal(store)
    requests = tuple(Wanted(name, "p", "doc", "ask 1", 40) for name in ("r1", "r2"))
    for number, why in enumerate(("it failed", "it expired", "")):
        journal.open_batch(OpenBatch(f"batch_{number}", 12.5, requests))
        if number == 1:
            journal.add(answer("r2"))
        journal.end_batch(f"batch_{number}", why)
        told = [journal.unanswered(name) for name in ("r1", "r2", "r3")]
        assert told == [Journal(store).unanswered(name) for name in ("r1", "r2", "r3")]
        assert told == [why or "it expired", "it failed", ""]


def test_the_catalogue_has_every_request_once_and_is_rebuilt_from_the_journal(store: Store):
    journal, catalogue = Journal(store), Catalogue(store)
    catalogue.prepare()
    journal.add(answer("r1"))
    journal.add(answer("r2", tokens=5))
    journal.open_batch(OpenBatch("batch_1", 12.5, ()))
    assert catalogue.lacks_requests()
    for _ in range(2):
        catalogue.add_requests()
        assert not catalogue.lacks_requests()
    rows = catalogue.query("SELECT document_id, requests, retries, tokens_in, tokens_out, cost, latency FROM spending")
    assert rows == [{"document_id": "doc", "requests": 2, "retries": 2, "tokens_in": 15, "tokens_out": 30,
                     "cost": None, "latency": 0.5}]  # fmt: skip
    catalogue.path.unlink()
    catalogue.prepare()
    assert catalogue.query("SELECT count(*) AS n FROM requests") == [{"n": 2}]
    assert "text" not in json.dumps([row["column_name"] for row in catalogue.query("DESCRIBE requests")])


def test_a_journal_that_cannot_be_written_is_one_clear_error(store: Store):
    (store.root / "responses").write_text("a file where the journal wants a folder")
    with pytest.raises(StoreError, match=r"a response cannot be written to it .*Free disk space"):
        Journal(store).add(answer("r1"))


def test_the_next_process_knows_how_often_a_product_failed(store: Store):
    journal = Journal(store)
    for number in range(3):
        journal.add(answer(f"r{number}"))
        journal.close("p", failed=number < 2)
    assert journal.failures("p") == 2
    assert Journal(store).failures("p") == 2
    assert journal.failures("another") == 0
