"""Models with a merged adapter: equal to PEFT's merging, written atomically, with errors for unsuitable models."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, logits, make_tiny_model, random_adapters
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from dyprag.adapters.exchange.merged import save_merged
from dyprag.adapters.lora import Adapters, save_peft
from dyprag.errors import ExportError, ModelError
from dyprag.model.base import load_model, model_shape


def plain(folder: Path | str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype).eval())


def by_peft(model: str, adapter: Adapters, folder: Path, dtype: torch.dtype) -> torch.Tensor:
    folder.mkdir(exist_ok=True)
    save_peft(model_shape(model), adapter, folder, model)
    fresh = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    return logits(PeftModel.from_pretrained(fresh, str(folder)).merge_and_unload().eval())


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_merging_with_peft(family: str, tmp_path: Path):
    model = str(make_tiny_model(tmp_path / family, family))
    adapter = random_adapters(load_model(model, "float32", "cpu"))
    assert save_merged(model, adapter, tmp_path / "merged")
    ours = plain(tmp_path / "merged")
    torch.testing.assert_close(ours, by_peft(model, adapter, tmp_path / "peft", torch.float32), atol=1e-5, rtol=0)
    assert (ours - plain(model)).abs().max() > 1e-2  # the adapter has an effect
    text = "The Ostrel lamp<|im_end|>"
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")(text) == AutoTokenizer.from_pretrained(model)(text)


def test_sharded_checkpoints_and_other_dtypes_are_merged(tiny_model: str, tmp_path: Path):
    model = tmp_path / "sharded"
    whole = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    whole.save_pretrained(model, max_shard_size="40KB")
    assert len(list(model.glob("*.safetensors"))) > 2
    adapter = random_adapters(model_shape(str(model)))
    golden = {
        "float32": by_peft(str(model), adapter, tmp_path / "peft", torch.float32),
        "auto": by_peft(str(model), adapter, tmp_path / "peft", torch.bfloat16),
    }
    for dtype, theirs in golden.items():
        assert save_merged(str(model), adapter, tmp_path / dtype, dtype)
        made = AutoModelForCausalLM.from_pretrained(tmp_path / dtype, dtype="auto").eval()
        assert made.dtype == theirs.dtype == (torch.bfloat16 if dtype == "auto" else torch.float32)
        torch.testing.assert_close(logits(made), theirs, atol=1e-5 if dtype == "float32" else 0.02, rtol=0)
        index = json.loads((tmp_path / dtype / "model.safetensors.index.json").read_text())
        assert {path.name for path in (tmp_path / dtype).glob("*.safetensors")} == set(index["weight_map"].values())


def test_the_same_merge_is_skipped_and_other_content_is_never_overwritten(tiny_model: str, tmp_path: Path):
    adapter, folder = random_adapters(model_shape(tiny_model)), tmp_path / "merged"
    assert save_merged(tiny_model, adapter, folder)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert not save_merged(tiny_model, adapter, folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(ExportError, match=r"it is not empty\. Name a new or an empty folder"):
        save_merged(tiny_model, random_adapters(model_shape(tiny_model), seed=1), folder)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ExportError, match=r"it is a file|cannot be written"):
            save_merged(tiny_model, adapter, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "merged"]


def test_unknown_weights_are_an_error_and_leave_no_files(tiny_model: str, tmp_path: Path):
    adapter, name = random_adapters(model_shape(tiny_model)), "model.layers.1.mlp.up_proj.weight"
    tensors = load_file(Path(tiny_model) / "model.safetensors")
    cases = {
        "lack up_proj of layer 1": {key: t for key, t in tensors.items() if key != name},
        "no counterpart": {**tensors, name.replace("1", "2"): tensors[name].clone()},
        "quantized": {**tensors, name: tensors[name].to(torch.int8)},
        "shape": {**tensors, name: tensors[name][:-1].clone()},
    }
    for number, (reason, changed) in enumerate(cases.items()):
        model = shutil.copytree(tiny_model, tmp_path / f"model {number}")
        save_file(changed, model / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=reason):
            save_merged(str(model), adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    assert not list(tmp_path.glob(".writing-*"))
