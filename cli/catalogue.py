"""`dyprag catalogue`: maintain the catalogue."""

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, read_config
from dyprag.cli.output import errors, print_json, print_table

catalogue = typer.Typer(no_args_is_help=True, help="The DuckDB catalogue of the store.")


@catalogue.command()
def rebuild(config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Rebuild the catalogue from the stored artifacts and list the tables that could not be rebuilt."""
    with errors():
        from dyprag.tasks.workspace import Workspace

        rebuilt = Workspace(read_config(config, set_), writes=True).catalogue.rebuild()
        if json_:
            print_json({"rows": rebuilt.rows, "lost": rebuilt.lost})
            return
        print_table(["table", "rows"], [[table, str(rows)] for table, rows in rebuilt.rows.items()])
        for table in rebuilt.lost:
            print(f"\nNot rebuilt: {table}.")
