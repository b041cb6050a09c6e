"""Deployments on a real server with a real worker: the result of `make deploy`, and runs started through the API."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TEXTS, wait_for, write_jsonl
from own_server import ROOT, Server
from test_forms import schema_of

from dyprag.config import PipelineConfig
from dyprag.flows.automations import FLOWS
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue
from dyprag.tasks.planning.plan import Plan

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server after `make deploy`."""
    server = Server(tmp_path_factory.mktemp("prefect"))
    server.start("server", "start")
    try:
        wait_for("the server", server.is_up)
        assert server.hook not in server.deploy(), "a webhook's URL is a secret"
        yield server
    finally:
        server.stop()


def test_every_flow_is_a_deployment_with_its_form(server: Server):
    deployments = server.api("/deployments/filter", {})
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {(d["entrypoint"], d["name"]) for d in deployments} == {(d["entrypoint"], d["name"]) for d in declared}
    files = {path.stem for path in (ROOT / "flows").glob("*.py") if "\n@flow(" in path.read_text()}
    assert {d["entrypoint"].split(":")[1] for d in deployments} == files
    assert {name.replace("-", "_") for name in FLOWS} == files, "those that are watched over"
    assert len(deployments) == len(files) + 1  # the nightly one
    for deployment in deployments:
        assert "dyprag" in deployment["tags"]
        assert deployment["description"]
        assert deployment["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
        flow = deployment["entrypoint"].split(":")[1]
        assert deployment["parameter_openapi_schema"]["properties"] == schema_of(flow)["properties"], flow


def test_an_unknown_setting_is_rejected_before_a_run_is_created(server: Server):
    deployment = server.deployment("pipeline/dyprag")
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.api(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": {"config": {"lora": {"rnk": 4}}}})
    assert refused.value.code == 409
    assert "rnk" in refused.value.read().decode()


def test_runs_on_the_pool_queue_and_the_nightly_schedule_is_inactive_by_default(server: Server):
    pool = server.api("/work_pools/dyprag")
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)
    nightly = server.deployment("pipeline/nightly")
    (schedule,) = nightly["schedules"]
    assert (schedule["active"], schedule["schedule"]["cron"]) == (False, "0 2 * * *")

    def planned() -> list[Any]:
        wanted = {
            "deployments": {"id": {"any_": [nightly["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        return list(server.api("/flow_runs/filter", wanted))

    assert planned() == []
    place = f"/deployments/{nightly['id']}/schedules/{schedule['id']}"
    server.api(place, {"active": True}, "PATCH")
    wait_for("the scheduler", lambda: len(planned()) > 0)
    assert planned()[0]["expected_start_time"][11:16] == "02:00"
    server.api(place, {"active": False}, "PATCH")
    wait_for("its runs to go", lambda: planned() == [])


def test_automations_are_created_once_and_keep_the_webhook(server: Server, monkeypatch: pytest.MonkeyPatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from dyprag.flows.automations import TELL, WATCH, create_automations

    first = server.automations()
    assert set(first) == {WATCH, TELL}
    assert first[WATCH]["trigger"]["posture"] == "Proactive"
    assert first[WATCH]["actions"][0]["state"] == "CRASHED"
    assert first[TELL]["actions"][0]["type"] == "call-webhook"
    server.api(f"/automations/{first[WATCH]['id']}", {"enabled": False}, "PATCH")
    with temporary_settings({PREFECT_API_URL: server.url}):
        create_automations()
    second = server.automations()
    assert {found["id"] for found in second.values()} == {found["id"] for found in first.values()}
    assert second[TELL]["actions"] == first[TELL]["actions"]
    assert second[WATCH]["enabled"] is False, "what a person has switched off stays off"
    assert server.hook not in json.dumps(server.api("/block_documents/filter", {}))


@pytest.fixture(scope="module")
def worker(server: Server) -> None:
    """A worker of the pool."""
    server.start("worker", "start", "--pool", "dyprag")


def begin(server: Server, settings: dict[str, Any], name: str = "pipeline/dyprag") -> str:
    """Start a run as the UI does. Returns its id."""
    deployment = server.deployment(name)
    made = server.api(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": {"config": settings}})
    return str(made["id"])


def ended(server: Server, run: str) -> str:
    """Wait for a run to end. Returns the name of its state."""
    ends = ("COMPLETED", "FAILED", "CRASHED")
    wait_for("the flow run", lambda: server.api(f"/flow_runs/{run}")["state_type"] in ends)
    return str(server.api(f"/flow_runs/{run}")["state"]["name"])


@pytest.mark.usefixtures("worker")
def test_a_run_through_the_api_follows_its_settings_and_sends_a_notification_of_failures(
    server: Server, tmp_path: Path, settings: dict[str, Any]
):
    from dyprag.tasks.corpora import corpus_of

    rows = [{"id": "hollow", "text": " "}, *({"id": i, "text": text} for i, text in TEXTS.items())]
    settings["corpus"]["documents"] = write_jsonl(tmp_path / "docs.jsonl", rows)
    settings["evaluate"] |= {"methods": ["rag", "dyprag"]}
    settings["run"] |= {"on_failures": "complete"}
    run = begin(server, settings)
    assert ended(server, run) == "CompletedWithFailures", server.log.read_text()[-5000:]
    assert server.api(f"/flow_runs/{run}")["state_type"] == "FAILED"  # which no UI shows in green
    (page,) = server.api("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    assert "**hollow**, ingest: document 'hollow': it has no text" in page["data"]
    store, config = Store(settings["store"]), PipelineConfig.model_validate(settings).resolved()
    plan = Plan(config, corpus_of(config, store)[1])  # the names that the command line would give, and look for
    assert all(store.find("adapter", plan.adapter_key(d)) for d in plan.parametrized)
    assert len(plan.parametrized) == 3
    assert {record.kind for record in store.records()} >= {"corpus", "adapter", "translator", "prediction"}

    names = {task["name"] for task in server.api("/task_runs/filter", {"limit": 200})}
    assert {"augment lamp", "parametrize bridge", "evaluate rag, questions 1 to 3"} <= names
    report = server.api("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["report"]}}})[0]
    assert "dyprag" in report["data"]

    wait_for("the webhook to be called", lambda: len(server.told) > 0)
    (told,) = server.told  # once, and not for every stage
    assert "CompletedWithFailures" in told
    assert "1 failed" in told
    assert run in told


@pytest.mark.usefixtures("worker")
def test_a_run_reads_settings_from_a_file_and_reports_errors_in_it(
    server: Server, tmp_path: Path, settings: dict[str, Any]
):
    file, store = tmp_path / "mine.yaml", tmp_path / "of the form"
    file.write_text(yaml.safe_dump({**settings, "lora": {"rank": 5, "seed": 3}}))
    sent = {"config_file": str(file), "store": str(store), "settings": {"lora.alpha": 16}}
    assert ended(server, begin(server, sent, "ingest/dyprag")) == "Completed", server.log.read_text()[-5000:]
    (row,) = Catalogue(Store(str(store))).query("SELECT config FROM runs", [])
    changed = {**settings, "store": str(store), "lora": {"rank": 5, "seed": 3, "alpha": 16}}
    assert json.loads(row["config"]) == PipelineConfig.model_validate(changed).resolved().model_dump(mode="json")

    for sent, words in (
        ({"config_file": "absent.yaml"}, "ConfigError: configuration absent.yaml: it cannot be read"),
        ({"settings": {"lora.rnak": 1}}, "ConfigError: setting 'lora.rnak': there is no such setting. Did you mean"),
    ):
        run = begin(server, sent, "ingest/dyprag")
        assert ended(server, run) == "Failed"
        assert words in server.api(f"/flow_runs/{run}")["state"]["message"]


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("on_failures", "name"), [("complete", "CompletedWithFailures"), ("fail", "Failed")])
def test_retry_in_the_ui_makes_only_what_is_missing(
    server: Server, tmp_path: Path, settings: dict[str, Any], on_failures: str, name: str
):
    rows = [{"id": i, "text": text} for i, text in TEXTS.items()]
    hollow = {"id": "hollow", "text": " "}
    settings["corpus"]["documents"] = write_jsonl(tmp_path / "docs.jsonl", [hollow, *rows])
    settings["evaluate"] |= {"methods": ["rag"]}
    settings["run"] |= {"on_failures": on_failures}
    run = begin(server, settings)
    assert ended(server, run) == name, server.log.read_text()[-5000:]
    made = {path: path.stat().st_mtime_ns for path in Path(settings["store"]).glob("adapter/*/*/record.json")}
    assert len(made) == 3
    write_jsonl(tmp_path / "docs.jsonl", [{**hollow, "text": "The Ilmar hollow was dug in 1871."}, *rows])
    # what the button does
    retry = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    assert server.api(f"/flow_runs/{run}/set_state", {"state": retry, "force": False})["status"] == "ACCEPT"
    wait_for("the retry", lambda: server.api(f"/flow_runs/{run}")["run_count"] == 2)
    assert ended(server, run) == "Completed", server.log.read_text()[-5000:]
    now = {path: path.stat().st_mtime_ns for path in Path(settings["store"]).glob("adapter/*/*/record.json")}
    assert len(now) == 4
    assert {path: now[path] for path in made} == made
