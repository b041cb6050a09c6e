"""`dyprag automations`."""

from typing import Annotated

import typer

from dyprag.cli.output import errors


def automations(
    notify: Annotated[
        str | None,
        typer.Option(envvar="NOTIFY", help='A webhook that takes {"text": …}, as Slack\'s does. Empty: the last one.'),
    ] = None,
) -> None:
    """On the Prefect server: a work pool for one run at a time; runs that died are marked, failed documents told of."""
    with errors():
        from dyprag.flows.automations import create_automations

        print("\n".join(f"Automation set up: {name}" for name in create_automations(notify)))
