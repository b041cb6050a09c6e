"""`dyprag compare`."""

from typing import Annotated

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, read_config
from dyprag.cli.output import errors, print_json


def compare(
    before: Annotated[str, typer.Argument(metavar="RUN_A", help="A run's id or a prefix of it.")],
    after: Annotated[str, typer.Argument(metavar="RUN_B", help="The id or prefix of the run to compare it with.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Compare two evaluations or experiments question by question, and test whether the change is significant."""
    with errors():
        from dataclasses import asdict

        from dyprag.evaluation.comparison import changes_in_words, compare_runs
        from dyprag.tasks.report import reported_answers
        from dyprag.tasks.workspace import Workspace

        catalogue = Workspace(read_config(config, set_)).catalogue_of_results()
        answers = [reported_answers(catalogue.store, catalogue, run) for run in (before, after)]
        changes = compare_runs(*answers)
        if json_:
            print_json([asdict(change) for change in changes])
        else:
            print(changes_in_words(changes))
