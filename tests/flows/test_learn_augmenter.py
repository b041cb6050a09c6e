"""Learning a question writer: the flow on a Prefect server with a tiny model, and augmentation with the result."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_tiny_model, outcome, write_jsonl

from dyprag.adapters.lora import initial_adapters, load_peft, save_peft
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.errors import ConfigError, CorpusError
from dyprag.model.base import BaseModel, load_model
from dyprag.storage.artifacts import Store
from dyprag.tasks.augment import augmenter, dismiss_augmenters
from dyprag.tasks.planning.keys import product_key, product_material
from dyprag.tasks.planning.sources import model_material, writer_checksum

WRITER = {"steps": 3, "documents": 2, "rank": 2, "alpha": 4, "first_layer": 0, "least_questions": 1}


@pytest.fixture
def people(tmp_path: Path) -> Path:
    folder = tmp_path / "people"
    folder.mkdir()
    write_jsonl(folder / "lamps.jsonl", [
        {"id": f"lamp-{n}", "title": "",
         "text": f"Lamp {n} was built in {1900 + n} by Greta Olmsted. {'It shines. ' * 10}",
         "questions": [{"question": f"Who built lamp {n}?", "answers": ["Greta Olmsted"], "type": "extractive"}]}
        for n in range(8)
    ])  # fmt: skip
    return folder


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_writer_is_learned_once_and_writes_for_the_pipeline(
    settings: dict[str, Any], people: Path, tmp_path: Path
) -> None:
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.learn_augmenter import learn_augmenter

    output = tmp_path / "writer"
    config = PipelineConfig.model_validate(
        {**settings, "writer": {**WRITER, "people": str(people), "output": str(output)}}
    )
    for made in (1, 0):
        (summary,) = outcome(learn_augmenter(config, return_state=True))
        assert (summary["stage"], summary["done"] - summary["cached"]) == ("learn-augmenter", made)
    (record,) = Store(settings["store"]).records()
    assert (record.kind, record.measures["steps"], record.measures["sets"]) == ("writer", 3, ["lamps"])
    writer = load_peft(output)
    assert (writer.rank, writer.scale) == (2, 2.0)
    assert any(tensor.any() for tensor in writer.b.values())
    card = (output / "README.md").read_text()
    assert "lamps" in card
    assert "learning_rate" in card
    assert str(tmp_path) not in card

    written = config.model_copy(update={"augment": config.augment.model_copy(update={"writer": str(output)})})
    outcome(ingest(written, return_state=True))
    (summary,) = outcome(augment(written, return_state=True))
    assert (summary["done"], summary["failed"]) == (3, 0)
    (summary,) = outcome(augment(config, return_state=True))
    assert summary["done"] - summary["cached"] == 3, "by rule they are other pairs"


def keys_of(config: PipelineConfig) -> dict[str, str]:
    document, config = Document("d", "The mill was built in 1764."), config.resolved()
    writer, model = writer_checksum(config), model_material(config)
    return {
        product: product_key(product, document, product_material(product, config.augment, model, writer))
        for product in ("rewrites", "qa_pairs")
    }  # fmt: skip


def test_the_writers_content_is_part_of_the_pairs_key_alone(base: BaseModel, tmp_path: Path):
    def config(writer: Path | None, backend: str = "local") -> PipelineConfig:
        given = {"writer": str(writer) if writer else None, "backend": backend, "api": {"model": "m"}}
        return PipelineConfig.model_validate({"augment": given})

    (folder := tmp_path / "writer").mkdir()
    save_peft(base, initial_adapters(base, 2, 4, 0).to(torch.bfloat16), folder, "tiny")
    written, rules = keys_of(config(folder)), keys_of(config(None))
    assert written["rewrites"] == rules["rewrites"]
    assert written["qa_pairs"] != rules["qa_pairs"]
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert keys_of(config(copy)) == written
    settings = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 1}))
    assert keys_of(config(copy))["qa_pairs"] not in (written["qa_pairs"], rules["qa_pairs"])
    assert keys_of(config(folder, "api")) == keys_of(config(None, "api"))


def test_without_questions_or_a_folder_the_error_says_what_to_give(settings: dict[str, Any], tmp_path: Path):
    from dyprag.tasks.learn_augmenter import writer_lessons_of

    with pytest.raises(ConfigError, match=r"writer\.people"):
        writer_lessons_of(PipelineConfig.model_validate(settings))
    with pytest.raises(CorpusError, match="passage files"):
        writer_lessons_of(PipelineConfig.model_validate({**settings, "writer": {"people": str(tmp_path / "empty")}}))


def test_a_writer_that_does_not_fit_the_model_is_refused(settings: dict[str, Any], tmp_path: Path):
    other = load_model(str(make_tiny_model(tmp_path / "wide", hidden=48)), "float32", "cpu")
    (tmp_path / "writer").mkdir()
    save_peft(other, initial_adapters(other, 2, 4, 0).to(torch.bfloat16), tmp_path / "writer", "wide")
    config = PipelineConfig.model_validate(
        {**settings, "augment": {**settings["augment"], "writer": str(tmp_path / "writer")}}
    )
    with pytest.raises(ConfigError, match="other sizes"):
        augmenter(config.resolved())
    dismiss_augmenters()
    missing = PipelineConfig.model_validate({**settings, "augment": {"writer": str(tmp_path / "nowhere")}}).resolved()
    with pytest.raises(ConfigError, match=r"augment\.writer"):
        writer_checksum(missing)
