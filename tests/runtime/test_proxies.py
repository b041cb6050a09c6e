"""Proxies of the environment: this machine is reached without a proxy, and a required proxy works or is named."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from augmenters import augmenter_of
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_endpoints import PAIRS, completion, endpoint

from dyprag.augmentation.api import ApiAugmenter
from dyprag.corpora.documents import Document
from dyprag.errors import ConfigError, Stopped
from dyprag.runtime.proxies import prepare_proxies, proxy_of
from dyprag.storage.artifacts import Store

LAMP = Document("lamp", "The Ostrel lamp was built in 1911 by Greta Olmsted. It stands 24 metres above Brevik Harbour.")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies, restored after each test."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for given_name in (name, name.upper()):
            monkeypatch.setenv(given_name, "x")  # makes monkeypatch restore the variable
            monkeypatch.delenv(given_name)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., ApiAugmenter]:
    def make(url: str, **api: Any) -> ApiAugmenter:
        return augmenter_of(url, Store(tmp_path / "store"), **{"give_up_after": 2, "retries": 1, **api})

    return make


class Proxy:
    """A proxy that answers every request itself, with one status."""

    def __init__(self, status: int) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.asked.append(self.path)
                body = completion('{"qa_pairs": ' + str(PAIRS).replace("'", '"') + "}") if status == 200 else {}
                data = str(body).encode() if status != 200 else httpx.Response(200, json=body).content
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_CONNECT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://user:pass-word@127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    running = Proxy(request.param)
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.mark.parametrize(
    ("name", "value", "host"),
    [
        ("HTTP_PROXY", NOWHERE, "127.0.0.1"),
        ("http_proxy", "127.0.0.1:9", "localhost"),
        ("ALL_PROXY", "socks5://127.0.0.1:9", "127.0.0.1"),
        ("all_proxy", "socks5h://127.0.0.1:9", "localhost"),
        ("ALL_PROXY", "socks://127.0.0.1:9/", "127.0.0.1"),
    ],
)
def test_a_local_endpoint_is_reached_without_a_proxy(
    made: Callable[..., ApiAugmenter], monkeypatch: pytest.MonkeyPatch, name: str, value: str, host: str
):
    monkeypatch.setenv(name, value)
    with endpoint(lambda *_: completion('{"qa_pairs": []}')) as odd:
        augmenter = made(odd.url.replace("127.0.0.1", host))
        error = augmenter.begin(LAMP, "qa_pairs", "k").exception(timeout=30)
        assert 'the list "qa_pairs" is empty' in str(error)
        assert odd.asked
        augmenter.close()
    for other in (host, "127.0.0.2", "[::1]", "mine.localhost", "0.0.0.0"):
        prepare_proxies(f"http://{other}:8000/v1")
        assert proxy_of(f"http://{other}:8000/v1") == ""
    assert proxy_of("http://far.example/v1").startswith(f"{name}=")


@pytest.mark.parametrize(
    "given_list",
    ["[::1]", "fe80::/10", "fd00::/8,.corp", "localhost,127.0.0.0/8,::1", "*.corp, .corp", "10.0.0.0/8", "*", " , ",
     "http://localhost", "localhost:8000", "::1"],
)  # fmt: skip
def test_clients_work_and_reach_this_machine_with_any_no_proxy(monkeypatch: pytest.MonkeyPatch, given_list: str):
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    monkeypatch.setenv("NO_PROXY", given_list)
    prepare_proxies()
    with endpoint(lambda *_: {"fine": True}) as odd:
        assert httpx.get(odd.url).json() == {"fine": True}
        assert httpx.get(odd.url.replace("127.0.0.1", "localhost")).json() == {"fine": True}
        openai.OpenAI(api_key="x", base_url=odd.url)
    before = os.environ["NO_PROXY"]
    prepare_proxies()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == before


def test_a_host_in_a_network_of_no_proxy_bypasses_the_proxy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,fd00::/8")
    for host, spared in (("10.1.2.3", True), ("[fd00::7]", True), ("11.1.2.3", False), ("far.example", False)):
        prepare_proxies(f"http://{host}:8000/v1")
        assert (proxy_of(f"http://{host}:8000/v1") == "") == spared, host


def test_without_a_proxy_the_environment_is_unchanged():
    before = dict(os.environ)
    prepare_proxies("http://127.0.0.1:8000/v1")
    assert dict(os.environ) == before


@pytest.mark.parametrize("value", ["foo://x:1", "socks4://x:1", "http://", "http://h:port", "http://[::1", "ftp://h:1"])
def test_an_unusable_proxy_raises_one_clear_error_without_its_password(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("ALL_PROXY", value.replace("//", "//me:secret@"))
    with pytest.raises(
        ConfigError, match=r"environment variable ALL_PROXY: .* is not a usable proxy URL.*socks5://"
    ) as caught:
        prepare_proxies()
    assert "secret" not in str(caught.value)


@given(st.text("ab.:/[]*,0123456789 -", max_size=20))
@settings(max_examples=25)
def test_no_proxy_entries_never_break_a_client(entries: str):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, entries)
        patch.setenv("HTTP_PROXY", NOWHERE)
        prepare_proxies()
        httpx.Client(verify=False).close()


@pytest.mark.parametrize("proxy", [200], indirect=True)
def test_a_required_proxy_is_used(made: Callable[..., ApiAugmenter], monkeypatch: pytest.MonkeyPatch, proxy: Proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    augmenter = made("http://far.example/v1")
    assert len(augmenter.begin(LAMP, "qa_pairs", "k").result(timeout=30).accepted) == 2
    assert proxy.asked == ["http://far.example/v1/chat/completions"]


@pytest.mark.parametrize("proxy", [407], indirect=True)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named_without_its_password(
    made: Callable[..., ApiAugmenter], monkeypatch: pytest.MonkeyPatch, proxy: Proxy, scheme: str
):
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.url)
    error = made(f"{scheme}://far.example/v1").begin(LAMP, "qa_pairs", "k").exception(timeout=30)
    assert isinstance(error, Stopped)
    assert f"the proxy ({scheme.upper()}_PROXY=http://…@127.0.0.1:" in str(error)
    assert "pass-word" not in str(error)


@pytest.mark.parametrize("value", [NOWHERE, "socks5://127.0.0.1:9"])
def test_a_proxy_that_is_down_is_named(
    made: Callable[..., ApiAugmenter], monkeypatch: pytest.MonkeyPatch, value: str, messages: list[str]
):
    monkeypatch.setenv("ALL_PROXY", value)
    error = made("http://far.example/v1").begin(LAMP, "qa_pairs", "k").exception(timeout=60)
    assert isinstance(error, Stopped)
    assert f"through the proxy ALL_PROXY={value}" in "\n".join([*messages, str(error)])


def test_prefects_client_reaches_this_machine_once_the_flows_are_imported():
    code = (
        "import dyprag.flows, httpx, os; print(os.environ['NO_PROXY']); "
        "from prefect.client.orchestration import get_client; get_client(sync_client=True); httpx.AsyncClient()"
    )
    proxies = {"HTTP_PROXY": NOWHERE, "ALL_PROXY": "socks5://127.0.0.1:9"}
    environment = {**os.environ, **proxies, "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1" in done.stdout
