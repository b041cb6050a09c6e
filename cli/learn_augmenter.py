"""`dyprag learn-augmenter`."""

from dyprag.cli.flow_runs import run_flow
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, VerboseOption


def learn_augmenter(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Train a question writer on questions that people wrote, for local augmentation."""
    run_flow("learn_augmenter", config, set_, json_, verbose)
