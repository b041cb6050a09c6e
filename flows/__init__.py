"""Prefect flows: one file a stage, and the pipeline that calls them in turn."""

import logging

# Prefect gives an extra logger its handler but no level: without one, our lines would not reach the UI.
logging.getLogger("dyprag").setLevel(logging.INFO)
