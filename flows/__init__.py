"""Prefect flows: one file per stage, and the pipeline and experiment that run the stages."""

import logging
import os

from dyprag.flows.own_server import watch_own_servers
from dyprag.runtime.proxies import prepare_proxies

# Let Prefect's client reach a server on this machine although a proxy is configured.
prepare_proxies()

# Read when Prefect is imported. The automation that detects dead runs (automations.py) relies on this interval.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")

# A run without a server starts its own. On a busy machine this takes longer than the 20 s that Prefect allows.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")

# Prefect adds its handler to extra loggers but sets no level, so log lines would not reach the UI.
logging.getLogger("dyprag").setLevel(logging.INFO)

watch_own_servers()
