"""Run a flow from a terminal: checks before the run, log lines, results and exit code."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dyprag.cli.options import of_store, read_config
from dyprag.cli.output import errors, print_json
from dyprag.cli.quick_imports import quick_imports
from dyprag.cli.signals import end_like
from dyprag.errors import DypragError, ServerError
from dyprag.runtime.interruption import check

if TYPE_CHECKING:
    from dyprag.config import PipelineConfig

STOPPING = "Stopping. Finished work is kept: run the same command again to continue."


def run_flow(name: str, path: Path | None, overrides: list[str] | None, as_json: bool, verbose: bool) -> None:
    """Run a flow. The exit code is 2 if documents failed or a stage stopped early.

    Args:
        name: the name of the flow's module and function, such as "train_translator".
        path, overrides: the configuration file and the overrides on top of it.
    """
    with errors():
        config = read_config(path, overrides)
        if name not in ("learn", "learn_augmenter"):
            config = of_store(config, ingests=name in ("ingest", "pipeline"))
        if config.experiment.name is not None and name in ("pipeline", "evaluate"):
            name = "experiment"
        end_like(STOPPING)
        _prepare_logging(verbose)
        with quick_imports():
            from dyprag.tasks.checks import check_ahead

            check_ahead(name, config)
            flow = _flow(name)
        # on the command line the exit code reports failures; the setting is for deployments
        run_settings = config.run.model_copy(update={"on_failures": "complete"})
        state = _state_of(flow, config.model_copy(update={"run": run_settings}))
        check()
        _print_outcome(summaries(name, state), config, path, overrides or [], as_json)


def _print_outcome(
    stages: list[dict[str, Any]], config: "PipelineConfig", path: Path | None, overrides: list[str], as_json: bool
) -> None:
    """Print the results of a run, if it evaluated, and whether documents failed."""
    if as_json:
        print_json(stages)
    elif any(stage["stage"] == "evaluate" and stage["done"] for stage in stages):
        _print_results(config, path, overrides)
    if any(stage["failed"] for stage in stages):
        print("Some documents failed; `dyprag status` shows which and why.", file=sys.stderr)
    if any(stage["failed"] or stage["reason"] for stage in stages):
        raise typer.Exit(2)


def summaries(name: str, state: Any) -> list[dict[str, Any]]:
    """How each stage of a run ended.

    Raises:
        DypragError: the error that stopped the run.
    """
    from dyprag.flows.summary import summaries_of

    try:
        return [asdict(summary) for summary in summaries_of(state)]
    except DypragError:
        raise
    except Exception as error:
        reason = " ".join(str(error or state.message).split())[:300]
        raise DypragError(
            f"flow {name}", f"it failed ({type(error).__name__}: {reason})",
            "See dyprag status, or run with --verbose. Run again to continue.",
        ) from error  # fmt: skip


def _state_of(flow: Callable[..., Any], config: "PipelineConfig") -> Any:
    """Run a flow and return its final state, which holds an error of the flow itself.

    Raises:
        ServerError: the Prefect server does not answer or cannot be started.
    """
    import httpx
    from prefect.exceptions import PrefectException
    from prefect.settings import PREFECT_API_URL

    from dyprag.flows.own_server import heartbeats_where_needed

    try:
        with heartbeats_where_needed():
            return flow(config, return_state=True)
    except (httpx.HTTPError, PrefectException, RuntimeError, OSError) as error:
        url = PREFECT_API_URL.value()
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ServerError(
            f"Prefect server {url or 'of this run'}", f"it does not answer ({reason})",
            "Start it, or unset PREFECT_API_URL so that each run starts its own; then run again. Finished work is kept."
            if url else "Start a server with: prefect server start, or use a less busy machine; then run again. "
            "Finished work is kept.",
        ) from error  # fmt: skip


def _flow(name: str) -> Callable[..., Any]:
    import importlib

    flow: Callable[..., Any] = getattr(importlib.import_module(f"dyprag.flows.{name}"), name)
    return flow


def _prepare_logging(verbose: bool) -> None:
    """Log dyprag's lines to stderr, and Prefect's only if verbose. Must run before prefect is imported."""
    import dyprag.flows  # noqa: F401  sets environment variables that Prefect reads on import

    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "dyprag")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
        # we report a lost server once; Prefect would at every event and log line
        os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
        logging.raiseExceptions = False
    handler = _Lines()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("dyprag")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)


class _Lines(logging.StreamHandler[Any]):
    """Write to the current stderr, which a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # setStream would flush the previous stream, which may be closed by now
        super().emit(record)


def _print_results(config: "PipelineConfig", path: Path | None, overrides: list[str]) -> None:
    from dyprag.cli.suggestion import suggestion
    from dyprag.evaluation.report import outputs_cut, terminal_table
    from dyprag.tasks.workspace import Workspace

    workspace = Workspace(config)
    rows = workspace.catalogue.results()
    if rows:
        print(terminal_table(rows))
        if cut := outputs_cut(rows):
            print(f"\n{cut}")
        print(f"\nReport:    {workspace.report_page('latest')}\nCatalogue: {workspace.catalogue.snapshot}")
        if command := suggestion(workspace.catalogue, rows[0]["run_id"], path, overrides):
            print(f"Ask it:    {command}")
