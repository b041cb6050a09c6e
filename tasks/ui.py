"""Optional calls to the Prefect server: artifacts and progress for the UI. A failure of these calls never fails the
work."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import PrefectException

logger = logging.getLogger("dyprag.tasks")
P = ParamSpec("P")
Result = TypeVar("Result")
UNAVAILABLE = (httpx.HTTPError, PrefectException, OSError)  # the server is down, overloaded or failing
QUIET = 60.0  # seconds without calls after a failure, since each attempt delays the work

_retry_after = 0.0


def publish(call: Callable[P, Result], *arguments: P.args, **named: P.kwargs) -> Result | None:
    """Call the server; return None if it is unavailable.

    The first failure is logged. No further calls are made for one minute after a failure.
    """
    global _retry_after
    if time.monotonic() < _retry_after:
        return None
    try:
        with _one_retry():
            result = call(*arguments, **named)
    except UNAVAILABLE as error:
        if not _retry_after:
            logger.warning(
                "The Prefect server does not answer (%s). The run continues; the UI may not show all of its progress.",
                type(error).__name__,
            )
        _retry_after = time.monotonic() + QUIET
        return None
    _retry_after = 0.0
    return result


@contextmanager
def _one_retry() -> Iterator[None]:
    """Retry calls once only: Prefect's default of five retries waits for a minute.

    Prefect's own `temporary_settings` reads the environment and all settings files again, which takes a tenth of a
    second per call.
    """
    context = get_settings_context()
    client = context.settings.client.model_copy(update={"max_retries": 1})
    with SettingsContext(profile=context.profile, settings=context.settings.model_copy(update={"client": client})):
        yield


def progress(description: str, key: str | None = None) -> Callable[[float, str], None]:
    """Create a progress artifact in the UI. Returns a function that updates it with a percentage and a text."""
    artifact: list[Any] = [publish(create_progress_artifact, 0, key=key, description=description)]

    def move(percent: float, text: str = description) -> None:
        if artifact[0] is None:  # the server was unavailable
            artifact[0] = publish(create_progress_artifact, percent, key=key, description=text)
        else:
            publish(update_progress_artifact, artifact[0], percent, description=text)

    return move


def markdown(key: str, text: str, description: str) -> Callable[[str, str], None]:
    """Create a Markdown artifact in the UI. Returns a function that replaces its text and description."""
    artifact: list[Any] = [publish(create_markdown_artifact, text, key=key, description=description)]

    def update(text: str, description: str) -> None:
        with get_client(sync_client=True) as client:
            client.update_artifact(artifact[0], ArtifactUpdate(data=text, description=description))

    def write(text: str, description: str) -> None:
        if artifact[0] is None:  # the server was unavailable
            artifact[0] = publish(create_markdown_artifact, text, key=key, description=description)
        else:
            publish(update, text, description)

    return write
