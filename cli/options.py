"""Options that several commands share, and how the configuration is read from them. Imports nothing slow."""

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
        help="Override one setting, e.g. `--set lora.rank=4`; repeatable. Paths "
        "and other text are taken as they are written; lists and maps are YAML; `KEY=null` leaves a setting as if not "
        "given, a text as well if it may be empty.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's own log as well.")]


def read_config(path: Path | None, overrides: list[str] | None) -> "PipelineConfig":
    """The configuration of a file and overrides.

    Raises:
        ConfigError: a file that cannot be read, a key that does not exist, or a value that does not fit.
    """
    from dyprag.config.files import configuration, read_file, set_override

    values = read_file(path) if path else {}
    for override in overrides or []:
        set_override(values, override)
    return configuration(values)


def of_store(config: "PipelineConfig", ingests: bool = False) -> "PipelineConfig":
    """The configuration with the corpus that its store has where it names none; says which, if it is not the demo."""
    from dyprag.tasks.corpora import with_stored_corpus

    config, said = with_stored_corpus(config, ingests)
    if said:
        print(said, file=sys.stderr)
    return config
