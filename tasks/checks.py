"""What would stop a run, found before a server is started for it. Nothing here imports Prefect before it has to."""

from dyprag.augmentation.prompt_files import VARIABLES, prompt_file
from dyprag.config import ApiSettings, PipelineConfig
from dyprag.corpora.reader import check_corpus
from dyprag.model.base import check_model
from dyprag.storage.artifacts import Store
from dyprag.tasks.planning.sources import given_checksum


def check_before_work(flow: str, config: PipelineConfig) -> None:
    """Check what a flow would read first: its documents, its store, its model, keys of endpoints, prompt files and a
    translator from elsewhere.

    Raises:
        DypragError: one of them cannot be used.
    """
    if flow == "experiment":
        from dyprag.tasks.experiment import check_experiment

        check_experiment(config.resolved())
    elif flow in ("ingest", "pipeline"):
        check_corpus(config.corpus.documents, config.corpus.questions)
    Store(config.store)
    if flow not in ("ingest", "augment") or (flow == "augment" and config.augment.backend == "local"):
        check_model(config.model.name)
    if flow in ("evaluate", "experiment") and config.judge.api.model:
        _check_key(config.judge.api)
    if flow in ("pipeline", "augment", "experiment") and config.augment.backend == "api":
        _check_key(config.augment.api)
        for prompt in VARIABLES:
            prompt_file(prompt, config.augment.prompts)
    given_checksum(config)


def _check_key(api: ApiSettings) -> None:
    """Only a key in the environment can be looked for here; a Prefect block needs the server."""
    if not api.key_block:
        from dyprag.tasks.augment import endpoint_key

        endpoint_key(api)
