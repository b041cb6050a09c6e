"""`dyprag gc`."""

from typing import Annotated, Any

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, read_config
from dyprag.cli.output import errors, print_json


def gc(
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
) -> None:
    """Delete artifacts that no last-ingested corpus refers to. No run may be in progress."""
    with errors():
        from dyprag.tasks.collect import collect

        collected = collect(read_config(config, set_), dry_run)
        if json_:
            print_json(collected)
        else:
            print(collected_text(collected))


def collected_text(collected: dict[str, Any]) -> str:
    """What was or would be deleted, as text."""
    from dyprag.evaluation.report.plots import human_bytes

    if not collected["artifacts"]:
        return "Nothing to delete: every artifact is in use."
    parts = [
        f"{kind['artifacts']:,} {name} ({human_bytes(kind['bytes'])})"
        for name, kind in sorted(collected["kinds"].items())
    ]
    label = "Deleted" if collected["deleted"] else "Would be deleted"
    count = "1 artifact" if collected["artifacts"] == 1 else f"{collected['artifacts']:,} artifacts"
    return f"{label}: {count}, {human_bytes(collected['bytes'])}: {', '.join(parts)}."
