"""`dyprag config`."""

from typing import Annotated

import typer

from dyprag.cli.options import ConfigOption, SetOption, read_config
from dyprag.cli.output import errors


def show_config(
    config: ConfigOption = None,
    set_: SetOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Print expert settings too.")] = False,
) -> None:
    """Print the configuration as YAML, with the model's preset filled in, as a start for your own file.

    Prints the basic settings and all others that differ from their defaults; with --all, every setting.
    """
    with errors():
        import yaml

        from dyprag.config.files import to_write

        print(yaml.safe_dump(to_write(read_config(config, set_), everything=all_), sort_keys=False), end="")
