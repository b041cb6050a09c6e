"""`dyprag gc`."""

from typing import Annotated, Any

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, read_config
from dyprag.cli.output import errors, print_json


def gc(
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
) -> None:
    """Delete artifacts that no document of a corpus, as it was last ingested, refers to. No run may be at work."""
    with errors():
        from dyprag.tasks.collect import collect

        collected = collect(read_config(config, set_), dry_run)
        if json_:
            print_json(collected)
        else:
            print(collected_text(collected))


def collected_text(found: dict[str, Any]) -> str:
    """What was or would be deleted, in words."""
    from dyprag.evaluation.report.plots import human_bytes

    if not found["artifacts"]:
        return "Nothing to delete: every artifact is referred to."
    parts = [
        f"{kind['artifacts']:,} {name} ({human_bytes(kind['bytes'])})" for name, kind in sorted(found["kinds"].items())
    ]
    said = "Deleted" if found["deleted"] else "Would be deleted"
    return f"{said}: {found['artifacts']:,} artifacts, {human_bytes(found['bytes'])}: {', '.join(parts)}."
