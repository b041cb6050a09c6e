"""The page of a pipeline, or an experiment, in the Prefect UI: one Markdown artifact that says where it is, what each
stage made, what failed and what to do about it, and where the report and the stages' own runs are.

Its stages are sub-flows, whose artifacts are on their own pages; they find this one by the context that they run in.
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
from dyprag.tasks.telling import markdown

if TYPE_CHECKING:
    from dyprag.flows.summary import Summary

MOST_ROWS = 50  # of a table: the catalogue has all
MOST_TEXT = 600  # letters of a reason
MOST_TABLE = 20_000  # letters of the report's table, which the report itself has anyway
NOTED_EVERY = 5.0  # seconds between two updates that only say how far a stage is
COLUMNS = ("made", "found", "partial", "failed", "waiting", "seconds")


@dataclass
class Row:
    """A stage, or a variant of an experiment: its state, its counts where it has ended, and the run that it is."""

    name: str
    state: str = "to come"
    counts: dict[str, float] = field(default_factory=dict)
    run_id: str = ""
    stopped: bool = False

    def add(self, summary: "Summary") -> None:
        """Count a summary in."""
        made = {
            "made": summary.done - summary.cached, "found": summary.cached, "partial": summary.partial,
            "failed": summary.failed, "waiting": summary.waiting, "seconds": summary.seconds,
        }  # fmt: skip
        self.counts = {name: self.counts.get(name, 0) + count for name, count in made.items()}
        self.stopped = self.stopped or bool(summary.reason)
        self.state = "stopped" if self.stopped else "some failed" if self.counts["failed"] else "done"


class Page:
    """What has become of a run so far; `show` writes it. A page within another, that of an experiment's variant, tells
    the other what fails."""

    def __init__(self, config: PipelineConfig, kind: str, names: Sequence[str], above: "Page | None" = None) -> None:
        self.config, self.kind, self.above = config, kind, above
        self.label = above.under_way if above else kind
        self.root = Store(config.store).root
        self.rows = {name: Row(name) for name in names}
        self.summaries: list[Summary] = []
        self.failed: list[tuple[str, Work]] = []
        self.others: list[tuple[str, Work]] = []  # partial, or waiting for a reason
        self.now, self.report, self.error = "", "", ""
        self._began = self._noted = time.monotonic()
        self._lock = threading.Lock()  # a stage's progress is told from a thread of its own
        self._write: Callable[[str, str], None] | None = None

    def row(self, name: str) -> Row:
        return self.rows.setdefault(name, Row(name))

    @property
    def under_way(self) -> str:
        """The stage, or variant, that runs."""
        return next((row.name for row in reversed(self.rows.values()) if row.state == "running"), self.kind)

    def expect(self, names: Sequence[str]) -> None:
        """Name what is to come; what was expected and has not begun is to come no more."""
        begun = {name: row for name, row in self.rows.items() if row.state != "to come"}
        self.rows = {**begun, **{name: Row(name) for name in names if name not in begun}}
        self.show()

    def begun(self, name: str, run_id: str) -> None:
        """A stage has begun."""
        row = self.row(name)
        row.state, row.run_id = "running", run_id
        self.now = name
        self.show()

    def ended(self, summary: "Summary", work: Sequence[Work]) -> None:
        """A stage has ended."""
        self.summaries.append(summary)
        self.row(summary.stage).add(summary)
        self.collect([(summary.stage, item) for item in work])
        self.show()

    def closed(self, name: str) -> None:
        """A stage is over, be it without a summary."""
        if self.row(name).state == "running":
            self.row(name).state = "done"
            self.show()

    def take(self, other: "Page") -> None:
        """Take up what became of a variant."""
        row = self.row(other.label)
        for summary in other.summaries:
            row.add(summary)
        if other.error:
            row.state = "failed"
        self.collect([(f"{other.label}: {stage}", work) for stage, work in (*other.failed, *other.others)])

    def collect(self, found: Sequence[tuple[str, Work]]) -> None:
        """Keep what is not whole."""
        self.failed += [one for one in found if one[1].state == "failed"]
        self.others += [one for one in found if one[1].state in ("partial", "waiting") and one[1].error]

    def broken(self, error: BaseException) -> None:
        """The run ended by an error, or was stopped, and with it the stage under way."""
        stopped = not isinstance(error, Exception)
        for row in self.rows.values():
            row.state = ("stopped" if stopped else "failed") if row.state == "running" else row.state
        self.error = "It was stopped before its end." if stopped else str(error) or type(error).__name__

    def note(self, text: str) -> None:
        """How far the stage under way is."""
        self.now = text
        if self.above:
            self.above.note(f"{self.label}: {text}")
        if time.monotonic() - self._noted > NOTED_EVERY:
            self.show()

    def show(self, over: bool = False) -> None:
        """Write the page as it is now."""
        with self._lock:
            self._noted = time.monotonic()
            first = self._first(over)
            if self._write is None:
                self._write = markdown(self.kind, self._text(), first)
            else:
                self._write(self._text(), first)

    def _first(self, over: bool) -> str:
        failed = int(sum(row.counts.get("failed", 0) for row in self.rows.values()))
        time_taken = span(time.monotonic() - self._began)
        if self.error:
            return f"Broken off after {time_taken}"
        lost = f"; {failed:,} failed" if failed else ""
        return f"Ended after {time_taken}{lost}" if over else f"Under way for {time_taken}: {self.now}{lost}"

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
            link = f"[its page]({run_link(row.run_id)})" if row.run_id else ""
            lines.append(f"| {cell(row.name)} | {row.state} | {' | '.join(counts)} | {link} |")
        return "\n".join(lines)

    def _failures(self) -> list[str]:
        if not self.failed:
            return []
        more = f" The first {MOST_ROWS} are shown; `dyprag status` lists all." if len(self.failed) > MOST_ROWS else ""
        lines = [  # no table: a long reason would be cut off by the UI
            f"- **{cell(work.document_id)}**, {cell(stage)}: {cell(_cut(work.error))}"
            + (f" ({work.attempts} tries)" if work.attempts > 1 else "")
            for stage, work in self.failed[:MOST_ROWS]
        ]
        return [
            f"**{len(self.failed):,} failed.**{more}", "\n".join(lines),
            "Retry, a new run of the deployment, or this command works on these and what waits, and on nothing else:",
            f"`{retry_command(self.config, 'run')}`",
        ]  # fmt: skip

    def _unfinished(self) -> list[str]:
        """What is partial, or waits, by reason: of hundreds of documents it is often one and the same."""
        groups: dict[tuple[str, str, str], list[str]] = {}
        for stage, work in self.others:
            groups.setdefault((stage, work.state, work.error), []).append(work.document_id)
        if not groups:
            return []
        lines = ["**Partial, or waiting**", ""]
        for (stage, state, reason), names in list(groups.items())[:MOST_ROWS]:
            few = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
            lines.append(f"- **{cell(few)}**, {cell(stage)}, {state}: {cell(_cut(reason))}")
        return ["\n".join(lines)]


_current: ContextVar[Page | None] = ContextVar("page", default=None)


def current_page() -> Page | None:
    """The page of the pipeline or experiment that the caller runs in."""
    return _current.get()


@contextmanager
def run_page(config: PipelineConfig, kind: str, names: Sequence[str]) -> Iterator[Page]:
    """Keep a page up to date while a run is at work.

    Args:
        kind: "pipeline" or "experiment".
        names: of the stages, or variants, as far as they are known.
    """
    page = Page(config.resolved(), kind, names, _current.get())
    page.now = "beginning"
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
            row.state = "not run" if row.state == "to come" else row.state
        if page.above:
            page.above.take(page)
        page.show(over=True)
        _current.reset(tokens[0])
        watcher.reset(tokens[1])


def show_report(folder: Path, run_id: str, table: str) -> None:
    """Let the page, if the run has one, say where the report is, and its main table where that fits."""
    if page := _current.get():
        shown = table if len(table) <= MOST_TABLE else "Its table is too long to be shown here."
        page.report = f"**Report**: `{folder.resolve() / 'report.html'}`, and `dyprag report {run_id[:8]}`.\n\n{shown}"
        page.show()


def run_link(run_id: str) -> str:
    """The address of a flow run's page from that of an artifact, or of another run: it holds in either of the two UIs,
    under whatever name, port or path the server is reached."""
    return f"../../runs/flow-run/{run_id}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} …"
