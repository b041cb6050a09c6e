"""Checks that find problems before a run does any work.

Imports no torch, and Prefect only if it must: the command line runs the checks before it starts a server, flows when
they begin.
"""

from dyprag.augmentation.prompt_files import VARIABLES, prompt_file
from dyprag.config import ApiSettings, PipelineConfig
from dyprag.corpora.reader import check_corpus
from dyprag.model.base import check_model
from dyprag.storage.artifacts import Store
from dyprag.tasks.planning.sources import given_checksum

WITHOUT_MODEL = ("ingest", "report")


def check_ahead(name: str, config: PipelineConfig) -> None:
    """Check everything that can be checked without a server: the flow's input, the store, and the settings.

    Raises:
        CorpusError: There is no document to read, or a data set's file is missing or malformed.
        StoreError: The store cannot be written.
        DypragError: See `check_settings`.
    """
    if name == "experiment":
        from dyprag.tasks.experiment import check_experiment

        check_experiment(config.resolved())
    elif name in ("ingest", "pipeline"):
        check_corpus(config.corpus.documents, config.corpus.questions)
    Store(config.store)
    check_settings(name, config)


def check_settings(name: str, config: PipelineConfig) -> None:
    """Check the settings that a flow or stage uses.

    Raises:
        ModelError: The base model does not exist or cannot be used.
        ConfigError: An endpoint has no key, a prompt file is faulty, or the given translator cannot be read.
    """
    remote = config.augment.backend == "api"
    if name not in WITHOUT_MODEL and not (name == "augment" and remote):
        check_model(config.model.name)
    judge = config.judge.api
    if name in ("evaluate", "experiment") and judge.model:
        _check_key(judge)
    if name in ("pipeline", "augment", "experiment") and remote:
        _check_key(config.augment.api)
        for prompt in VARIABLES:
            prompt_file(prompt, config.augment.prompts)
    if name != "report":
        given_checksum(config)


def _check_key(api: ApiSettings) -> None:
    if not api.key_block:  # only a Prefect server knows the block
        from dyprag.tasks.augment import endpoint_key

        endpoint_key(api)
