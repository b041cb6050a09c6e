"""Prefect flows: one file a stage, and the pipeline that calls them in turn."""

import logging
import os

from dyprag.flows.own_server import watch_own_servers
from dyprag.runtime.proxies import prepare_proxies

# Prefect's client finds its server, which mostly runs on this machine, whatever proxy there is.
prepare_proxies()

# Read when Prefect is imported: the automation that finds dead runs (automations.py) counts on a heartbeat so often.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")

# A run without a server starts one for itself: on a busy machine, or with another run's, in more than Prefect's 20 s.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")

# Prefect gives an extra logger its handler but no level: without one, our lines would not reach the UI.
logging.getLogger("dyprag").setLevel(logging.INFO)

watch_own_servers()
