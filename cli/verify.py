"""`dyprag verify`."""

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, read_config
from dyprag.cli.output import errors, print_json, print_table


def verify(config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Check the checksum of every artifact, and that all artifacts in the catalogue exist. Read-only."""
    with errors():
        from dataclasses import asdict

        from dyprag.tasks.workspace import Workspace

        sound, faults = Workspace(read_config(config, set_)).catalogue.verify()
        if json_:
            print_json({"sound": sound, "faults": [asdict(fault) for fault in faults]})
        else:
            print("Sound: " + (", ".join(f"{count} {kind}" for kind, count in sound.items()) or "none"))
            if faults:
                print()
                rows = [[fault.kind, fault.key, fault.document_id, fault.reason] for fault in faults]
                print_table(["artifact", "key", "document", "fault"], rows)
                print("\nRun the command that wrote them again: it replaces only these artifacts.")
        if faults:
            raise typer.Exit(1)
