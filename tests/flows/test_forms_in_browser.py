"""The button *Submit* in Chromium, on the form of every deployment, in both of Prefect's UIs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import UIS, Browser, FormPage
from conftest import wait_for
from own_server import ROOT, Server
from typer.testing import CliRunner

from dyprag.cli.main import app
from dyprag.config.form import read_form
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

DECLARED = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
NAMES = {f"{d['entrypoint'].split(':')[1].replace('_', '-')}/{d['name']}": d.get("parameters", {}) for d in DECLARED}
TALLEST = 3700  # pixels, at a width of 1200; with all 165 settings it was 22,461


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with all deployments; started after the browser, which all tests here need."""
    server = Server(tmp_path_factory.mktemp("prefect"))
    # what works beside the requests on the same SQLite file, and what nobody needs here, gets some refused with 503
    for service in ("SCHEDULER", "LATE_RUNS", "FOREMAN", "TRIGGERS", "CANCELLATION_CLEANUP"):
        server.environment[f"PREFECT_SERVER_SERVICES_{service}_ENABLED"] = "false"
    server.start("server", "start")
    try:
        wait_for("the server", server.is_up)
        server.deploy()
        yield server
    finally:
        server.stop()


def printed_config(*given: str) -> dict[str, Any]:
    """The output of `dyprag config --all`."""
    words = [word for setting in given for word in ("--set", setting)]
    return dict(yaml.safe_load(CliRunner().invoke(app, ["config", "--all", *words]).output))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ui", UIS)
def test_an_untouched_form_means_the_same_as_the_command_line_without_options(
    browser: Browser, server: Server, ui: str, name: str
):
    page = FormPage(browser, server, ui, name)
    assert 'Property is type "None"' not in page.text
    assert page.height < TALLEST
    declared = NAMES[name].get("config", {})
    for validated in (True, False):
        if not validated:
            page = FormPage(browser, server, ui, name)
            page.untick_validation()
        sent = page.submit()["parameters"]
        assert sent.get("config", {}) == declared, "what nobody typed is absent"
        config = read_form(sent.get("config", {})).resolved().model_dump(mode="json")
        assert config == printed_config(*(f"{s}.{n}={v}" for s, values in declared.items() for n, v in values.items()))


@pytest.mark.parametrize("ui", UIS)
def test_values_of_the_form_reach_the_run_and_nothing_else_changes(
    browser: Browser, server: Server, ui: str, tmp_path: Path
):
    page = FormPage(browser, server, ui, "parametrize/dyprag")
    page.type("Store", str(tmp_path / "store"))
    page.type("Rank", "4")
    page.clear("Rank")
    page.type("Learning rate", "0.0003")
    page.type("Epochs", "7")
    page.choose("Shuffle", "no")
    run = page.submit()
    assert run["parameters"] == {
        "config": {
            "store": str(tmp_path / "store"), "parametrize": {"learning_rate": 0.0003, "epochs": 7, "shuffle": "no"},
            **({"lora": {}} if ui == "v1" else {}),
        }
    }  # fmt: skip
    server.start("flow-run", "execute", run["id"])
    # as nothing has been ingested, it fails; what it works with stands in the catalogue by then
    wait_for("the run", lambda: server.api(f"/flow_runs/{run['id']}")["state_type"] == "FAILED")
    assert "has not been ingested" in server.api(f"/flow_runs/{run['id']}")["state"]["message"]
    (row,) = Catalogue(Store(str(tmp_path / "store"))).query("SELECT config FROM runs", [])
    expected = printed_config(
        f"store={tmp_path / 'store'}", "parametrize.learning_rate=0.0003", "parametrize.epochs=7",
        "parametrize.shuffle=false",
    )  # fmt: skip
    assert json.loads(row["config"]) == expected


@pytest.mark.parametrize("ui", UIS)
def test_an_invalid_value_is_rejected_at_its_field_and_can_be_corrected(browser: Browser, server: Server, ui: str):
    page = FormPage(browser, server, ui, "parametrize/dyprag")
    page.type("Epochs", "0")
    page.press_submit()
    words = {"v1": "'config.parametrize.epochs'. Failure reason: 0 is less than the minimum of 1", "v2": "equal to 1"}
    wait_for("the refusal", lambda: words[ui] in page.refusal)
    page.clear("Epochs")
    page.type("Epochs", "2")
    assert page.submit()["parameters"] == {"config": {"parametrize": {"epochs": 2}}}
