"""The augmentation stage on a real Prefect server with a real endpoint: storing, retrying, stopping and reporting."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm_server
import pytest
import yaml
from conftest import TEXTS, outcome, write_jsonl
from llm_server import Behaviour, LLMServer
from typer.testing import CliRunner

from dyprag.cli.main import app
from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.journal import responses
from dyprag.storage.tables import read_product
from dyprag.tasks.augment import endpoint_key

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture(scope="module")
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def api(settings: dict[str, Any], server: LLMServer) -> dict[str, Any]:
    """The small corpus, augmented through the endpoint."""
    server.behaviour = Behaviour()
    server.reset()
    return {
        **settings,
        "augment": {"backend": "api", "qa_pairs": 2, "rewrites": 1, "tries": 2,
                    "api": {"model": "m", "base_url": server.url, "retries": 2, "give_up_after": 20}},
    }  # fmt: skip


def augment(settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Ingest and augment. Returns the stage's summary."""
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest

    for name, value in changes.items():
        settings = {**settings, "augment": {**settings["augment"], "api": {**settings["augment"]["api"], name: value}}}
    config = PipelineConfig.model_validate(settings)
    ingest(config)
    return outcome(augment(config, return_state=True))[0]


def query(settings: dict[str, Any], sql: str) -> list[dict[str, Any]]:
    return Catalogue(Store(settings["store"])).query(sql)


def test_every_document_gets_both_products_and_a_second_run_sends_no_request(server: LLMServer, api: dict[str, Any]):
    first = augment(api)
    assert (first["done"], first["cached"], first["failed"], first["partial"]) == (3, 0, 0, 0)
    assert len(server.requests) == 6
    kinds = query(api, "SELECT kind, count(*) AS n FROM artifacts GROUP BY kind ORDER BY kind")
    assert {"kind": "rewrites", "n": 3} in kinds
    assert {"kind": "qa_pairs", "n": 3} in kinds
    second = augment(api)
    assert (second["done"], second["cached"]) == (3, 3)
    assert len(server.requests) == 6
    more = augment({**api, "augment": {**api["augment"], "qa_pairs": 1}})  # the rewrites stay
    assert more["cached"] == 0
    assert [request.product for request in server.requests[6:]] == ["qa_pairs"] * 3


def test_rate_limits_and_endpoint_address_do_not_change_keys_but_the_model_does(server: LLMServer, api: dict[str, Any]):
    augment(api)
    again = augment(api, concurrency=1, requests_per_minute=600, base_url=server.url + "/", key_env="OTHER_KEY")
    assert again["cached"] == 3
    assert augment(api, model="m2")["cached"] == 0


def test_cost_of_augmentation_is_in_the_catalogue_and_the_report(server: LLMServer, api: dict[str, Any]):
    server.behaviour = Behaviour(script=["429", "not_json"], retry_after=0.1)
    augment(api, prices={"m": {"input": 1.0, "output": 2.0}})
    (row,) = query(
        api,
        "SELECT sum(requests) AS requests, sum(retries) AS retries, sum(tokens_in) AS tokens_in, sum(tokens_out) "
        "AS tokens_out, sum(cost) AS cost, min(latency) > 0 AS waited, sum(accepted) AS accepted FROM augmentations",
    )
    used = [request.usage for request in server.requests if request.status == 200]
    assert row["requests"] == 7
    assert row["retries"] == 1
    assert row["accepted"] == 3 * 3
    assert row["tokens_in"] == sum(usage["prompt_tokens"] for usage in used)
    assert row["tokens_out"] == sum(usage["completion_tokens"] for usage in used)
    assert row["cost"] == pytest.approx((row["tokens_in"] + 2 * row["tokens_out"]) / 1e6)
    assert row["waited"]
    assert query(api, "SELECT sum(tokens_in) AS n FROM spending") == [{"n": row["tokens_in"]}]
    (quality,) = query(api, "SELECT avg(CAST(quality->>'$.recall' AS DOUBLE)) AS recall FROM augmentations")
    assert quality["recall"] >= 0.9


def test_if_the_pairs_fail_the_rewrite_is_kept_and_only_the_pairs_are_requested_again(
    server: LLMServer, api: dict[str, Any]
):
    api["corpus"] = {"documents": write_jsonl(Path(api["store"]).parent / "one.jsonl",
                                              [{"id": "lamp", "text": TEXTS["lamp"]}])}  # fmt: skip
    api["augment"]["api"]["concurrency"] = 1
    server.behaviour = Behaviour(script=["good", "not_json", "not_json", "not_json", "not_json"])
    first = augment(api)
    assert (first["done"], first["failed"]) == (0, 1)
    products = [request.product for request in server.requests]
    assert sorted(products) == ["qa_pairs"] * 4 + ["rewrites"]
    assert query(api, "SELECT kind FROM artifacts WHERE kind <> 'corpus'") == [{"kind": "rewrites"}]
    (failure,) = query(api, "SELECT document_id, error_type, error FROM failures")
    assert (failure["document_id"], failure["error_type"]) == ("lamp", "DocumentError")
    assert "4 answers contained no usable qa pairs" in failure["error"]
    assert query(api, "SELECT requests FROM spending") == [{"requests": 5}]  # those that came to nothing too
    second = augment(api)
    assert (second["done"], second["failed"]) == (1, 0)
    assert [request.product for request in server.requests[5:]] == ["qa_pairs"]


def test_a_document_with_too_few_items_is_partial_and_shown_as_such(server: LLMServer, api: dict[str, Any]):
    api["augment"] |= {"qa_pairs": 30, "least_pairs": 30}
    summary = augment(api)
    assert (summary["done"], summary["partial"], summary["cached"]) == (3, 3, 0)
    reasons = query(api, "SELECT document_id, reason FROM partial")
    assert [row["document_id"] for row in reasons] == ["book", "bridge", "lamp"]
    assert all("of 30 qa pairs" in row["reason"] for row in reasons)
    path = Path(api["store"]).parent / "config.yaml"
    path.write_text(yaml.safe_dump(api))
    output = CliRunner().invoke(app, ["status", "-c", str(path)]).output
    assert "partial document" in output
    again = augment(api)
    assert (again["done"], again["partial"], again["cached"]) == (3, 3, 3)


def test_documents_wait_when_the_budget_is_exhausted_and_continue_when_it_is_raised(
    server: LLMServer, api: dict[str, Any]
):
    rows = [{"id": f"d{n}", "text": f"{TEXTS['lamp']} It has {n + 2} steps."} for n in range(8)]
    api["corpus"] = {"documents": write_jsonl(Path(api["store"]).parent / "docs.jsonl", rows)}
    api["augment"] |= {"max_new_tokens": 150}
    first = augment(api, max_tokens=3500, concurrency=2)
    assert first["failed"] == 0
    assert 0 < first["done"] < 8
    assert first["waiting"] == 8 - first["done"]
    assert "Raise the budget (augment.api.max_tokens" in first["reason"]
    waiting = query(api, "SELECT error FROM latest_work WHERE stage = 'augment' AND state = 'waiting'")
    assert all("max_tokens of 3,500" in row["error"] for row in waiting)
    assert sum(r.usage["total_tokens"] for r in server.requests) <= 3500
    seen = {request.digest for request in server.requests}
    before = len(server.requests)
    second = augment(api, max_tokens=100_000)
    assert (second["done"], second["waiting"], second["reason"]) == (8, 0, "")
    assert not seen & {request.digest for request in server.requests[before:]}


def test_a_rejected_api_key_ends_the_stage_at_once(server: LLMServer, api: dict[str, Any]):
    server.behaviour = Behaviour(key="right")
    rows = [{"id": f"d{n}", "text": f"{TEXTS['lamp']} It has {n + 2} steps."} for n in range(20)]
    api["corpus"] = {"documents": write_jsonl(Path(api["store"]).parent / "docs.jsonl", rows)}
    summary = augment(api, concurrency=1)
    assert (summary["done"], summary["failed"], summary["waiting"]) == (0, 0, 20)
    assert "it rejects the API key" in summary["reason"]
    path = Path(api["store"]).parent / "config.yaml"
    path.write_text(yaml.safe_dump(api))
    told = CliRunner().invoke(app, ["status", "-c", str(path)]).output
    assert re.search(r"\b20 +augment +the endpoint .+: it rejects the API key \(401\)", told)
    assert len(server.requests) == 1
    server.behaviour = Behaviour()
    assert augment(api, concurrency=1)["done"] == 20


def test_documents_in_one_task_have_their_own_outcomes_and_attempts(server: LLMServer, api: dict[str, Any]):
    api["run"] = {"retries": 0, "documents_per_task": 3}
    server.behaviour = Behaviour(script=["not_json"] * 4)
    api["augment"]["api"]["concurrency"] = 1
    api["augment"]["rewrites"] = 0
    summary = augment(api)
    assert summary["done"] + summary["failed"] == 3
    assert summary["failed"] <= 1
    assert augment(api)["done"] == 3


def test_the_api_key_comes_from_a_secret_block_or_the_environment_and_is_stored_nowhere(
    server: LLMServer, api: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    from prefect.blocks.system import Secret

    secret = "sk-from-a-block-123"
    Secret(value=secret).save("llm-key", overwrite=True)
    server.behaviour = Behaviour(key=secret)
    assert augment(api, key_block="llm-key")["done"] == 3
    for path in Path(api["store"]).rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()
    settings = PipelineConfig.model_validate(api).augment.api
    with pytest.raises(ConfigError, match="there is no Secret block 'none-such'"):
        endpoint_key(settings.model_copy(update={"key_block": "none-such"}))
    monkeypatch.setenv("MY_KEY", "sk-env")
    assert endpoint_key(settings.model_copy(update={"key_env": "MY_KEY"})) == "sk-env"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert endpoint_key(settings) == ""  # one's own endpoint may need none
    with pytest.raises(ConfigError, match="environment variable OPENAI_API_KEY: it is empty"):
        endpoint_key(settings.model_copy(update={"base_url": None}))


def test_a_batch_is_submitted_by_one_run_and_fetched_by_the_next(server: LLMServer, api: dict[str, Any]):
    server.behaviour = Behaviour(batch_seconds=1.0)
    first = augment(api, batch=True)
    assert (first["done"], first["waiting"], first["failed"]) == (0, 3, 0)
    assert first["reason"] == ""
    time.sleep(1.5)
    second = augment(api, batch=True)
    assert (second["done"], second["waiting"]) == (3, 0)
    assert len(server.requests) == 6


def test_a_run_can_wait_for_a_batch_and_its_repairs(server: LLMServer, api: dict[str, Any], monkeypatch):
    monkeypatch.setattr("dyprag.flows.augment.POLL", 0.3)
    server.behaviour = Behaviour(batch_seconds=0.2, script=["not_json", "truncated_json", "500"])
    summary = augment(api, batch=True, batch_wait=60)
    assert (summary["done"], summary["waiting"], summary["failed"]) == (3, 0, 0)


def test_a_dry_run_estimates_the_cost_and_sends_nothing(tmp_path: Path, server: LLMServer, api: dict[str, Any]):
    path = tmp_path / "config.yaml"
    api["augment"]["api"]["prices"] = {"m": {"input": 1.0, "output": 1.0}}
    path.write_text(yaml.safe_dump(api))
    found = json.loads(CliRunner().invoke(app, ["augment", "--dry-run", "--json", "-c", str(path)]).output)
    assert server.requests == []
    assert (found["documents"], found["requests"]) == (3, 6)
    augment(api)
    used = [sum(request.usage[name] for request in server.requests) for name in ("prompt_tokens", "completion_tokens")]
    assert 0.6 * used[0] < found["tokens_in"] < 1.6 * used[0]
    assert found["cost"] == pytest.approx((found["tokens_in"] + found["tokens_out"]) / 1e6)
    text = CliRunner().invoke(app, ["augment", "--dry-run", "-c", str(path)]).output
    assert "0 documents lack a product: 0 requests to m" in text


def test_one_document_is_shown_with_its_products_marks_and_what_was_dropped(
    tmp_path: Path, server: LLMServer, api: dict[str, Any]
):
    path = tmp_path / "config.yaml"
    api["corpus"] = {"documents": write_jsonl(tmp_path / "one.jsonl", [{"id": "lamp", "text": TEXTS["lamp"]}])}
    path.write_text(yaml.safe_dump(api))
    server.behaviour = Behaviour(script=["invented", "invented"], latency=0.1)
    augment(api)
    shown = CliRunner().invoke(app, ["augment", "--show", "lamp", "-c", str(path)]).output
    assert TEXTS["lamp"] in shown
    assert "recall 1.00, change" in shown
    assert "support 1.00" in shown
    assert "dropped, it " in shown
    assert "dropped, its answer does not stand in the document" in shown
    assert "tokens in" in shown
    found = json.loads(CliRunner().invoke(app, ["augment", "--show", "lamp", "--json", "-c", str(path)]).output)
    assert len(found["qa_pairs"]["accepted"]) == 2
    none = CliRunner().invoke(app, ["augment", "--show", "none", "-c", str(path)])
    assert none.exit_code == 1


def start_server(port: int) -> subprocess.Popen[bytes]:
    """Start the LLM service as a separate process that is listening on return."""
    command = [sys.executable, str(Path(llm_server.__file__)), "--port", str(port), "--latency", "0.3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_if_the_endpoint_is_killed_and_restarted_no_response_is_lost_or_paid_twice(tmp_path: Path, api: dict[str, Any]):
    """Open requests break, connections are refused for a while, and a new process takes over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rows = [{"id": f"d{n}", "text": f"{TEXTS['lamp']} It has {n + 2} steps."} for n in range(16)]
    api["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}
    running = [start_server(port)]

    def kill_and_restart() -> None:
        while sum(1 for _ in responses(Store(api["store"]))) < 4:
            time.sleep(0.02)
        running[0].kill()
        running[0].wait()
        time.sleep(2)
        running.append(start_server(port))

    accident = threading.Thread(target=kill_and_restart, daemon=True)
    accident.start()
    try:
        summary = augment(api, base_url=f"http://127.0.0.1:{port}/v1", concurrency=4)
        accident.join(timeout=30)
        assert len(running) == 2
        assert (summary["done"], summary["failed"], summary["waiting"]) == (16, 0, 0)
        answers = [response.request for response in responses(Store(api["store"]))]
        assert len(answers) == len(set(answers)) == 32
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_a_product_the_model_cannot_complete_is_partial_with_a_reason_and_not_requested_again(
    server: LLMServer, api: dict[str, Any]
):
    server.behaviour = Behaviour(invented=1.0)
    api["augment"] |= {"qa_pairs": 4, "least_pairs": 2, "rewrites": 0, "tries": 1}
    summary = augment(api)
    assert (summary["done"], summary["partial"], summary["failed"]) == (3, 3, 0)
    for row in query(api, "SELECT reason FROM partial"):
        assert "0 of 4 qa pairs by the model, 2 by rule (" in row["reason"]
        assert "does not stand in the document" in row["reason"]
    before = len(server.requests)
    assert augment(api)["cached"] == 3
    assert len(server.requests) == before


@pytest.mark.slow
def test_after_random_kills_the_result_is_the_same_and_no_response_is_paid_twice(
    tmp_path: Path, server: LLMServer, api: dict[str, Any]
):
    rng, kills, concurrency = random.Random(0), 3, 4
    rows = [{"id": f"d{n}", "text": f"{TEXTS['lamp']} It has {n + 2} steps."} for n in range(60)]
    api["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}
    api["augment"]["tries"] = 4
    api["augment"]["api"] |= {"concurrency": concurrency, "retries": 8}
    trouble = {"latency": 0.1, "rate_limited": 0.1, "server_error": 0.02, "not_json": 0.05, "retry_after": 0.05}
    augment({**api, "store": str(tmp_path / "whole")})
    server.behaviour = Behaviour(**trouble)
    server.reset()
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(api))
    from dyprag.flows.ingest import ingest

    ingest(PipelineConfig.model_validate(api))
    for _ in range(kills):
        before = len(server.requests)
        process = subprocess.Popen(
            [sys.executable, "-m", "dyprag.cli.main", "augment", "-c", str(path)], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while len(server.requests) < before + 5:
            assert process.poll() is None, "it ended before the kill"
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.7))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    summary = augment(api)
    assert (summary["done"], summary["failed"], summary["partial"]) == (60, 0, 0)
    assert server.stats()["repeated"] <= kills * concurrency
    assert items(Store(tmp_path / "whole")) == items(Store(api["store"]))


def items(store: Store) -> dict[str, Any]:
    """Accepted items of every product, by key."""
    found = {}
    for record in store.records():
        if record.kind in ("rewrites", "qa_pairs"):
            assert store.find(record.kind, record.key) == record
            found[record.key] = read_product(store.folder(record.kind, record.key)).items
    return found
