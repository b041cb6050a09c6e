"""Options shared by several commands, and the configuration they give. Imports nothing slow."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dyprag.config import PipelineConfig

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="A YAML or TOML file of settings; see `dyprag config`.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Override one setting, e.g. `--set lora.rank=4`. Repeatable. Paths and other text are taken literally; "
        "lists and maps are YAML; `KEY=null` unsets a setting.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log too.")]


def read_config(path: Path | None, overrides: list[str] | None) -> "PipelineConfig":
    """Read the configuration from a file and overrides.

    Raises:
        ConfigError: the file cannot be read, a key does not exist, or a value is invalid.
    """
    from dyprag.config.files import configuration, read_file, set_override

    values = read_file(path) if path else {}
    for override in overrides or []:
        set_override(values, override)
    return configuration(values)


def of_store(config: "PipelineConfig", ingests: bool = False) -> "PipelineConfig":
    """Use the corpus last ingested into the store if the configuration names none, and print its name."""
    from dyprag.tasks.corpora import with_stored_corpus

    config, notice = with_stored_corpus(config, ingests)
    if notice:
        print(notice, file=sys.stderr)
    return config
