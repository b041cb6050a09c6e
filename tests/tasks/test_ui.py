"""Calls for the UI: an unavailable server costs one log line and no work."""

import time

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from dyprag.tasks import ui


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch):
    """A server address at which nothing listens."""
    monkeypatch.setattr(ui, "_retry_after", 0.0)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


@pytest.mark.usefixtures("nobody")
def test_an_unavailable_server_is_logged_once_and_delays_nothing(messages: list[str]):
    began = time.monotonic()
    move = ui.progress("adapters")
    for percent in range(100):
        move(percent)
    assert time.monotonic() - began < 5
    assert len(messages) == 1
    assert messages[0].startswith("The Prefect server does not answer (ConnectError). The run continues")


@pytest.mark.usefixtures("nobody")
def test_an_error_in_the_call_itself_is_raised():
    with pytest.raises(ZeroDivisionError):
        ui.publish(lambda: 1 // 0)


@pytest.mark.usefixtures("nobody")
def test_calls_are_retried_once_and_keep_all_settings():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 5}):
        during = ui.publish(lambda: (PREFECT_CLIENT_MAX_RETRIES.value(), PREFECT_API_URL.value()))
        assert during == (1, "http://127.0.0.1:9/api")
        assert PREFECT_CLIENT_MAX_RETRIES.value() == 5
