"""Problems that would stop a run are found before it does any work, however it is started."""

from pathlib import Path
from typing import Any

import pytest

from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError, CorpusError, ModelError
from dyprag.storage.artifacts import Store
from dyprag.tasks.checks import check_ahead, check_settings

KEY = "DYPRAG_TESTS_NO_KEY"  # that no environment has


@pytest.fixture
def keyless(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings for an endpoint without an API key."""
    settings["augment"] |= {"backend": "api", "api": {"model": "some", "key_env": KEY}}
    return settings


@pytest.mark.parametrize("name", ["pipeline", "augment", "experiment"])
def test_flows_that_augment_fail_without_an_api_key(keyless: dict[str, Any], name: str):
    with pytest.raises(ConfigError, match=KEY):
        check_settings(name, PipelineConfig.model_validate(keyless))


def test_stages_are_checked_only_for_what_they_use(keyless: dict[str, Any], tmp_path: Path):
    for name in ("ingest", "parametrize", "evaluate", "report"):
        check_settings(name, PipelineConfig.model_validate(keyless))
    keyless["model"]["name"] = str(tmp_path / "no model")
    check_settings("ingest", PipelineConfig.model_validate(keyless))
    with pytest.raises(ModelError, match="no model"):
        check_settings("parametrize", PipelineConfig.model_validate(keyless))
    keyless |= {"translator": {"official": str(tmp_path / "epoch_0.pt")}}
    with pytest.raises(ConfigError, match=r"epoch_0\.pt cannot be read"):
        check_settings("ingest", PipelineConfig.model_validate(keyless))


def test_the_command_line_finds_a_missing_corpus_before_a_server_is_started(settings: dict[str, Any], tmp_path: Path):
    settings["corpus"]["documents"] = str(tmp_path / "nowhere.jsonl")
    check_ahead("augment", PipelineConfig.model_validate(settings))  # which reads what was ingested
    with pytest.raises(CorpusError, match="nowhere"):
        check_ahead("pipeline", PipelineConfig.model_validate(settings))


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_pipeline_without_an_api_key_ends_before_it_reads_the_corpus(keyless: dict[str, Any]):
    from dyprag.flows.pipeline import pipeline

    with pytest.raises(ConfigError, match=KEY):
        pipeline(PipelineConfig.model_validate(keyless))
    assert list(Store(keyless["store"]).records()) == []
