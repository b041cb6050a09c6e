"""After an evaluation: a question to begin with, which the method that `dyprag ask` takes by default answered right."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyprag.cli.ask import DEFAULT


def suggestion(catalogue: Any, run_id: str, path: Path | None, overrides: Sequence[str]) -> str | None:
    """The command that asks such a question with the settings of a run; None where no answer was right.

    Args:
        path, overrides: the run's own `--config` and `--set`.
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
    """How this very command can be called again: by its name where a shell finds it."""
    called = Path(sys.argv[0])
    found = shutil.which("dyprag")
    if called.name != "dyprag" or (found and Path(found).resolve() == called.resolve()):
        return "dyprag"
    return str(called)


def _quoted(question: str) -> str:
    """In double quotes where nothing in them is special to a shell, which is easier to read."""
    return f'"{question}"' if not set('"$`\\!') & set(question) else shlex.quote(question)
