"""The augmentation stage with a real endpoint: its settings, a run of it, and what the catalogue then says."""

from typing import Any

from conftest import outcome
from llm_server import Behaviour, LLMServer

from dyprag.config import PipelineConfig
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue


def through(server: LLMServer, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with which the corpus is augmented through the endpoint, which behaves well and has no record yet."""
    server.behaviour = Behaviour()
    server.reset()
    return {
        **settings,
        "augment": {"backend": "api", "qa_pairs": 2, "rewrites": 1, "tries": 2,
                    "api": {"model": "m", "base_url": server.url, "retries": 2, "give_up_after": 20}},
    }  # fmt: skip


def augment(settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Ingest and augment. Returns the stage's summary."""
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest

    for name, value in changes.items():
        settings = {**settings, "augment": {**settings["augment"], "api": {**settings["augment"]["api"], name: value}}}
    config = PipelineConfig.model_validate(settings)
    ingest(config)
    return outcome(augment(config, return_state=True))[0]


def query(settings: dict[str, Any], sql: str) -> list[dict[str, Any]]:
    return Catalogue(Store(settings["store"])).query(sql)
