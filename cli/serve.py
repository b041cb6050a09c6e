"""`dyprag serve`: the HTTP server."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from dyprag.cli.signals import end_like
from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError

OPEN = 3  # seconds that requests get to end when the server is told to
TOKEN = "DYPRAG_TOKEN"  # the environment's variable: on a command line everybody could read it
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    host: str,
    port: int,
    locations: Sequence[str],
    corpus: bool,
    rows: int | None,
    is_open: bool,
    config: PipelineConfig,
    origins: Sequence[str] = (),
) -> None:
    """Serve until interrupted.

    Args:
        locations: documents that are searched for requests that bring none, as `corpus.documents` takes them.
        corpus: search the corpus in the store instead.
        rows: answers written together; None: 16 on a CPU, 64 elsewhere.
        is_open: whether others than this machine may call without a token.
        origins: web pages that may call it from a browser.

    Raises:
        ConfigError: an address for others to call, without a token; or no translator for the model.
        CorpusError: a location that does not exist, or locations where no document can be read.
        StoreError: there is no corpus in the store.
    """
    token = os.environ.get(TOKEN, "")
    if host not in LOOPBACK and not token and not is_open:
        raise ConfigError(
            f"--host {host}", "others could reach it, and it has no token",
            f"Set the environment's {TOKEN}, or say --open if anybody may use it.",
        )  # fmt: skip
    import uvicorn

    from dyprag.cli.documents import given_documents
    from dyprag.serving.app import Limits, create_app
    from dyprag.serving.assistant import load

    found: Any = _stored(config) if corpus else given_documents(locations)
    assistant = load(config=config)
    limits = Limits(rows=rows or (16 if assistant.base.device.type == "cpu" else 64))
    hosts = [*LOOPBACK, "[::1]"] if host in LOOPBACK else ["*"]
    app = create_app(assistant, found, limits, token, hosts, origins)
    print(f"Serving {assistant.name}: http://{host if ':' not in host else f'[{host}]'}:{port}", file=sys.stderr)
    settings = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=OPEN)
    server = uvicorn.Server(settings)

    def stop() -> None:
        server.should_exit = True

    end_like(f"Stopping. Answers that are being written get {OPEN} seconds.", OPEN + 1.5, stop)
    server.run()
    if not server.started:
        raise SystemExit(3)  # uvicorn has said why


def _stored(config: PipelineConfig) -> Any:
    """A retriever over the store's corpus, and how many documents it has."""
    from dyprag.flows.stage import corpus_of
    from dyprag.storage.artifacts import Store
    from dyprag.tasks.evaluate import passages_of

    key, corpus = corpus_of(config.resolved(), Store(config.store))
    return passages_of(config.store, key, corpus, ""), len(corpus.documents)
