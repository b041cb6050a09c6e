"""Artifacts of a run in the Prefect UI: failures with the command that retries them, loss curves, and where results
are stored. A failure here never fails the work."""

import base64
import json
import logging
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from dyprag.config import PipelineConfig
from dyprag.config.files import untouched
from dyprag.config.form import read_form
from dyprag.config.stages import spec_of
from dyprag.errors import DypragError
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Work
from dyprag.storage.tables import read_rows
from dyprag.tasks.corpora import with_stored_corpus
from dyprag.tasks.report import adapter_picture, translator_picture
from dyprag.tasks.ui import publish

logger = logging.getLogger("dyprag.flows")
MOST_ROWS = 200  # rows per table in the UI; the catalogue has all of them
MOST_LINES = 10  # log lines about failures
MOST_CURVES = 50  # adapters whose losses are plotted


def run_name() -> str:
    """A flow run's name: the flow and its corpus or experiment."""
    flow_name = str(flow_run.flow_name).replace("-", " ")
    try:
        config = read_form(flow_run.parameters.get("config") or {})
    except DypragError:  # the run itself reports this error
        return flow_name
    if flow_name == "learn":
        return f"learn {config.learn.kind} translator"
    if config.experiment.name is not None:
        return f"{flow_name} {'' if flow_name == 'experiment' else 'of experiment '}{config.experiment.name}"
    with suppress(DypragError):  # the run itself reports this error
        config, _ = with_stored_corpus(config, ingests=flow_name in ("ingest", "pipeline"))
    location = config.corpus.documents.rstrip("/")
    return f"{flow_name} {PurePath(location).name or location}"


def retry_command(config: PipelineConfig, stage: str) -> str:
    """The command that retries a stage's failures, with all settings that differ from their defaults, and with the
    corpus, since the store's current one may be another by then."""
    if config.experiment.name is not None:  # the variants' settings come from the experiment
        return f"dyprag evaluate --experiment {config.experiment.name}"
    defaults = untouched(config)
    command = spec_of(stage).command
    if command != "learn":
        defaults["corpus"]["documents"] = None
    changes = [f"--set {shlex.quote(change)}" for change in _changes(config.model_dump(mode="json"), defaults)]
    return " ".join(["dyprag", command, *changes])


def _changes(values: dict[str, Any], defaults: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and defaults.get(name):
            yield from _changes(value, defaults[name], f"{prefix}{name}.")
        elif value != defaults.get(name):
            yield f"{prefix}{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def show_failures(config: PipelineConfig, stage: str, failed: Sequence[Work]) -> None:
    """Show a table of failures with reasons and the command that retries them, and log the first ones."""
    if not failed:
        return
    for item in failed[:MOST_LINES]:
        logger.warning("%s: %s", stage, item.error)
    if len(failed) > MOST_LINES:
        logger.warning("%s: %d more failed; dyprag status lists them all", stage, len(failed) - MOST_LINES)
    table = [
        {"document": w.document_id, "error": w.error_type, "reason": w.error, "attempts": w.attempts}
        for w in failed[:MOST_ROWS]
    ]
    shown = "" if len(failed) <= MOST_ROWS else f" The first {MOST_ROWS} are shown; `dyprag status` lists all."
    publish(
        create_table_artifact, table, key=f"{stage}-failures",
        description=f"**{len(failed)} failed in {stage}.**{shown} To retry these and the waiting documents only: "
        f"Retry, a new run of the deployment, or this command:\n\n`{retry_command(config, stage)}`",
    )  # fmt: skip


def show_made(config: PipelineConfig, store: Store, stage: str, run_id: str, work: Sequence[Work]) -> None:
    """Show where the artifacts of this run are stored; nothing if it made none, as in a nightly run without news."""
    made = [item for item in work if item.state in ("done", "partial") and item.attempts]
    if not made:
        return
    root = store.root.resolve()
    lines = [f"**This run made {len(made)}**, in the store `{root}`.", ""]
    if stage == "evaluate":
        lines += [f"Report: `{root / 'reports' / run_id / 'report.html'}` or `dyprag report {run_id[:8]}`.", ""]
    kind = spec_of(stage).kind
    if kind:
        where = [str(store.folder(kind, w.key).relative_to(store.root)) for w in made[:MOST_ROWS]]
    else:
        where = [f"dyprag augment --show {shlex.quote(w.document_id)}" for w in made[:MOST_ROWS]]
    lines += [f"| document or job | seconds | {kind or 'command to show it'} |", "| :- | -: | :- |"]
    lines += [f"| {cell(w.document_id)} | {w.seconds:.1f} | `{at}` |" for w, at in zip(made, where, strict=False)]
    more = f"And {len(made) - MOST_ROWS} more. " if len(made) > MOST_ROWS else ""
    place = shlex.quote(f"store={config.store}")
    lines += ["", f"{more}All of them: `dyprag sql --set {place} \"FROM work WHERE run_id = '{run_id}'\"`"]
    publish(create_markdown_artifact, "\n".join(lines), key=f"{stage}-made", description=f"Artifacts made by {stage}")


def show_translator_curve(store: Store, work: Work) -> None:
    """Show the loss curves of a translator that this run trained."""
    if work.state == "done" and (curve := _curve(store, "translator", work.key)):
        _show_picture(translator_picture(curve), "translator-loss", f"The translator's losses over {len(curve)} steps")


def show_adapter_curves(store: Store, work: Sequence[Work]) -> None:
    """Show the loss curves of adapters that this run trained."""
    made = [item for item in work if item.state == "done"][:MOST_CURVES]
    curves = {w.document_id: [step["loss"] for step in _curve(store, "adapter", w.key)] for w in made}
    curves = {name: losses for name, losses in curves.items() if losses}
    if curves:
        _show_picture(adapter_picture(curves), "adapter-losses", f"Losses of {len(curves)} documents' adapters")


def _show_picture(picture: bytes, key: str, description: str) -> None:
    """Show a picture as Markdown. Below an image artifact, the UI prints its address, which here would be the whole
    picture."""
    data = base64.b64encode(picture).decode()
    publish(create_markdown_artifact, f"![{key}](data:image/png;base64,{data})", key=key, description=description)


def _curve(store: Store, kind: str, key: str) -> list[dict[str, Any]]:
    path = store.folder(kind, key) / "curve.parquet"
    return read_rows(path) if path.exists() else []


def cell(text: str) -> str:
    """A text for a Markdown table, with special characters escaped."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split()))
