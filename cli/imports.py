"""`dyprag import`: use adapters trained elsewhere as the adapters of documents."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, of_store, read_config
from dyprag.cli.output import errors, exit_with_missing, few, print_json
from dyprag.errors import ConfigError


def import_(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="An adapter saved by PEFT, or a folder from `dyprag export`."),
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", "-d", metavar="ID", help="The document that the adapter belongs to.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Undo an import: use the document's trained adapter again.")
    ] = False,
    same_model: Annotated[
        bool,
        typer.Option(
            "--same-model", help="Confirm that the adapter was trained on this model, though it names another."
        ),
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Import adapters trained elsewhere into the store, so that PRAG answers with them."""
    with errors():
        from dyprag.tasks.importing import forget as forget_import
        from dyprag.tasks.importing import import_adapters

        settings = of_store(read_config(config, set_))
        if forget:
            if document is None or folder is not None:
                raise ConfigError("--forget", "it takes a document, not a folder", "Pass --document ID.")
            forgotten = forget_import(document, settings)
            if json_:
                print_json({"forgotten": forgotten})
            else:
                print(f"{document}: {'import undone' if forgotten else 'nothing was imported'}.")
            return
        if folder is None:
            raise ConfigError(
                "dyprag import",
                "no adapter folder was given",
                "Run: dyprag import FOLDER; with --document ID if the folder is not from dyprag export.",
            )
        imported = import_adapters(folder, document, settings, same_model)
        if json_:
            print_json(imported)
        else:
            print(imported_text(imported))
        exit_with_missing(imported["missing"], "not in the corpus")


def imported_text(imported: dict[str, Any]) -> str:
    """What was imported, as text."""
    names = [adapter["document"] for adapter in imported["imported"]]
    count = f"{len(names)} adapter{'s' * (len(names) != 1)} imported"
    return (
        f"{count}: {few(names)}. `dyprag ask --method prag` answers with imported adapters." if names else f"{count}."
    )
