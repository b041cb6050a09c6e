"""`dyprag parametrize`."""

from dyprag.cli.flow_runs import run_flow
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, VerboseOption


def parametrize(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Train a LoRA adapter for each augmented document."""
    run_flow("parametrize", config, set_, json_, verbose)
