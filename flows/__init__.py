"""Prefect flows: one file a stage, and the pipeline that calls them in turn."""
