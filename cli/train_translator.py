"""`dyprag train-translator`."""

from dyprag.cli.flow_runs import run_flow
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, VerboseOption


def train_translator(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Embed the documents and train the translator, which maps embeddings to adapters."""
    run_flow("train_translator", config, set_, json_, verbose)
