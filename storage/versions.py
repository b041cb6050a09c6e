"""Versions of the libraries that a run's results depend on."""

from importlib import metadata


def versions() -> dict[str, str]:
    """Installed versions by library."""
    names = (
        "dyprag",
        "torch",
        "transformers",
        "peft",
        "prefect",
        "duckdb",
        "pyarrow",
        "rank-bm25",
        "tantivy",
        "openai",
    )
    return {name: metadata.version(name) for name in names}
