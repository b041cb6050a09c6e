"""`dyprag config`."""

from typing import Annotated

import typer

from dyprag.cli.options import ConfigOption, SetOption, read_config
from dyprag.cli.output import errors


def show_config(
    config: ConfigOption = None,
    set_: SetOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Every setting, also those that few people change.")] = False,
) -> None:
    """Print the configuration as YAML, the model's preset filled in: a start for a file of your own.

    The basic settings, and others that are given and not the default; all of them with --all.
    """
    with errors():
        import yaml

        from dyprag.config.files import to_write

        print(yaml.safe_dump(to_write(read_config(config, set_), everything=all_), sort_keys=False), end="")
