"""The `dyprag` command. All subcommands take the same configuration file and overrides.

This module only registers the commands; each has its own file. They import slow packages when they run, so that help
and completion are fast.
"""

import atexit
import os
from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer

from dyprag.cli.ask import ask
from dyprag.cli.augment import augment
from dyprag.cli.automations import automations
from dyprag.cli.catalogue import catalogue
from dyprag.cli.compare import compare
from dyprag.cli.config import show_config
from dyprag.cli.documents import documents
from dyprag.cli.evaluate import evaluate
from dyprag.cli.export import export
from dyprag.cli.gc import gc
from dyprag.cli.imports import import_
from dyprag.cli.ingest import ingest
from dyprag.cli.learn import learn
from dyprag.cli.learn_augmenter import learn_augmenter
from dyprag.cli.options import read_config
from dyprag.cli.parametrize import parametrize
from dyprag.cli.report import report
from dyprag.cli.run import run
from dyprag.cli.serve import serve
from dyprag.cli.signals import run_and_listen
from dyprag.cli.sql import sql
from dyprag.cli.status import status
from dyprag.cli.train_translator import train_translator
from dyprag.cli.verify import verify

__all__ = ["app", "main", "read_config"]

app = typer.Typer(
    name="dyprag",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Train LoRA adapters from documents, train a translator that makes them in one pass, and compare methods.

Try it: `dyprag run` runs the whole pipeline on the demo corpus with the packaged model.

Your own data: `dyprag run --set corpus.documents=docs.jsonl --set corpus.questions=questions.jsonl`

Finished work is never repeated: after a failure or a change of the corpus, run the same command again.""",
)

COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "ingest": ingest,
    "augment": augment,
    "parametrize": parametrize,
    "train-translator": train_translator,
    "learn": learn,
    "learn-augmenter": learn_augmenter,
    "evaluate": evaluate,
    "ask": ask,
    "export": export,
    "import": import_,
    "serve": serve,
    "documents": documents,
    "status": status,
    "verify": verify,
    "gc": gc,
    "sql": sql,
    "report": report,
    "automations": automations,
    "compare": compare,
    "config": show_config,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(catalogue, name="catalogue")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dyprag {metadata.version('dyprag')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line."""
    # DuckDB's bindings report leaks to stderr while the interpreter shuts down. The handler registered first runs
    # last, when all other output has been written.
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
    run_and_listen(app)


if __name__ == "__main__":
    main()
