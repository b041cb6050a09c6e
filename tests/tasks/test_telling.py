"""What is only told to people: a server that is away costs one line in the log, and no work."""

import time

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from dyprag.tasks import telling


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch):
    """An address of a server at which nothing listens."""
    monkeypatch.setattr(telling, "_retry_after", 0.0)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


@pytest.mark.usefixtures("nobody")
def test_a_server_that_is_away_is_told_of_once_and_holds_nothing_up(messages: list[str]):
    began = time.monotonic()
    move = telling.progress("adapters")
    for percent in range(100):
        move(percent)
    assert time.monotonic() - began < 5
    assert len(messages) == 1
    assert messages[0].startswith("The Prefect server does not answer (ConnectError). The run continues")


@pytest.mark.usefixtures("nobody")
def test_a_mistake_in_what_is_told_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        telling.told(lambda: 1 // 0)


@pytest.mark.usefixtures("nobody")
def test_while_telling_the_server_is_asked_once_more_and_no_setting_is_lost():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 5}):
        during = telling.told(lambda: (PREFECT_CLIENT_MAX_RETRIES.value(), PREFECT_API_URL.value()))
        assert during == (1, "http://127.0.0.1:9/api")
        assert PREFECT_CLIENT_MAX_RETRIES.value() == 5
