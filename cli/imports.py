"""`dyprag import`: adapters trained elsewhere become documents' own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, of_store, read_config
from dyprag.cli.output import errors, exit_with_missing, few, print_json
from dyprag.errors import ConfigError


def import_(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="An adapter that PEFT saved, or a folder of `dyprag export`.")
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", "-d", metavar="ID", help="The document of the corpus that it is of.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Instead: use the document's trained adapter again.")
    ] = False,
    same_model: Annotated[
        bool,
        typer.Option("--same-model", help="The adapter was trained on this model, though it names its own otherwise."),
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Take adapters trained elsewhere into the store, as documents' own: PRAG then answers with them."""
    with errors():
        from dyprag.tasks.importing import forget as forget_import
        from dyprag.tasks.importing import import_adapters

        settings = of_store(read_config(config, set_))
        if forget:
            if document is None or folder is not None:
                raise ConfigError("--forget", "it needs a document, not a folder", "Name it with --document ID.")
            forgotten = forget_import(document, settings)
            if json_:
                print_json({"forgotten": forgotten})
            else:
                print(f"{document}: {'its import is forgotten' if forgotten else 'nothing was imported for it'}.")
            return
        if folder is None:
            raise ConfigError("dyprag import", "no adapter folder was given", "Name an adapter's folder.")
        imported = import_adapters(folder, document, settings, same_model)
        if json_:
            print_json(imported)
        else:
            print(imported_text(imported))
        exit_with_missing(imported["missing"], "not in the corpus")


def imported_text(found: dict[str, Any]) -> str:
    """What was imported, in words."""
    names = [one["document"] for one in found["imported"]]
    count = f"{len(names)} adapter{'s' * (len(names) != 1)} imported"
    return (
        f"{count}: {few(names)}. `dyprag ask --method prag` answers with what was imported." if names else f"{count}."
    )
