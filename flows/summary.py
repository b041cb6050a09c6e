"""How a stage ended, in counts; and the state that a flow ends in, which says so to Prefect."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import State
from prefect.states import Completed, Failed

from dyprag.config import PipelineConfig
from dyprag.runtime.interruption import check


@dataclass(frozen=True)
class Summary:
    """How a stage ended, in documents (or questions' shards): made, found made, failed, and left waiting."""

    stage: str
    done: int = 0
    cached: int = 0
    failed: int = 0
    waiting: int = 0
    partial: int = 0  # of those done
    reason: str = ""  # why nothing more was begun, where that is so
    run_id: str = ""  # under which the catalogue knows it
    note: str = ""  # what else there is to say of it
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.cached} cached", f"{self.done - self.cached} made"]
        more = (("partial", self.partial), ("failed", self.failed), ("waiting", self.waiting))
        parts += [f"{count} {word}" for word, count in more if count]
        text = f"{self.stage}: {self.done + self.failed + self.waiting} in all: {', '.join(parts)}"
        text += f"; {self.note}" if self.note else ""
        return f"{text}. Stopped: {self.reason}" if self.reason else text


class Incomplete(Exception):
    """A flow has ended, and not all was made: some documents failed, or wait since it stopped."""

    def __init__(self, message: str, summaries: list[dict[str, Any]]) -> None:
        super().__init__(message, summaries)
        self.message, self.summaries = message, summaries

    def __str__(self) -> str:
        return self.message


def end_state(config: PipelineConfig, summaries: Sequence[Summary]) -> State[list[Summary]]:
    """The state a flow ends in: it says how many failed.

    Where some did, or the stage stopped, it is of Prefect's type FAILED, whatever its name: the UI colours a state by
    its type, and what is green is taken for whole. Its data is an error that holds the summaries; see `summaries_of`.
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
    """The summaries of a flow that has ended, be it with failed documents.

    Raises:
        Interrupted: it was, and so is whatever it was run by.
        Exception: what ended it before its end.
    """
    check()
    result: Any = state.result(raise_on_failure=False)
    if isinstance(result, Incomplete):
        result = result.summaries
    elif isinstance(result, BaseException):
        raise result
    return [Summary(**summary) for summary in result]


def completing(config: PipelineConfig) -> PipelineConfig:
    """The same for what is run inside another flow: failures of documents are left for that one's state to tell."""
    return config.model_copy(update={"run": config.run.model_copy(update={"on_failures": "complete"})})
