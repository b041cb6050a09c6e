"""The summary of a stage in counts, and the final state of a flow in Prefect."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import State
from prefect.states import Completed, Failed

from dyprag.config import PipelineConfig
from dyprag.runtime.interruption import check


@dataclass(frozen=True)
class Summary:
    """The counts of a stage, in documents or batches of questions.

    Attributes:
        done: Units whose artifacts exist, including cached and partial ones.
        reason: Why no more work was started, if the stage stopped.
        run_id: The run's id in the catalogue.
        note: Further information for the user.
    """

    stage: str
    done: int = 0
    cached: int = 0
    failed: int = 0
    waiting: int = 0
    partial: int = 0
    reason: str = ""
    run_id: str = ""
    note: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.cached} cached", f"{self.done - self.cached} made"]
        more = (("partial", self.partial), ("failed", self.failed), ("waiting", self.waiting))
        parts += [f"{count} {word}" for word, count in more if count]
        text = f"{self.stage}: {self.done + self.failed + self.waiting} in all: {', '.join(parts)}"
        text += f"; {self.note}" if self.note else ""
        return f"{text}. Stopped: {self.reason}" if self.reason else text


class Incomplete(Exception):
    """A flow has ended incomplete: documents failed, or wait because the stage stopped."""

    def __init__(self, message: str, summaries: list[dict[str, Any]]) -> None:
        super().__init__(message, summaries)
        self.message, self.summaries = message, summaries

    def __str__(self) -> str:
        return self.message


def end_state(config: PipelineConfig, summaries: Sequence[Summary]) -> State[list[Summary]]:
    """The final state of a flow, with the numbers of failures.

    If documents failed or a stage stopped, the state is of Prefect's type FAILED, whatever its name: the UI colours
    states by type, and green would mean complete. Its data is an error that contains the summaries; see `summaries_of`.
    """
    failed = sum(summary.failed for summary in summaries)
    stopped = any(summary.reason for summary in summaries)
    message = "; ".join(str(summary) for summary in summaries)
    if not failed and not stopped:
        return Completed(message=message, data=[asdict(summary) for summary in summaries])
    name = "CompletedWithFailures" if failed else "Stopped"
    if failed and config.run.on_failures == "fail":
        name = "Failed"
    return Failed(name=name, message=message, data=Incomplete(message, [asdict(summary) for summary in summaries]))


def summaries_of(state: State[Any]) -> list[Summary]:
    """The summaries of a flow that has ended, with or without failed documents.

    Raises:
        Interrupted: The run was interrupted.
        Exception: The error that ended the flow early.
    """
    check()
    result: Any = state.result(raise_on_failure=False)
    if isinstance(result, Incomplete):
        result = result.summaries
    elif isinstance(result, BaseException):
        raise result
    return [Summary(**summary) for summary in result]


def completing(config: PipelineConfig) -> PipelineConfig:
    """The configuration for a sub-flow: it completes although documents failed, and the calling flow reports the
    failures."""
    return config.model_copy(update={"run": config.run.model_copy(update={"on_failures": "complete"})})
