"""What a run shows of itself in the Prefect UI beside its states: what failed and how to retry, how the losses went,
and where its artifacts are. None of it may fail the work."""

import base64
import io
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
from dyprag.flows.corpus import with_stored_corpus
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Work
from dyprag.storage.tables import read_rows
from dyprag.tasks.telling import told

logger = logging.getLogger("dyprag.flows")
MOST_ROWS = 200  # of a table in the UI, which a browser has to draw; the catalogue has all
MOST_LINES = 10  # of the log that tell of failures, one each
MOST_CURVES = 50  # adapters whose mean loss is drawn


def run_name() -> str:
    """A flow run's name: what it does, and on what."""
    what = str(flow_run.flow_name).replace("-", " ")
    try:
        config = read_form(flow_run.parameters.get("config") or {})
    except DypragError:  # which the run itself is about to end with
        return what
    if what == "learn":
        return f"learn {config.learn.kind} translator"
    if config.experiment.name is not None:
        return f"{what} {'' if what == 'experiment' else 'of experiment '}{config.experiment.name}"
    with suppress(DypragError):  # then the run itself says what is wrong
        config, _ = with_stored_corpus(config, ingests=what in ("ingest", "pipeline"))
    place = config.corpus.documents.rstrip("/")
    return f"{what} {PurePath(place).name or place}"


def retry_command(config: PipelineConfig, stage: str) -> str:
    """The command that tries again what failed in a stage, with every setting that is not what it would be anyway, and
    the corpus: without one it would take the one that the store has by then."""
    if config.experiment.name is not None:  # its variants' settings are made of the experiment's own
        return f"dyprag evaluate --experiment {config.experiment.name}"
    known = untouched(config)
    command = spec_of(stage).command
    if command != "learn":
        known["corpus"]["documents"] = None
    changes = [f"--set {shlex.quote(change)}" for change in _changes(config.model_dump(mode="json"), known)]
    return " ".join(["dyprag", command, *changes])


def _changes(values: dict[str, Any], known: dict[str, Any], place: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and known.get(name):
            yield from _changes(value, known[name], f"{place}{name}.")
        elif value != known.get(name):
            yield f"{place}{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def show_failures(config: PipelineConfig, stage: str, failed: Sequence[Work]) -> None:
    """A table of what failed, the reason, and how to try it again; and the first of them in the log."""
    if not failed:
        return
    for item in failed[:MOST_LINES]:
        logger.warning("%s: %s", stage, item.error)
    if len(failed) > MOST_LINES:
        logger.warning("%s: %d others failed; dyprag status lists them all", stage, len(failed) - MOST_LINES)
    table = [
        {"document": w.document_id, "error": w.error_type, "reason": w.error, "attempts": w.attempts}
        for w in failed[:MOST_ROWS]
    ]
    shown = "" if len(failed) <= MOST_ROWS else f" The first {MOST_ROWS} are shown; `dyprag status` lists all."
    told(
        create_table_artifact, table, key=f"{stage}-failures",
        description=f"**{len(failed)} failed in {stage}.**{shown} Retry, a new run of the deployment, or this command "
        f"works on these and on what waits, and on nothing else:\n\n`{retry_command(config, stage)}`",
    )  # fmt: skip


def show_made(config: PipelineConfig, store: Store, stage: str, run_id: str, work: Sequence[Work]) -> None:
    """Where what this run made lies. Nothing where it made nothing, as a nightly run that finds nothing new."""
    made = [item for item in work if item.state in ("done", "partial") and item.attempts]
    if not made:
        return
    root = store.root.resolve()
    lines = [f"**{len(made)} made by this run**, in the store `{root}`.", ""]
    if stage == "evaluate":
        lines += [f"Report: `{root / 'reports' / run_id / 'report.html'}`, and `dyprag report {run_id[:8]}`.", ""]
    kind = spec_of(stage).kind
    if kind:
        where = [str(store.folder(kind, w.key).relative_to(store.root)) for w in made[:MOST_ROWS]]
    else:
        where = [f"dyprag augment --show {shlex.quote(w.document_id)}" for w in made[:MOST_ROWS]]
    lines += [f"| of | seconds | {kind or 'to see it'} |", "| :- | -: | :- |"]
    lines += [f"| {cell(w.document_id)} | {w.seconds:.1f} | `{at}` |" for w, at in zip(made, where, strict=False)]
    more = f"And {len(made) - MOST_ROWS} more. " if len(made) > MOST_ROWS else ""
    place = shlex.quote(f"store={config.store}")
    lines += ["", f"{more}All of them: `dyprag sql --set {place} \"FROM work WHERE run_id = '{run_id}'\"`"]
    told(
        create_markdown_artifact, "\n".join(lines), key=f"{stage}-made", description=f"Where to find what {stage} made"
    )


def show_translator_curve(store: Store, work: Work) -> None:
    """The losses of a translator that this run has trained, as a picture."""
    if work.state == "done" and (curve := _curve(store, "translator", work.key)):
        from dyprag.evaluation.report.plots import translator_chart

        picture = io.BytesIO()
        translator_chart(curve, picture)
        _show_picture(picture, "translator-loss", f"The translator's losses over {len(curve)} steps")


def show_adapter_curves(store: Store, work: Sequence[Work]) -> None:
    """The losses of adapters that this run has trained, as a picture."""
    made = [item for item in work if item.state == "done"][:MOST_CURVES]
    curves = {w.document_id: [step["loss"] for step in _curve(store, "adapter", w.key)] for w in made}
    curves = {name: losses for name, losses in curves.items() if losses}
    if curves:
        from dyprag.evaluation.report.plots import adapter_chart

        picture = io.BytesIO()
        adapter_chart(curves, picture)
        _show_picture(picture, "adapter-losses", f"Losses of {len(curves)} documents' adapters")


def _show_picture(picture: io.BytesIO, key: str, description: str) -> None:
    """As Markdown: beneath an image artifact the UI prints its whole address, which is the picture itself here."""
    data = base64.b64encode(picture.getvalue()).decode()
    told(create_markdown_artifact, f"![{key}](data:image/png;base64,{data})", key=key, description=description)


def _curve(store: Store, kind: str, key: str) -> list[dict[str, Any]]:
    path = store.folder(kind, key) / "curve.parquet"
    return read_rows(path) if path.exists() else []


def cell(text: str) -> str:
    """A text in a table of Markdown, as it is: no sign in it means anything there."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split()))
