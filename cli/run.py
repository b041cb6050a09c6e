"""`dyprag run`."""

from dyprag.cli.flow_runs import run_flow
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, VerboseOption


def run(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Run the whole pipeline: ingest, augment, parametrize, train the translator, evaluate."""
    run_flow("pipeline", config, set_, json_, verbose)
