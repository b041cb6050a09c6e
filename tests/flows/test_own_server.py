"""The server that a run starts for itself."""

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from dyprag.flows.own_server import heartbeats_where_needed


@pytest.mark.parametrize(("url", "seconds"), [(None, None), ("http://127.0.0.1:1/api", 30)])
def test_only_a_server_that_outlives_the_run_gets_heartbeats(url: str | None, seconds: int | None):
    with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
        with heartbeats_where_needed():
            assert PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() == seconds
        assert PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() == 30
