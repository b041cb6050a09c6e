"""`dyprag status`."""

from collections.abc import Sequence
from typing import Any

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, read_config
from dyprag.cli.output import errors, print_json, print_table


def status(config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Show for each stage how many documents are done, partial, failed and waiting, with the reasons."""
    with errors():
        from dyprag.tasks.workspace import Workspace

        catalogue = Workspace(read_config(config, set_)).catalogue
        progress = catalogue.progress()
        if json_:
            print_json(progress)
            return
        columns = ["stage", "done", "partial", "failed", "waiting", "cached"]
        print_table(columns, _cells(progress, columns))
        if any(row["partial"] for row in progress):
            partial = catalogue.query("SELECT document_id, stage, reason FROM partial")
            print()
            print_table(["partial document", "stage", "what is missing"], _cells(partial))
        if any(row["failed"] for row in progress):
            failures = catalogue.query("SELECT document_id, stage, attempts, error FROM failures")
            print()
            print_table(["failed document", "stage", "attempts", "error"], _cells(failures))
            print("\nRun the same command again: it processes only failed and waiting documents.")
        if held := catalogue.waiting_reasons():
            print()
            print_table(["waiting", "stage", "why"], _cells(held, ["documents", "stage", "error"]))


def _cells(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> list[list[str]]:
    return [[str(row[column]) for column in columns or row] for row in rows]
