"""Ctrl-C and SIGTERM on a terminal, and SIGKILL: a command ends soon, reports and marks it, leaves nothing behind, and
continues when it is run again."""

import signal
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from conftest import eight_lamps, make_tiny_model, wait_for
from llm_server import Behaviour, LLMServer
from own_server import Server, free_port, running
from prefect.settings import PREFECT_API_URL, temporary_settings
from terminal import CTRL_C, Terminal
from test_interrupted import checksums

from dyprag.config import PipelineConfig
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue

pytestmark = pytest.mark.prefect
SOON = 10.0  # seconds: it is to be 5, and 10 where two cores are busy
SAID = "Stopping. Finished work is kept: run the same command again to continue."
ADAPTERS = "adapter/*/*/record.json"
CODES = {CTRL_C: 130, signal.SIGTERM: 143}
LEARN = {
    "closed": 6, "open": 6, "steps": 1500, "documents": 2, "questions": 2, "rank": 2, "alpha": 2, "first_layer": 1,
    "sources": 1, "width": 8, "heads": 2, "blocks": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def configured(tmp_path: Path, settings: dict[str, Any]) -> Any:
    """Writes a configuration with eight documents, which take some seconds in each stage."""
    settings["corpus"] |= eight_lamps(tmp_path)
    settings["parametrize"] |= {"epochs": 40, "documents": 1}
    settings["translator"] |= {"epochs": 60}

    def configure(name: str, **changes: Any) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**settings, **changes, "store": str(tmp_path / name)}))
        return str(path)

    return configure


def states(server: Server, since: set[str]) -> dict[str, str]:
    """States of new flow runs by flow name."""
    flows = {flow["id"]: flow["name"] for flow in server.api("/flows/filter", {})}
    runs = server.api("/flow_runs/filter", {})
    return {flows[run["flow_id"]]: run["state_name"] for run in runs if run["id"] not in since}


def known(server: Server) -> set[str]:
    return {run["id"] for run in server.api("/flow_runs/filter", {})}


def records(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.glob("*/*/*/record.json")}


def ends_well(run: Terminal, sent: int | bytes, said: str = SAID) -> None:
    """Send a signal, and check that the command ends soon with the right code and message and leaves nothing."""
    run.send(sent)
    code, seconds = run.end(60)
    assert seconds < SOON, f"{seconds:.1f} s: {run.text}"
    assert code == CODES[sent], run.text
    assert run.survivors() == []
    assert run.text.count(said) == 1, run.text
    assert "Traceback" not in run.text
    assert "error:" not in run.text


def goes_on(store: Path, *words: str, home: Path, server: Server | None = None) -> str:
    """Run the same command again, and check that it succeeds and makes nothing twice. Returns its output."""
    made = records(store)
    again = Terminal(*words, home=home, server=server)
    code, _ = again.end()
    assert code == 0, again.text
    now = records(store)
    assert {path: now[path] for path in made} == made, "what was made was made again"
    assert not list(store.glob("*/*/.writing-*"))
    return again.text


def prepared(config: str, server: Server, *stages: str) -> None:
    """Run stages in this process, which is faster than running commands."""
    settings = PipelineConfig.model_validate(yaml.safe_load(Path(config).read_text()))
    with temporary_settings({PREFECT_API_URL: server.url}):
        for name in stages:
            getattr(import_module(f"dyprag.flows.{name}"), name)(settings)


def run_states(store: Path) -> list[str]:
    return [row["state"] for row in Catalogue(Store(store)).query("SELECT state FROM runs ORDER BY started")]


def test_ctrl_c_during_training_ends_the_run_and_the_next_run_continues(
    configured: Any, tmp_path: Path, server: Server
):
    config, store = configured("store"), tmp_path / "store"
    prepared(config, server, "ingest", "augment")
    before = known(server)
    run = Terminal("run", "-c", config, home=tmp_path, server=server)
    run.wait_until("an adapter", lambda: list(store.glob(ADAPTERS)))
    ends_well(run, CTRL_C)
    assert 0 < len(list(store.glob(ADAPTERS))) < 8
    found = states(server, before)
    assert found == {"ingest": "Completed", "augment": "Completed", "parametrize": "Cancelled", "pipeline": "Cancelled"}
    assert run_states(store)[-3:] == ["completed", "completed", "cancelled"]
    rows = Catalogue(Store(store)).query("SELECT state, count(*) AS n FROM latest_work WHERE stage = 'parametrize' "
                                         "GROUP BY state")  # fmt: skip
    assert {row["state"] for row in rows} == {"done", "waiting"}
    assert "parametrize: 8 in all" in goes_on(store, "parametrize", "-c", config, home=tmp_path, server=server)


def test_sigterm_while_an_endpoint_is_slow_ends_the_run(configured: Any, tmp_path: Path, server: Server):
    with LLMServer(Behaviour(latency=1.5)) as llm:
        api = {"model": "m", "base_url": llm.url, "concurrency": 2, "retries": 2}
        augment = {"backend": "api", "qa_pairs": 2, "rewrites": 1, "tries": 2, "api": api}
        config, store = configured("store", augment=augment), tmp_path / "store"
        prepared(config, server, "ingest")
        before = known(server)
        run = Terminal("augment", "-c", config, home=tmp_path, server=server)
        run.wait_until("an answer", lambda: list(store.glob("rewrites/*/*/record.json")))
        ends_well(run, signal.SIGTERM)
        assert states(server, before) == {"augment": "Cancelled"}
        llm.behaviour = Behaviour()
        answered = len(list(store.glob("*/*/*/record.json"))) - 1  # one is the corpus
        assert 0 < answered < 16
        llm.reset()
        goes_on(store, "augment", "-c", config, home=tmp_path, server=server)
        assert len(llm.requests) <= 16 - answered, "what was answered was asked again"


def own_server(run: Terminal) -> psutil.Process | None:
    children = psutil.Process(run.process.pid).children()
    return next((child for child in children if "uvicorn" in " ".join(child.cmdline())), None)


def test_a_run_s_own_server_ends_with_it_even_if_the_run_is_killed(configured: Any, tmp_path: Path):
    config = configured("store")
    run = Terminal("run", "-c", config, home=tmp_path)
    run.wait_until("its server", lambda: own_server(run))
    run.send(signal.SIGKILL)
    run.end()
    assert run.survivors() == []


DEAF = """
import sys, time
if "parametrize" in sys.orig_argv:
    import dyprag.adapters.parametrize
    train = dyprag.adapters.parametrize._Group.train
    made = []
    def deaf(self):
        if len(made) == 3:
            time.sleep(300)
        made.append(train(self))
        return made[-1]
    dyprag.adapters.parametrize._Group.train = deaf
"""


@pytest.mark.slow
def test_work_that_ignores_interruptions_ends_with_the_process_and_is_reported(
    configured: Any, tmp_path: Path, server: Server
):
    config, store = configured("store"), tmp_path / "store"
    prepared(config, server, "ingest", "augment")
    (tmp_path / "sitecustomize.py").write_text(DEAF)
    before = known(server)
    run = Terminal("parametrize", "-c", config, home=tmp_path, server=server, site=tmp_path)
    run.wait_until("three adapters", lambda: len(list(store.glob(ADAPTERS))) == 3)
    time.sleep(1)
    ends_well(run, signal.SIGTERM)
    assert states(server, before) == {"parametrize": "Cancelled"}
    assert run_states(store)[-1] == "cancelled"
    sql = "SELECT state, count(*) AS n FROM latest_work WHERE stage = 'parametrize' GROUP BY state ORDER BY state"
    assert Catalogue(Store(store)).query(sql) == [{"state": "done", "n": 3}, {"state": "waiting", "n": 5}]
    goes_on(store, "parametrize", "-c", config, home=tmp_path, server=server)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sent", CODES, ids=["SIGINT", "SIGTERM"])
def test_a_run_stopped_in_each_stage_ends_with_the_artifacts_of_an_undisturbed_one(
    sent: int | bytes, configured: Any, tmp_path: Path, server: Server
):
    goes_on(tmp_path / "alone", "run", "-c", configured("alone"), home=tmp_path, server=server)
    config, store = configured("stopped"), tmp_path / "stopped"
    within = {
        "ingest": ("catalogue.duckdb", 1), "augment": ("rewrites/*/*/record.json", 1), "parametrize": (ADAPTERS, 1),
        "train-translator": ("embedding/*/*/record.json", 8), "evaluate": ("prediction/*/*/record.json", 1),
    }  # fmt: skip
    for stage, (mark, count) in within.items():
        before = known(server)
        run = Terminal("run", "-c", config, home=tmp_path, server=server)
        run.wait_until(stage, lambda m=mark, n=count: len(list(store.glob(m))) >= n, 300)
        ends_well(run, sent)
        assert states(server, before)["pipeline"] == "Cancelled"
        assert set(states(server, before).values()) <= {"Cancelled", "Completed"}, stage
    goes_on(store, "run", "-c", config, home=tmp_path, server=server)
    assert checksums(store) == checksums(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("sent", CODES, ids=["SIGINT", "SIGTERM"])
def test_a_run_with_its_own_server_ends_together_with_it(sent: int | bytes, configured: Any, tmp_path: Path):
    config, store = configured("store"), tmp_path / "store"
    run = Terminal("run", "-c", config, home=tmp_path)
    run.wait_until("an adapter", lambda: list(store.glob(ADAPTERS)), 300)
    assert own_server(run)
    ends_well(run, sent)
    with sqlite3.connect(tmp_path / "prefect.db") as database:
        found = database.execute("SELECT state_name FROM flow_run WHERE name LIKE 'pipeline%'").fetchall()
    assert found == [("Cancelled",)]
    goes_on(store, "run", "-c", config, home=tmp_path)


@pytest.mark.slow
def test_a_run_can_be_stopped_while_it_reads_many_documents(
    configured: Any, tmp_path: Path, server: Server, settings: dict[str, Any]
):
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(6000):
        (folder / f"{number}.html").write_text(f"<h1>Lamp {number}</h1><p>It was built in {number}.</p>" * 20)
    config = configured("store", corpus={"documents": str(folder)})
    run = Terminal("ingest", "-c", config, home=tmp_path, server=server)
    run.wait_until("the store", (tmp_path / "store" / "lock").exists)
    ends_well(run, CTRL_C)
    assert run_states(tmp_path / "store")[-1:] == ["cancelled"]
    assert "6000 in all" in goes_on(tmp_path / "store", "ingest", "-c", config, home=tmp_path, server=server)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_learning_a_translator_resumes_from_the_step_at_which_it_was_stopped(
    configured: Any, tmp_path: Path, server: Server
):
    recall = {"closed": 2, "open": 2, "questions": 1, "parametrized": 1}
    alone, config = (configured(name, learn=LEARN, recall=recall) for name in ("alone", "stopped"))
    goes_on(tmp_path / "alone", "learn", "-c", alone, home=tmp_path, server=server)
    begun = {"artifacts": {"key": {"any_": ["learn-progress"]}}}
    before = len(server.api("/artifacts/filter", begun))
    run = Terminal("learn", "-c", config, home=tmp_path, server=server)
    run.wait_until("the training", lambda: len(server.api("/artifacts/filter", begun)) > before)
    time.sleep(4)
    ends_well(run, CTRL_C)
    assert list((tmp_path / "stopped" / "checkpoints").iterdir()), "nothing is lost, not even the last minute"
    said = goes_on(tmp_path / "stopped", "learn", "-c", config, home=tmp_path, server=server)
    assert "Resuming the training at step" in said
    stopped, undisturbed = (
        {name: sum_ for name, sum_ in checksums(tmp_path / store).items() if "curve" not in name}  # it has seconds
        for store in ("stopped", "alone")
    )
    assert stopped == undisturbed != {}


@pytest.mark.slow
@pytest.mark.parametrize("sent", CODES, ids=["SIGINT", "SIGTERM"])
def test_worker_processes_end_with_a_stopped_run(sent: int | bytes, configured: Any, tmp_path: Path, server: Server):
    run_settings = {"retries": 0, "runner": "processes", "workers": 2, "documents_per_task": 1}
    config, store = configured("store", run=run_settings), tmp_path / "store"
    run = Terminal("run", "-c", config, home=tmp_path, server=server)
    run.wait_until("an adapter", lambda: list(store.glob(ADAPTERS)), 300)
    ends_well(run, sent)
    failures = Catalogue(Store(store)).query("SELECT * FROM failures")
    assert failures == [], "a worker that was ended died over no document"
    goes_on(store, "run", "-c", config, home=tmp_path, server=server)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(configured: Any, tmp_path: Path, server: Server):
    config, store = configured("store"), tmp_path / "store"
    run = Terminal("run", "-c", config, home=tmp_path, server=server)
    run.wait_until("an adapter", lambda: list(store.glob(ADAPTERS)))
    run.send(CTRL_C)
    time.sleep(0.5)
    run.send(CTRL_C)
    code, seconds = run.end()
    assert code == 130
    assert seconds < 2
    goes_on(store, "run", "-c", config, home=tmp_path, server=server)


@pytest.mark.slow
def test_stopping_one_of_two_runs_on_a_store_does_not_affect_the_other(configured: Any, tmp_path: Path, server: Server):
    config, store = configured("store"), tmp_path / "store"
    both = [Terminal("run", "-c", config, home=tmp_path, server=server) for _ in range(2)]
    both[0].wait_until("an adapter", lambda: list(store.glob(ADAPTERS)), 300)
    ends_well(both[0], signal.SIGTERM)
    assert both[1].end()[0] == 0, both[1].text
    assert {"completed", "cancelled"} == set(run_states(store))
    goes_on(store, "run", "-c", config, home=tmp_path, server=server)


@pytest.mark.slow
@pytest.mark.parametrize("sent", CODES, ids=["SIGINT", "SIGTERM"])
def test_a_server_with_an_open_stream_ends(sent: int | bytes, tmp_path: Path, folder: Path, tiny_model: str):
    port = free_port()
    words = ["serve", "--port", str(port), "--set", f"model.name={tiny_model}", "--set", "model.dtype=float32"]
    run = Terminal(*words, "--set", f"translator.learned={folder}", home=tmp_path)
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            return urllib.request.urlopen(f"{url}/healthz", timeout=5).status == 200
        except OSError:
            return False

    run.wait_until("the server", up)
    body = {"messages": [{"role": "user", "content": "Tell me all."}], "stream": True, "max_tokens": 1000}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as stream:
        next(stream.iter_lines())
        ends_well(run, sent, "Stopping. Running requests have 3 seconds to finish.")


@pytest.mark.slow
def test_a_question_can_be_interrupted(configured: Any, tmp_path: Path):
    """Interrupt while a large model is loaded, which cannot be interrupted."""
    model = make_tiny_model(tmp_path / "large", layers=8, hidden=512)
    document = tmp_path / "lamp.txt"
    document.write_text("The Ostrel lamp was built in 1911 by Greta Olmsted.")
    run = Terminal("ask", "Who built it?", "-d", str(document), "--set", f"model.name={model}", home=tmp_path)
    time.sleep(2)
    ends_well(run, CTRL_C, "Interrupted. Run the same command again.")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_is_cancelled_in_the_ui_ends_as_cancelled(configured: Any, tmp_path: Path, settings: dict[str, Any]):
    server = Server(tmp_path / "prefect")
    server.start("server", "start")
    try:
        wait_for("the server", server.is_up, 300)
        server.deploy()
        server.start("worker", "start", "--pool", "dyprag")
        deployment = server.deployment("pipeline/dyprag")
        config = yaml.safe_load(Path(configured("store")).read_text())
        made = server.api(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": {"config": config}})
        store = tmp_path / "store"
        wait_for("an adapter", lambda: bool(list(store.glob(ADAPTERS))), 300)
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
        server.api(f"/flow_runs/{made['id']}/set_state", cancelling)
        ends = ("CANCELLED", "CRASHED", "FAILED", "COMPLETED")
        wait_for("its end", lambda: server.api(f"/flow_runs/{made['id']}")["state_type"] in ends, 120)
        found = states(server, set())
        # the stage's own state was told by its process: a worker kills after thirty seconds what does not end
        assert (found["pipeline"], found["parametrize"]) == ("Cancelled", "Cancelled"), server.log.read_text()[-5000:]
        assert run_states(store)[-1] == "cancelled"
    finally:
        server.stop()
