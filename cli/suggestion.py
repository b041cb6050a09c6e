"""Suggest a first question after an evaluation: one that the default method of `dyprag ask` answered correctly."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyprag.cli.ask import DEFAULT


def suggestion(catalogue: Any, run_id: str, path: Path | None, overrides: Sequence[str]) -> str | None:
    """The command that asks such a question with the settings of a run; None if no answer was correct.

    Args:
        path, overrides: the run's `--config` and `--set`.
    """
    from dyprag.tasks.suggestion import question_to_ask

    question = question_to_ask(catalogue, run_id, DEFAULT)
    if question is None:
        return None
    words = [_command(), "ask", *(["--config", str(path)] if path else [])]
    for override in overrides:
        words += ["--set", override]
    return f"{shlex.join(words)} {_quoted(question)}"


def _command() -> str:
    """The name of this command if the shell finds it, else its path."""
    called = Path(sys.argv[0])
    on_path = shutil.which("dyprag")
    if called.name != "dyprag" or (on_path and Path(on_path).resolve() == called.resolve()):
        return "dyprag"
    return str(called)


def _quoted(question: str) -> str:
    """The question in double quotes if it has no characters special to the shell, else escaped."""
    return f'"{question}"' if not set('"$`\\!') & set(question) else shlex.quote(question)
