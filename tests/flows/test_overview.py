"""The artifacts that a run shows in the Prefect UI, read from a real server."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import TEXTS, write_jsonl

from dyprag.cli.main import read_config
from dyprag.config import PipelineConfig
from dyprag.flows.overview import retry_command


def shown() -> dict[str, Any]:
    """The latest artifact of each key."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return {found.key: found for found in client.read_latest_artifacts(limit=100)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preset": "paper", "lora": {"rank": 3}},
        {"corpus": {"documents": "a folder/it's.jsonl", "questions": "true"}, "augment": {"qa_pairs": 2}},
        {"evaluate": {"methods": ["rag", "prag"], "most_questions": {"rag": 3}}, "model": {"dtype": "float32"}},
        {"augment": {"backend": "api", "api": {"model": "m", "extra_body": {"top_k": 5}, "max_tokens": 7}}},
    ],
)
def test_the_retry_command_has_all_changed_settings_and_no_others(changes: dict[str, Any]):
    config = PipelineConfig.model_validate(changes)
    program, stage, *words = shlex.split(retry_command(config.resolved(), "embed"))
    assert (program, stage) == ("dyprag", "train-translator")
    assert set(words[::2]) <= {"--set"}
    assert read_config(None, words[1::2]).resolved() == config.resolved()
    assert len(words[1::2]) == ("documents" not in changes.get("corpus", {})) + sum(
        1 for values in changes.values() for value in (values.values() if isinstance(values, dict) else [values])
        for _ in (value if isinstance(value, dict) and "model" in value else [value])
    )  # fmt: skip


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_run_shows_progress_failures_losses_and_locations(tmp_path: Path, settings: dict[str, Any]):
    from prefect.client.orchestration import get_client

    from dyprag.flows.parametrize import parametrize
    from dyprag.flows.pipeline import pipeline

    rows = [{"id": "hollow", "text": " "}, *({"id": i, "text": text} for i, text in TEXTS.items())]
    settings["corpus"]["documents"] = write_jsonl(tmp_path / "docs.jsonl", rows)
    settings["evaluate"]["methods"] = ["dyprag"]
    config = PipelineConfig.model_validate(settings)
    state = pipeline(config, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "CompletedWithFailures")
    found = shown()
    page = found["pipeline"]
    assert page.flow_run_id == state.state_details.flow_run_id
    assert page.description.startswith("Ended after ")
    assert page.description.endswith("; 1 failed")
    assert "- **hollow**, ingest: document 'hollow': it has no text. Add text to it, or remove it." in page.data
    assert f"`{retry_command(config.resolved(), 'run')}`" in page.data
    lines = [line.split(" | ") for line in page.data.splitlines() if line.endswith(") |")]
    states = {line[0].strip("| "): (line[1], int(line[2]), int(line[5])) for line in lines}
    assert states == {
        "ingest": ("some failed", 3, 1), "augment": ("done", 3, 0), "parametrize": ("done", 3, 0),
        "embed": ("done", 3, 0), "train-translator": ("done", 1, 0), "evaluate": ("done", 1, 0),
    }  # fmt: skip
    linked = {re.search(r"\]\(\.\./\.\./runs/flow-run/(.*)\)", line[-1])[1] for line in lines}
    assert any(line.startswith("| dyprag | ") for line in page.data.splitlines())
    assert "/report.html`" in page.data
    assert found["parametrize-progress"].data == 100
    assert found["parametrize-progress"].description.startswith("parametrize: 3 of 3 documents in ")
    assert found["train-translator-progress"].description.startswith("train-translator: step 4 of 4, L_align")
    failures = found["ingest-failures"]
    assert '"document": "hollow"' in failures.data
    assert "it has no text" in failures.data
    assert f"`{retry_command(config.resolved(), 'ingest')}`" in failures.description
    for key in ("translator-loss", "adapter-losses"):
        assert found[key].data.startswith(f"![{key}](data:image/png;base64,iVBOR")
        assert len(found[key].data) < 200_000
    for key, kind in (("parametrize-made", "adapter"), ("train-translator-made", "translator")):
        places = [cell.strip("` ") for cell in found[key].data.split("|") if f" `{kind}/" in cell]
        assert places
        assert all((Path(settings["store"]) / place / "record.json").exists() for place in places)
    assert "--show lamp" in found["augment-made"].data
    report = next(word for word in found["evaluate-made"].data.split("`") if word.endswith("report.html"))
    assert Path(report).exists()

    with get_client(sync_client=True) as client:
        runs = [client.read_flow_run(run_id) for run_id in linked]
        assert all(run.parent_task_run_id for run in runs)
        assert {run.name for run in runs} == {
            f"{stage} docs.jsonl" for stage in ("ingest", "augment", "parametrize", "train translator", "evaluate")
        }
        assert client.read_flow_run(state.state_details.flow_run_id).name == "pipeline docs.jsonl"
        parametrize(config, return_state=True)
        again = shown()
    for key in ("parametrize-made", "adapter-losses", "parametrize-progress"):  # nothing new, nothing shown
        assert again[key].id == found[key].id
