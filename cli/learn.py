"""`dyprag learn`."""

from dyprag.cli.flow_runs import run_flow
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, VerboseOption


def learn(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Learn a translator from documents and questions, and measure what it makes recalled."""
    run_flow("learn", config, set_, json_, verbose)
