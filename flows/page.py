"""The page of a pipeline or experiment in the Prefect UI: one Markdown artifact with the state of each stage, its
counts, failures with remedies, and links to the report and the stages' own runs.

Stages are sub-flows with artifacts on their own pages; they find this page through a context variable.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.runtime import flow_run

from dyprag.config import PipelineConfig
from dyprag.flows.overview import cell, retry_command
from dyprag.flows.progress import span, watcher
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Work
from dyprag.tasks.ui import markdown

if TYPE_CHECKING:
    from dyprag.flows.summary import Summary

MOST_ROWS = 50  # rows per table; the catalogue has all of them
MOST_TEXT = 600  # characters per reason
MOST_TABLE = 20_000  # characters of the results table, which is also in the report
NOTED_EVERY = 5.0  # seconds between two updates of progress alone
COLUMNS = ("made", "cached", "partial", "failed", "waiting", "seconds")


@dataclass
class Row:
    """A stage or a variant of an experiment: its state, its counts once it has ended, and its run."""

    name: str
    state: str = "pending"
    counts: dict[str, float] = field(default_factory=dict)
    run_id: str = ""
    stopped: bool = False

    def add(self, summary: "Summary") -> None:
        """Add a summary to the counts."""
        counts = {
            "made": summary.done - summary.cached, "cached": summary.cached, "partial": summary.partial,
            "failed": summary.failed, "waiting": summary.waiting, "seconds": summary.seconds,
        }  # fmt: skip
        self.counts = {name: self.counts.get(name, 0) + count for name, count in counts.items()}
        self.stopped = self.stopped or bool(summary.reason)
        self.state = "stopped" if self.stopped else "some failed" if self.counts["failed"] else "done"


class Page:
    """The state of a run so far; `show` writes it to the UI. The page of an experiment's variant passes failures on
    to the experiment's page."""

    def __init__(self, config: PipelineConfig, kind: str, names: Sequence[str], above: "Page | None" = None) -> None:
        self.config, self.kind, self.above = config, kind, above
        self.label = above.running if above else kind
        self.root = Store(config.store).root
        self.rows = {name: Row(name) for name in names}
        self.summaries: list[Summary] = []
        self.failed: list[tuple[str, Work]] = []
        self.incomplete: list[tuple[str, Work]] = []  # partial, or waiting with a reason
        self.now, self.report, self.error = "", "", ""
        self._began = self._noted = time.monotonic()
        self._lock = threading.Lock()  # progress arrives from another thread
        self._write: Callable[[str, str], None] | None = None

    def row(self, name: str) -> Row:
        return self.rows.setdefault(name, Row(name))

    @property
    def running(self) -> str:
        """The stage or variant that is running."""
        return next((row.name for row in reversed(self.rows.values()) if row.state == "running"), self.kind)

    def expect(self, names: Sequence[str]) -> None:
        """Set the stages that are still to run, in place of those expected before."""
        started = {name: row for name, row in self.rows.items() if row.state != "pending"}
        self.rows = {**started, **{name: Row(name) for name in names if name not in started}}
        self.show()

    def begun(self, name: str, run_id: str) -> None:
        """Record the start of a stage."""
        row = self.row(name)
        row.state, row.run_id = "running", run_id
        self.now = name
        self.show()

    def ended(self, summary: "Summary", work: Sequence[Work]) -> None:
        """Record the summary of a stage."""
        self.summaries.append(summary)
        self.row(summary.stage).add(summary)
        self.collect([(summary.stage, item) for item in work])
        self.show()

    def closed(self, name: str) -> None:
        """Record the end of a stage, even without a summary."""
        if self.row(name).state == "running":
            self.row(name).state = "done"
            self.show()

    def take(self, page: "Page") -> None:
        """Add the results of a variant's page."""
        row = self.row(page.label)
        for summary in page.summaries:
            row.add(summary)
        if page.error:
            row.state = "failed"
        self.collect([(f"{page.label}: {stage}", work) for stage, work in (*page.failed, *page.incomplete)])

    def collect(self, outcomes: Sequence[tuple[str, Work]]) -> None:
        """Keep outcomes that are not complete."""
        self.failed += [outcome for outcome in outcomes if outcome[1].state == "failed"]
        self.incomplete += [
            outcome for outcome in outcomes if outcome[1].state in ("partial", "waiting") and outcome[1].error
        ]

    def broken(self, error: BaseException) -> None:
        """Record an error or interruption that ended the run and its running stage."""
        stopped = not isinstance(error, Exception)
        for row in self.rows.values():
            row.state = ("stopped" if stopped else "failed") if row.state == "running" else row.state
        self.error = "The run was stopped." if stopped else str(error) or type(error).__name__

    def note(self, text: str) -> None:
        """Record the progress of the running stage."""
        self.now = text
        if self.above:
            self.above.note(f"{self.label}: {text}")
        if time.monotonic() - self._noted > NOTED_EVERY:
            self.show()

    def show(self, finished: bool = False) -> None:
        """Write the page."""
        with self._lock:
            self._noted = time.monotonic()
            description = self._description(finished)
            if self._write is None:
                self._write = markdown(self.kind, self._text(), description)
            else:
                self._write(self._text(), description)

    def _description(self, finished: bool) -> str:
        failed = int(sum(row.counts.get("failed", 0) for row in self.rows.values()))
        time_taken = span(time.monotonic() - self._began)
        if self.error:
            return f"Ended early after {time_taken}"
        failures = f"; {failed:,} failed" if failed else ""
        return f"Ended after {time_taken}{failures}" if finished else f"Running for {time_taken}: {self.now}{failures}"

    def _text(self) -> str:
        parts = [f"> {cell(self.error)}"] if self.error else []
        parts += [self._table(), *self._failures(), *self._unfinished()]
        parts += [self.report] if self.report else []
        parts += [f"Store: `{self.root}`"]
        return "\n\n".join(parts)

    def _table(self) -> str:
        what = "variant" if self.kind == "experiment" else "stage"
        lines = [f"| {what} | state | {' | '.join(COLUMNS)} | run |", "| :- | :- |" + " -: |" * len(COLUMNS) + " :- |"]
        for row in list(self.rows.values()):
            counts = [f"{row.counts[name]:,.0f}" if name in row.counts else "" for name in COLUMNS]
            link = f"[flow run]({run_link(row.run_id)})" if row.run_id else ""
            lines.append(f"| {cell(row.name)} | {row.state} | {' | '.join(counts)} | {link} |")
        return "\n".join(lines)

    def _failures(self) -> list[str]:
        if not self.failed:
            return []
        more = f" The first {MOST_ROWS} are shown; `dyprag status` lists all." if len(self.failed) > MOST_ROWS else ""
        lines = [  # a list, since the UI cuts long texts in tables
            f"- **{cell(work.document_id)}**, {cell(stage)}: {cell(_cut(work.error))}"
            + (f" ({work.attempts} tries)" if work.attempts > 1 else "")
            for stage, work in self.failed[:MOST_ROWS]
        ]
        return [
            f"**{len(self.failed):,} failed.**{more}", "\n".join(lines),
            "To retry these and the waiting documents only: Retry, a new run of the deployment, or this command:",
            f"`{retry_command(self.config, 'run')}`",
        ]  # fmt: skip

    def _unfinished(self) -> list[str]:
        """Partial and waiting documents, grouped by reason, since hundreds of them often share one."""
        groups: dict[tuple[str, str, str], list[str]] = {}
        for stage, work in self.incomplete:
            groups.setdefault((stage, work.state, work.error), []).append(work.document_id)
        if not groups:
            return []
        lines = ["**Partial or waiting**", ""]
        for (stage, state, reason), names in list(groups.items())[:MOST_ROWS]:
            few = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
            lines.append(f"- **{cell(few)}**, {cell(stage)}, {state}: {cell(_cut(reason))}")
        return ["\n".join(lines)]


_current: ContextVar[Page | None] = ContextVar("page", default=None)


def current_page() -> Page | None:
    """The page of the pipeline or experiment that the caller belongs to."""
    return _current.get()


@contextmanager
def run_page(config: PipelineConfig, kind: str, names: Sequence[str]) -> Iterator[Page]:
    """Keep a page up to date during a run.

    Args:
        kind: "pipeline" or "experiment".
        names: The stages or variants, as far as they are known.
    """
    page = Page(config.resolved(), kind, names, _current.get())
    page.now = "starting"
    if page.above:
        page.above.row(page.label).run_id = str(flow_run.id or "")
        page.above.show()
    tokens = _current.set(page), watcher.set(page.note)
    page.show()
    try:
        yield page
    except BaseException as error:
        page.broken(error)
        raise
    finally:
        for row in page.rows.values():
            row.state = "not run" if row.state == "pending" else row.state
        if page.above:
            page.above.take(page)
        page.show(finished=True)
        _current.reset(tokens[0])
        watcher.reset(tokens[1])


def show_report(folder: Path, run_id: str, table: str) -> None:
    """Add the report's location to the current page, and its main table unless that is too long."""
    if page := _current.get():
        shown = table if len(table) <= MOST_TABLE else "The table is too long to show here."
        page.report = f"**Report**: `{folder.resolve() / 'report.html'}` or `dyprag report {run_id[:8]}`.\n\n{shown}"
        page.show()


def run_link(run_id: str) -> str:
    """The link to a flow run's page, relative to the page of an artifact or a run. It works in both of Prefect's UIs
    and under any host, port and path."""
    return f"../../runs/flow-run/{run_id}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} …"
