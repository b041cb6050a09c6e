"""The augmentation stage on a real Prefect server with a real endpoint: storing, repeating, costs and reporting."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from augment_flow import augment, query, through
from conftest import TEXTS, write_jsonl
from llm_server import Behaviour, LLMServer
from typer.testing import CliRunner

from dyprag.cli.main import app
from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError
from dyprag.tasks.augment import endpoint_key

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture(scope="module")
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def api(settings: dict[str, Any], server: LLMServer) -> dict[str, Any]:
    """The small corpus, augmented through the endpoint."""
    return through(server, settings)


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
