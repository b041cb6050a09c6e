"""`dyprag automations`."""

from typing import Annotated

import typer

from dyprag.cli.output import errors


def automations(
    notify: Annotated[
        str | None,
        typer.Option(
            envvar="NOTIFY", help='A webhook that accepts {"text": …}, as Slack\'s does. Default: the last one.'
        ),
    ] = None,
) -> None:
    """Set up the Prefect server: a work pool for one run at a time, marking of crashed runs, notices of failures."""
    with errors():
        from dyprag.flows.automations import create_automations

        print("\n".join(f"Automation set up: {name}" for name in create_automations(notify)))
