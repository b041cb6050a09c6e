"""After an evaluation: a question to begin with, which the method that `dyprag ask` takes by default answered right."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyprag.cli.ask import DEFAULT

# Right by the method itself, and by as many others with the right adapters as possible; best where the plain model and
# wrong adapters do not know: then rounding on another machine, or answering it alone, changes least.
CHOICE = """
    SELECT arg_max(key, rank) AS key, arg_max(question_id, rank) AS question_id FROM (
        SELECT question_id, max(key) FILTER (method = $2) AS key,
            sum(CASE WHEN method IN ('prag', 'prag-combine', 'rag', 'dyprag-combine') THEN f1
                     WHEN method IN ('vanilla', 'prag-wrong', 'prag-combine-wrong') THEN -f1 ELSE 0 END) AS rank
        FROM scores WHERE run_id = $1 GROUP BY dataset, question_id
        HAVING max(f1) FILTER (method = $2) >= 0.999)
"""


def suggestion(catalogue: Any, run_id: str, path: Path | None, overrides: Sequence[str]) -> str | None:
    """The command that asks such a question with the settings of a run; None where no answer was right.

    Args:
        path, overrides: the run's own `--config` and `--set`.
    """
    from dyprag.storage.tables import read_rows

    (found,) = catalogue.query(CHOICE, [run_id, DEFAULT])
    if found["key"] is None:
        return None
    answers = read_rows(catalogue.store.open("prediction", found["key"]) / "predictions.parquet")
    question = next(answer["question"] for answer in answers if answer["question_id"] == found["question_id"])
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
