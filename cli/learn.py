"""`dyprag learn`."""

from dyprag.cli.flow_runs import run_flow
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, VerboseOption


def learn(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Train a translator on documents and questions, and measure how many facts its adapters recall."""
    run_flow("learn", config, set_, json_, verbose)
