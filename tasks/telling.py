"""Calls to the Prefect server that are only for people: artifacts, progress, names. None of them may fail the work."""

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
Told = TypeVar("Told")
AWAY = (httpx.HTTPError, PrefectException, OSError)  # a server that is not there, too busy, or in no state to answer
QUIET = 60.0  # seconds for which a server that did not answer is left alone: each try holds the work up

_asked_again_from = 0.0


def told(call: Callable[P, Told], *arguments: P.args, **named: P.kwargs) -> Told | None:
    """Make a call to the server that people alone have use for; None where the server is away.

    The first such failure is logged; for a minute no other call is made then.
    """
    global _asked_again_from
    if time.monotonic() < _asked_again_from:
        return None
    try:
        with _one_retry():
            result = call(*arguments, **named)
    except AWAY as error:
        if not _asked_again_from:
            logger.warning(
                "The Prefect server does not answer (%s). The work goes on; what the UI shows of it will have gaps.",
                type(error).__name__,
            )
        _asked_again_from = time.monotonic() + QUIET
        return None
    _asked_again_from = 0.0
    return result


@contextmanager
def _one_retry() -> Iterator[None]:
    """Five of them, as Prefect has it, wait for a minute. Its own `temporary_settings` reads the environment and all
    files of settings again: a tenth of a second, at each move of a progress artifact."""
    now = get_settings_context()
    client = now.settings.client.model_copy(update={"max_retries": 1})
    with SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"client": client})):
        yield


def progress(description: str, key: str | None = None) -> Callable[[float, str], None]:
    """A progress artifact in the UI; gives what moves it, called with a percentage and what it is to say now."""
    made: list[Any] = [told(create_progress_artifact, 0, key=key, description=description)]

    def move(percent: float, text: str = description) -> None:
        if made[0] is None:  # the server was away
            made[0] = told(create_progress_artifact, percent, key=key, description=text)
        else:
            told(update_progress_artifact, made[0], percent, description=text)

    return move


def markdown(key: str, text: str, description: str) -> Callable[[str, str], None]:
    """A Markdown artifact in the UI; gives what writes it anew, called with the text and the description."""
    made: list[Any] = [told(create_markdown_artifact, text, key=key, description=description)]

    def update(text: str, description: str) -> None:
        with get_client(sync_client=True) as client:
            client.update_artifact(made[0], ArtifactUpdate(data=text, description=description))

    def write(text: str, description: str) -> None:
        if made[0] is None:  # the server was away
            made[0] = told(create_markdown_artifact, text, key=key, description=description)
        else:
            told(update, text, description)

    return write
