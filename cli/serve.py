"""`dyprag serve`: the HTTP server."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dyprag.cli.options import ConfigOption, SetOption, of_store, read_config
from dyprag.cli.output import errors
from dyprag.cli.signals import end_like
from dyprag.errors import ConfigError

if TYPE_CHECKING:
    from dyprag.config import PipelineConfig

GRACE = 3  # seconds that running requests get when the server stops
TOKEN = "DYPRAG_TOKEN"  # an environment variable, because other users can read command lines
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on. Default: this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535)] = 8000,
    document: Annotated[
        list[str] | None,
        typer.Option("--document", "-d", metavar="FILE", help="Documents for requests that send none. Repeatable."),
    ] = None,
    corpus: Annotated[bool, typer.Option("--corpus", help="Search the corpus in the store instead.")] = False,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Requests answered at the same time.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Let other machines call without a token.")] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="URL",
            help="A web origin that may call the server from a browser (CORS), such as https://chat.example; '*' for "
            "any. Repeatable. Default: none.",
        ),
    ] = None,
    adapters: Annotated[
        Path | None,
        typer.Option(
            "--adapters",
            metavar="DIR",
            help="Folder of the adapters that clients make (POST /v1/adapters) and then ask as models; an export's "
            "folder works too. Default: a temporary one.",
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Serve OpenAI's chat completions API, with answers from documents in the request; `/` is a page to try it.

    If the environment variable `DYPRAG_TOKEN` is set, clients must send it as a bearer token.
    """
    with errors():
        if corpus and document:
            raise ConfigError("--corpus", "it cannot be combined with --document", "Use one of the two.")
        settings = read_config(config, set_)
        settings = of_store(settings) if corpus else settings
        serve_forever(host, port, document or [], corpus, rows, open_, settings, allow_origin or [], adapters)


def serve_forever(
    host: str,
    port: int,
    locations: Sequence[str],
    corpus: bool,
    rows: int | None,
    is_open: bool,
    config: "PipelineConfig",
    origins: Sequence[str] = (),
    adapters: Path | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        locations: files and folders that are searched for requests without documents, as in `corpus.documents`.
        corpus: search the corpus in the store instead.
        rows: requests answered at the same time; None: 16 on a CPU, 64 elsewhere.
        is_open: whether other machines may call without a token.
        origins: web origins that may call the server from a browser.
        adapters: folder of the adapters that can be asked as models; None: a temporary one.

    Raises:
        ConfigError: other machines could call without a token, or there is no translator for the model.
        CorpusError: a location does not exist, or no document can be read at any of them.
        StoreError: there is no corpus in the store.
    """
    token = _token(host, is_open)
    import uvicorn

    from dyprag.cli.given import given_documents
    from dyprag.serving.app import Limits, create_app
    from dyprag.serving.assistant import load
    from dyprag.serving.library import AdapterLibrary

    searched: Any = _stored(config) if corpus else given_documents(locations)
    assistant = load(config=config)
    limits = Limits(rows=rows or (16 if assistant.base.device.type == "cpu" else 64))
    hosts = [*LOOPBACK, "[::1]"] if host in LOOPBACK else ["*"]
    library = AdapterLibrary(assistant.base, assistant.name, adapters)
    app = create_app(assistant, searched, limits, token, hosts, origins, library)
    print(f"Serving {assistant.name}: http://{host if ':' not in host else f'[{host}]'}:{port}", file=sys.stderr)
    settings = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=GRACE)
    server = uvicorn.Server(settings)

    def stop() -> None:
        server.should_exit = True

    end_like(f"Stopping. Running requests have {GRACE} seconds to finish.", GRACE + 1.5, stop)
    server.run()
    if not server.started:
        raise SystemExit(3)  # uvicorn has logged the reason


def _token(host: str, is_open: bool) -> str:
    token = os.environ.get(TOKEN, "")
    if host not in LOOPBACK and not token and not is_open:
        raise ConfigError(
            f"--host {host}", "other machines could call the server without a token",
            f"Set the environment variable {TOKEN}, or pass --open to allow anyone.",
        )  # fmt: skip
    return token


def _stored(config: "PipelineConfig") -> Any:
    """A retriever over the store's corpus, and its number of documents."""
    from dyprag.tasks.workspace import Workspace

    workspace = Workspace(config)
    return workspace.passages, len(workspace.corpus.documents)
