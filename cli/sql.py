"""`dyprag sql`: the catalogue in DuckDB's SQL, from what is installed: no shell of DuckDB's is needed."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, read_config
from dyprag.cli.output import errors, print_table
from dyprag.errors import ConfigError

Rows = Sequence[Sequence[Any]]


class Readable(Protocol):
    """A catalogue, as far as it is read here."""

    def query_copy(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]: ...


def sql(
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help='In quotes, such as "FROM failures"; see `dyprag sql "SHOW TABLES"`.')
    ],
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Ask the catalogue, in DuckDB's SQL. Changes nothing."""
    with errors():
        from dyprag.tasks.workspace import Workspace

        columns, rows = asked(statement, Workspace(read_config(config, set_)).catalogue)
        if json_ or csv_:
            print(as_json(columns, rows) if json_ else as_csv(columns, rows), end="" if csv_ else "\n")
        else:
            print_table(columns, cells(rows))


def asked(statement: str, catalogue: Readable) -> tuple[list[str], Rows]:
    """The columns and rows that a statement gives.

    Raises:
        ConfigError: it is no SQL, names what is not there, or would change something.
        StoreError: there is no catalogue yet, or another process holds it for too long.
    """
    import duckdb

    try:
        return catalogue.query_copy(statement)
    except duckdb.Error as error:
        reason = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
        raise ConfigError(f"SQL {statement!r}", reason, 'See: dyprag sql "SHOW TABLES".') from error


def cells(rows: Rows) -> list[list[str]]:
    """The rows as they are printed."""
    return [["" if value is None else str(value) for value in row] for row in rows]


def as_json(columns: Sequence[str], rows: Rows) -> str:
    """A list of objects; what JSON does not know, such as a time, as text."""
    return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], ensure_ascii=False, default=str)


def as_csv(columns: Sequence[str], rows: Rows) -> str:
    """With a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
