"""Documents' trainings that start from what a translator makes of them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import outcome

from dyprag.adapters.lora import load_peft
from dyprag.config import PipelineConfig
from dyprag.model.base import BaseModel
from dyprag.storage.artifacts import Store
from dyprag.translators.protocol import load_translator, save_translator


def config(settings: dict[str, Any], translator: Path, **parametrize: Any) -> PipelineConfig:
    given = {"start": "translated", "epochs": 1, "learning_rate": 1e-6, **parametrize}
    return PipelineConfig.model_validate(
        {**settings, "translator": {"learned": str(translator)}, "lora": {"dtype": "float32"}, "parametrize": given}
    )


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_adapters_begin_as_translated_and_are_made_again_for_another_translator(
    settings: dict[str, Any], folder: Path, base: BaseModel, tmp_path: Path
):
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize

    copy = shutil.copytree(folder, tmp_path / "translator")
    warm = config(settings, copy)
    outcome(ingest(warm, return_state=True))
    outcome(augment(warm, return_state=True))

    def made(config: PipelineConfig) -> int:
        (summary,) = outcome(parametrize(config, return_state=True))
        assert (summary["failed"], summary["done"] + summary["partial"]) == (0, 3)
        return summary["done"] + summary["partial"] - summary["cached"]

    assert made(warm) == 3
    translator = load_translator(copy, base)
    store = Store(settings["store"])
    records = [record for record in store.records() if record.kind == "adapter"]
    assert {record.document_id for record in records} == {"lamp", "bridge", "book"}
    from dyprag.tasks.workspace import Workspace

    for record in records:
        adapter = load_peft(store.open("adapter", record.key))
        passage = Workspace(warm.resolved()).document(record.document_id).passage
        with torch.no_grad():
            start = translator.translate(translator.read(base, [passage]))
        assert (adapter.rank, adapter.scale) == (start.rank, start.scale)
        for name, tensor in adapter.tensors().items():  # a few steps of 1e-6 on weights of some 1e-2
            torch.testing.assert_close(tensor, start.tensors()[name].float().cpu(), atol=2e-5, rtol=0)
    assert made(warm) == 0
    with torch.no_grad():
        translator.gains.mul_(2.0)
    save_translator(translator, copy)
    assert made(warm) == 3, "the folder has other weights now"
    assert made(config(settings, copy, start="random", learning_rate=1e-4)) == 3


def test_without_a_translator_the_setting_says_what_it_needs(settings: dict[str, Any]):
    with pytest.raises(ValueError, match=r"translator\.learned=packaged"):
        PipelineConfig.model_validate({**settings, "parametrize": {"start": "translated"}})
