"""`dyprag evaluate`."""

from typing import Annotated

import typer

from dyprag.cli.flow_runs import run_flow
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, VerboseOption


def evaluate(
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    verbose: VerboseOption = False,
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", "-e", metavar="NAME", help="Run an experiment of the paper: main, "
                     "out-of-distribution, width, alignment-size, losses, conflict, answer-length, cost, "
                     "internalization. Its data sets are read from `experiment.data`."),
    ] = None,
) -> None:  # fmt: skip
    """Answer the test questions with every method, score the answers and write the report; or run an experiment."""
    named = [f"experiment.name={experiment}"] if experiment else []
    run_flow("evaluate", config, [*(set_ or []), *named], json_, verbose)
