"""Output of the commands: tables, JSON and one-line errors."""

import json
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import typer

from dyprag.errors import DypragError
from dyprag.runtime.interruption import interrupted

FEW = 5  # names printed of a longer list


class errors:
    """Print a DypragError as one line on stderr and exit with code 1."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and interrupted():  # reported by the signal handler
            raise typer.Exit(1) from None
        if isinstance(error, DypragError):
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, without escaping non-ASCII letters."""
    print(json.dumps(value, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, as wide as the terminal or 160 columns in a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: cells are not parsed as markup
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def few(names: Sequence[str]) -> str:
    """The first names of a list, separated by commas."""
    return ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")


def exit_with_missing(names: Sequence[str], what: str) -> None:
    """Print the missing names, if there are any, and exit with code 2."""
    if names:
        print(f"{len(names)} {what}: {few(names)}", file=sys.stderr)
        raise typer.Exit(2)
