"""`dyprag report`."""

from typing import Annotated

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, read_config
from dyprag.cli.output import errors, print_json


def report(
    run: Annotated[str | None, typer.Argument(help="A run's id or a prefix. Default: the last evaluation.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Print the results of an evaluation or experiment and the path of its report."""
    with errors():
        from dyprag.evaluation.report import outputs_cut, terminal_table
        from dyprag.tasks.workspace import Workspace

        workspace = Workspace(read_config(config, set_))
        rows = workspace.results(run)
        if json_:
            print_json({"rows": rows})
            return
        print(terminal_table(rows))
        if cut := outputs_cut(rows):
            print(f"\n{cut}")
        print(f"\nReport: {workspace.report_page(rows[0]['run_id'])}")
