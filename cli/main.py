"""`dyprag`: the pipeline from a terminal. Every command takes the same configuration file and the same overrides."""

import atexit
import gc as garbage
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyprag.cli.signals import end_like, run_and_listen
from dyprag.config import PipelineConfig
from dyprag.config.files import configuration, read_file, set_override, to_write
from dyprag.errors import ConfigError, DypragError, ServerError
from dyprag.runtime.interruption import check, interrupted

app = typer.Typer(
    name="dyprag",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Documents become LoRA adapters, adapters become a translator, and a table says what each method answers.

Try it: `dyprag run` runs everything on the demo corpus with the embedded model.

Your own: `dyprag run --set corpus.documents=docs.jsonl --set corpus.questions=questions.jsonl`

What is done is never done again: run the same command after a failure, a change or a growth of the corpus.""",
)

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
    """What all commands share."""


@app.command()
def run(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """The whole pipeline: ingest, augment, parametrize, train the translator, evaluate."""
    _run_flow("pipeline", config, set_, json_, verbose)


@app.command()
def ingest(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Read documents and questions into the store."""
    _run_flow("ingest", config, set_, json_, verbose)


@app.command()
def augment(
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    verbose: VerboseOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many requests and tokens it would take, and the cost.")
    ] = False,
    show: Annotated[
        str | None, typer.Option("--show", metavar="DOC", help="Only print what was made of this document.")
    ] = None,
) -> None:
    """Write rewrites and question-answer pairs for each document."""
    if not dry_run and show is None:
        _run_flow("augment", config, set_, json_, verbose)
        return
    with _errors():
        from dyprag.cli.augment import estimate, estimate_text, products, products_text

        settings = _of_store(read_config(config, set_))
        found = products(show, settings) if show is not None else estimate(settings)
        if json_:
            print(json.dumps(found, ensure_ascii=False))
        else:
            print(products_text(found) if show is not None else estimate_text(found))


@app.command()
def parametrize(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Train a LoRA adapter for each augmented document."""
    _run_flow("parametrize", config, set_, json_, verbose)


@app.command("train-translator")
def train_translator(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Embed the documents and train the translator from embedding to adapter."""
    _run_flow("train_translator", config, set_, json_, verbose)


@app.command()
def learn(
    config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Learn a translator from documents and questions, and measure what it makes recalled."""
    _run_flow("learn", config, set_, json_, verbose)


@app.command()
def evaluate(
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    verbose: VerboseOption = False,
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", "-e", metavar="NAME", help="Run an experiment of the paper: main, "
                     "out-of-distribution, width, alignment-size, losses, conflict, answer-length, cost, "
                     "internalization. Its data sets are looked for in `experiment.data`."),
    ] = None,
) -> None:  # fmt: skip
    """Answer the test questions with every method, score them and write the report; or run a whole experiment."""
    named = [f"experiment.name={experiment}"] if experiment else []
    _run_flow("evaluate", config, [*(set_ or []), *named], json_, verbose)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    document: Annotated[
        list[str] | None,
        typer.Option("--document", "-d", metavar="FILE", help="Ask this file or folder instead of the store, with no "
                     "training: the translator makes its adapter. Repeatable."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="One of the methods in `evaluate.methods`; by default prag-combine, and "
                     "dyprag-combine with --document."),
    ] = None,
    compare_: Annotated[
        bool,
        typer.Option("--compare", help="By all methods, side by side: those that need no store with --document, else "
                     "those of `evaluate.methods` for which the store has what they need."),
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Answer one question from the documents in the store, or from a document of your own."""
    with _errors():
        from dyprag.cli.ask import DEFAULT, answer, answer_from, answers, how

        settings = read_config(config, set_)
        lacking: dict[str, str] = {}
        if not document:
            settings = _of_store(settings)
            if compare_:
                found, lacking = answers(question, settings)
            else:
                found = [answer(question, method or DEFAULT, settings)]
        else:
            with _imports():
                import dyprag.serving.assistant  # noqa: F401
            found = answer_from(question, document, None if compare_ else method or "dyprag-combine", settings)
        if json_:
            print(json.dumps(found if compare_ else found[0], ensure_ascii=False))
        elif compare_:
            _print_table(
                ["method", "answer", "s"], [[one["method"], one["answer"], f"{one['seconds']:.2f}"] for one in found]
            )
        else:
            print(found[0]["answer"])
        if not json_:
            print("\n".join(map(how, found)), file=sys.stderr)
        if lacking:
            reasons = "; ".join(f"{name} ({reason})" for name, reason in lacking.items())
            print(f"Left out: {reasons}.", file=sys.stderr)


@app.command()
def export(
    peft: Annotated[
        Path | None, typer.Option("--peft", metavar="DIR", help="Write adapters in PEFT's format, for PEFT and vLLM.")
    ] = None,
    merged: Annotated[
        Path | None,
        typer.Option("--merged", metavar="DIR", help="Write the model with the one adapter merged into its weights, in "
                     "model.dtype."),
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", "-d", metavar="ID", help="Only this document's of the corpus.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Option("--question", "-q", help="Those of the documents found for this, merged into one; with --file, of "
                     "its passages."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="Of a file: the translator makes its adapter. A long one "
                     "needs a --question."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="prag: trained adapters; dyprag: translated ones. By default prag where "
                     "the store has them."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", metavar="NAME_OR_PATH", help="With --peft: what the adapters name as their base "
                     "model, and serve.sh serves. By default the model's Hugging Face id, or its folder."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Write adapters for PEFT and vLLM, of the whole corpus, a document, a question or a file; or a merged model."""
    with _errors():
        from dyprag.cli.export import Choice, exported_text
        from dyprag.cli.export import export as export_adapters

        settings = read_config(config, set_)
        settings = settings if file is not None else _of_store(settings)
        found = export_adapters(Choice(document, question, file, method), peft, merged, settings, base_model)
        print(json.dumps(found, ensure_ascii=False) if json_ else exported_text(found))
        if found["missing"]:
            few = ", ".join(found["missing"][:5]) + (", …" if len(found["missing"]) > 5 else "")
            print(f"{len(found['missing'])} without an adapter: {few}", file=sys.stderr)
            raise typer.Exit(2)


@app.command("import")
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
    with _errors():
        from dyprag.cli.imports import forget as forget_import
        from dyprag.cli.imports import import_adapters, imported_text

        settings = _of_store(read_config(config, set_))
        if forget:
            if document is None or folder is not None:
                raise ConfigError("--forget", "it takes a document and no folder", "Name it with --document ID.")
            forgotten = forget_import(document, settings)
            words = f"{document}: {'its import is forgotten' if forgotten else 'nothing was imported for it'}."
            print(json.dumps({"forgotten": forgotten}) if json_ else words)
            return
        if folder is None:
            raise ConfigError("dyprag import", "it is not said what", "Name an adapter's folder.")
        found = import_adapters(folder, document, settings, same_model)
        print(json.dumps(found, ensure_ascii=False) if json_ else imported_text(found))
        if found["missing"]:
            few = ", ".join(found["missing"][:5]) + (", …" if len(found["missing"]) > 5 else "")
            print(f"{len(found['missing'])} not in the corpus: {few}", file=sys.stderr)
            raise typer.Exit(2)


@app.command()
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen at; by default only for this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535)] = 8000,
    document: Annotated[
        list[str] | None,
        typer.Option("--document", "-d", metavar="FILE", help="Documents for requests that bring none. Repeatable."),
    ] = None,
    corpus: Annotated[bool, typer.Option("--corpus", help="For these, the corpus in the store instead.")] = False,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Answers written together.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Let others than this machine call without a token.")] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="URL",
            help="A web page that may call it from a browser (CORS), such as "
            "https://chat.example; '*' for any. Repeatable. By default none.",
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Answer over HTTP as OpenAI's chat completions do, from documents sent along; `/` is a page to try it.

    A token that clients must give is read from the environment's `DYPRAG_TOKEN`.
    """
    with _errors():
        from dyprag.cli.serve import serve as serve_forever

        if corpus and document:
            raise ConfigError("--corpus", "it does not go with --document", "Name one of the two.")
        settings = read_config(config, set_)
        settings = _of_store(settings) if corpus else settings
        serve_forever(host, port, document or [], corpus, rows, open_, settings, allow_origin or [])


@app.command()
def documents(
    identity: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A document, whose text is printed as it was read.")
    ] = None,
    document: Annotated[
        list[str] | None,
        typer.Option("--document", "-d", metavar="FILE", help="A file or folder instead of the store: how it would be "
                     "read. Repeatable."),
    ] = None,
    skipped: Annotated[bool, typer.Option("--skipped", help="Only what was not read, and why.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """The documents of the corpus and what was not read; or the text of one, as it was read."""
    with _errors():
        from dyprag.cli.documents import (
            FEW,
            document_text,
            documents_at,
            documents_in_store,
            listed,
            one_document,
            rows_of,
            unread_rows,
        )

        settings = read_config(config, set_)
        found = documents_at(document, settings) if document else documents_in_store(_of_store(settings))
        if identity is not None:
            entry = one_document(identity, found)
            print(json.dumps(entry, ensure_ascii=False) if json_ else document_text(entry))
            return
        if json_:
            print(json.dumps(listed(found, skipped), ensure_ascii=False))
            return
        if document and not skipped and len(found["documents"]) == 1 and not found["skipped"] and not found["unread"]:
            print(document_text(found["documents"][0]))
            return
        for name, how in found["guessed"].items():
            print(f"{name}: {how}.", file=sys.stderr)
        if rows := [] if skipped else rows_of(found):
            _print_table(["id", "title", "words", "passages", "source"], rows)
        if left := unread_rows(found, None if skipped else FEW):
            print(end="\n" if rows else "")
            _print_table(["not read", "file", "why"], left)
        elif not rows:
            print("Nothing was skipped or failed." if skipped else f"No documents in {found['location']}.")


@app.command()
def status(config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Per stage: how many documents are done, partial, failed, waiting; those that are not whole, and why."""
    with _errors():
        catalogue = _catalogue(read_config(config, set_))
        progress = catalogue.progress()
        if json_:
            print(json.dumps(progress))
            return
        columns = ["stage", "done", "partial", "failed", "waiting", "cached"]
        _print_table(columns, [[str(row[column]) for column in columns] for row in progress])
        if any(row["partial"] for row in progress):
            partial = catalogue.query("SELECT document_id, stage, reason FROM partial")
            print()
            _print_table(
                ["partial document", "stage", "what is missing"], [[*map(str, row.values())] for row in partial]
            )
        if any(row["failed"] for row in progress):
            failures = catalogue.query("SELECT document_id, stage, error, attempts FROM failures")
            print()
            rows = [[str(row[c]) for c in ("document_id", "stage", "attempts", "error")] for row in failures]
            _print_table(["failed document", "stage", "attempts", "error"], rows)
            print("\nRun the same command again: only these and the waiting ones are worked on.")
        if held := catalogue.held():
            print()
            _print_table(
                ["waiting", "stage", "why"], [[str(row[c]) for c in ("documents", "stage", "error")] for row in held]
            )


@app.command()
def verify(config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Check the bytes of every artifact, and that all the catalogue knows of are there. Changes nothing."""
    with _errors():
        from dataclasses import asdict

        sound, faults = _catalogue(read_config(config, set_)).verify()
        if json_:
            print(json.dumps({"sound": sound, "faults": [asdict(fault) for fault in faults]}))
        else:
            print("Sound: " + (", ".join(f"{count} {kind}" for kind, count in sound.items()) or "none"))
            if faults:
                print()
                rows = [[fault.kind, fault.key, fault.document_id, fault.reason] for fault in faults]
                _print_table(["artifact", "key", "document", "fault"], rows)
                print("\nRun the same command that made them again: these are made anew, and nothing else.")
        if faults:
            raise typer.Exit(1)


@app.command()
def gc(
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
) -> None:
    """Delete artifacts that no document of a corpus, as it was last ingested, refers to. No run may be at work."""
    with _errors():
        from dyprag.cli.gc import collect, collected_text

        found = collect(read_config(config, set_), dry_run)
        print(json.dumps(found) if json_ else collected_text(found))


catalogue_app = typer.Typer(no_args_is_help=True, help="The DuckDB catalogue of the store.")
app.add_typer(catalogue_app, name="catalogue")


@catalogue_app.command()
def rebuild(config: ConfigOption = None, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Make it again from the artifacts on disk, and say what could not be made again."""
    with _errors():
        made = _catalogue(read_config(config, set_), writes=True).rebuild()
        if json_:
            print(json.dumps({"rows": made.rows, "lost": made.lost}))
            return
        _print_table(["table", "rows"], [[table, str(rows)] for table, rows in made.rows.items()])
        for what in made.lost:
            print(f"\nNot made again: {what}.")


@app.command()
def sql(
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help='In quotes, such as "FROM failures"; see `dyprag sql "SHOW TABLES"`.')
    ],
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Ask the catalogue, in DuckDB's SQL. Changes nothing."""
    with _errors():
        from dyprag.cli.sql import as_csv, as_json, asked, cells

        columns, rows = asked(statement, _catalogue(read_config(config, set_)))
        if json_ or csv_:
            print(as_json(columns, rows) if json_ else as_csv(columns, rows), end="" if csv_ else "\n")
        else:
            _print_table(columns, cells(rows))


@app.command()
def report(
    run: Annotated[str | None, typer.Argument(help="A run's id, or its beginning. Empty: the last evaluation.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """The results of an evaluation or experiment, and where its pages are."""
    with _errors():
        from dyprag.evaluation.report import outputs_cut, terminal_table

        catalogue = _catalogue(read_config(config, set_), with_results=True)
        rows = catalogue.results(catalogue.run(run)["run_id"] if run else None)
        if not rows:
            reason = f"run {run} has no results" if run else "nothing has been evaluated yet"
            raise DypragError(f"store {catalogue.store.root}", reason, "Run: dyprag run.")
        if json_:
            print(json.dumps({"rows": rows}))
            return
        print(terminal_table(rows))
        if cut := outputs_cut(rows):
            print(f"\n{cut}")
        print(f"\nReport: {catalogue.store.reports / rows[0]['run_id'] / 'report.html'}")


@app.command()
def automations(
    notify: Annotated[
        str | None,
        typer.Option(envvar="NOTIFY", help='A webhook that takes {"text": …}, as Slack\'s does. Empty: the last one.'),
    ] = None,
) -> None:
    """On the Prefect server: a work pool for one run at a time; runs that died are marked, failed documents told of."""
    with _errors():
        from dyprag.flows.automations import create_automations

        print("\n".join(f"Automation set up: {name}" for name in create_automations(notify)))


@app.command()
def compare(
    one: Annotated[str, typer.Argument(metavar="RUN_A", help="A run's id, or its beginning.")],
    other: Annotated[str, typer.Argument(metavar="RUN_B", help="Another's.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """What changed between two evaluations or experiments, question by question, and whether it is more than noise."""
    with _errors():
        from dataclasses import asdict

        from dyprag.evaluation.comparison import changes_in_words, compare_runs
        from dyprag.tasks.report import reported_answers

        catalogue = _catalogue(read_config(config, set_), with_results=True)
        sides = [reported_answers(catalogue.store, catalogue, run) for run in (one, other)]
        changes = compare_runs(*sides)
        print(json.dumps([asdict(change) for change in changes]) if json_ else changes_in_words(changes))


@app.command("config")
def show_config(
    config: ConfigOption = None,
    set_: SetOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Every setting, also those that few people change.")] = False,
) -> None:
    """Print the configuration as YAML, the model's preset filled in: a start for a file of your own.

    The basic settings, and others that are given and not the default; all of them with --all.
    """
    with _errors():
        print(yaml.safe_dump(to_write(read_config(config, set_), everything=all_), sort_keys=False), end="")


def read_config(path: Path | None, overrides: list[str] | None) -> PipelineConfig:
    """The configuration of a file and overrides.

    Raises:
        ConfigError: a file that cannot be read, a key that does not exist, or a value that does not fit.
    """
    values = read_file(path) if path else {}
    for override in overrides or []:
        set_override(values, override)
    return configuration(values)


def _of_store(config: PipelineConfig, ingests: bool = False) -> PipelineConfig:
    """The configuration with the corpus that its store has where it names none; says which, if it is not the demo."""
    from dyprag.flows.corpus import with_stored_corpus

    config, said = with_stored_corpus(config, ingests)
    if said:
        print(said, file=sys.stderr)
    return config


def _run_flow(name: str, path: Path | None, overrides: list[str] | None, as_json: bool, verbose: bool) -> None:
    with _errors():
        config = read_config(path, overrides)
        if name != "learn":
            config = _of_store(config, ingests=name in ("ingest", "pipeline"))
        if config.experiment.name is not None and name in ("pipeline", "evaluate"):
            name = "experiment"
        end_like("Stopping. What is finished is kept: run the same command again to go on from here.")
        _prepare_logging(verbose)
        with _imports():
            from dyprag.flows.checks import check_ahead

            check_ahead(name, config)
            flow = _flow(name)
        # what failed shows in the exit code here, whatever a deployment's run makes of it
        run_settings = config.run.model_copy(update={"on_failures": "complete"})
        state = _state_of(flow, config.model_copy(update={"run": run_settings}))
        check()
        summaries = _summaries(name, state)
        if as_json:
            print(json.dumps(summaries))
        elif any(summary["stage"] == "evaluate" and summary["done"] for summary in summaries):
            _print_results(config, path, overrides or [])
        if any(summary["failed"] for summary in summaries):
            print("Some documents failed; `dyprag status` shows which and why.", file=sys.stderr)
        if any(summary["failed"] or summary["reason"] for summary in summaries):
            raise typer.Exit(2)


def _summaries(name: str, state: Any) -> list[dict[str, Any]]:
    """How each stage of a run ended, failed documents or not.

    Raises:
        DypragError: what ended the run before its end.
    """
    from dataclasses import asdict

    from dyprag.flows.stage import summaries_of

    try:
        return [asdict(summary) for summary in summaries_of(state)]
    except DypragError:
        raise
    except Exception as error:
        reason = " ".join(str(error or state.message).split())[:300]
        raise DypragError(
            f"flow {name}", f"it failed ({type(error).__name__}: {reason})",
            "See dyprag status; --verbose shows where. Run again to go on from here.",
        ) from error  # fmt: skip


def _state_of(flow: Callable[..., Any], config: PipelineConfig) -> Any:
    """Run a flow; gives the state that it ends in, which an error of the work itself is part of.

    Raises:
        ServerError: the Prefect server does not answer, or none could be started.
    """
    import httpx
    from prefect.exceptions import PrefectException
    from prefect.settings import PREFECT_API_URL

    try:
        return flow(config, return_state=True)
    except (httpx.HTTPError, PrefectException, RuntimeError, OSError) as error:
        url = PREFECT_API_URL.value()
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ServerError(
            f"Prefect server {url or 'of this run'}", f"it does not answer ({reason})",
            "Start it, or unset PREFECT_API_URL, which has each run start one of its own; then run again: what was "
            "made is found." if url else "Run again, on a less busy machine or with a server that is running already "
            "(prefect server start): what was made is found.",
        ) from error  # fmt: skip


def _flow(name: str) -> Callable[..., Any]:
    import importlib

    flow: Callable[..., Any] = getattr(importlib.import_module(f"dyprag.flows.{name}"), name)
    return flow


@contextmanager
def _imports() -> Iterator[None]:
    """Without the garbage collector, which finds nothing in modules that are just imported, and afterwards passes them
    over, also in the end: together half a second."""
    garbage.disable()
    try:
        yield
    finally:
        garbage.freeze()
        garbage.enable()


def _prepare_logging(verbose: bool) -> None:
    """Our own lines on stderr; Prefect's on its server, and here only if asked for. Before prefect is imported."""
    import dyprag.flows  # noqa: F401  sets what Prefect reads when it is imported

    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "dyprag")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
        # of a server that went away we tell once; Prefect does at every event and line that does not reach it
        os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
        logging.raiseExceptions = False
    handler = _Lines()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("dyprag")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)


class _Lines(logging.StreamHandler[Any]):
    """Writes to what stderr is at the moment: while a bar is drawn there, above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # not setStream: it flushes the one before, which may be closed by now
        super().emit(record)


def _print_results(config: PipelineConfig, path: Path | None, overrides: list[str]) -> None:
    from dyprag.cli.suggestion import suggestion
    from dyprag.evaluation.report import outputs_cut, terminal_table

    catalogue = _catalogue(config)
    rows = catalogue.results()
    if rows:
        print(terminal_table(rows))
        if cut := outputs_cut(rows):
            print(f"\n{cut}")
        latest = catalogue.store.reports / "latest"
        print(f"\nReport:    {latest / 'report.html'}\nCatalogue: {catalogue.snapshot}")
        if command := suggestion(catalogue, rows[0]["run_id"], path, overrides):
            print(f"Ask it:    {command}")


def _catalogue(config: PipelineConfig, with_results: bool = False, writes: bool = False) -> Any:
    """The store's catalogue; where it can be written with the columns of results that an older version's lacks."""
    from dyprag.storage.artifacts import Store
    from dyprag.storage.catalogue import Catalogue

    store = Store(config.store, writes)
    catalogue = Catalogue(store)
    if with_results and catalogue.exists and store.is_writable():
        catalogue.prepare()
    return catalogue


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # never read as markup
    Console(width=None if sys.stdout.isatty() else 160).print(table)


class _errors:
    """Turn our own errors into one line on stderr and exit code 1."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and interrupted():  # which has been said
            raise typer.Exit(1) from None
        if isinstance(error, DypragError):
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None


def main() -> None:
    """The installed command."""
    # DuckDB's bindings report leaks while the interpreter shuts down, which is noise to a user. What is registered
    # first runs last: everything else has been written by then.
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
    run_and_listen(app)


if __name__ == "__main__":
    main()
