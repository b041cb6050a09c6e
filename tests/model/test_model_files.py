"""A checkpoint's files: only those that are loaded are merged, downloaded and part of the fingerprint."""

import json
import os
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import logits, random_adapters
from odd_models import change_weights, in_shards, odd_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from dyprag.adapters.exchange.merged import save_merged
from dyprag.errors import ModelError
from dyprag.model import files as model_files
from dyprag.model.base import load_model, model_shape
from dyprag.model.files import model_fingerprint, weight_files

UP = "model.layers.0.mlp.up_proj.weight"


def stray(folder: Path, name: str, **tensors: torch.Tensor) -> None:
    save_file(tensors or {UP: torch.ones(3, 3)}, folder / name)


def single_with_strays(folder: Path) -> None:
    """Add shards of an earlier save, and the same weights in another format."""
    stray(folder, "model-00001-of-00002.safetensors")
    stray(folder, "consolidated.safetensors", **{"layers.0.feed_forward.w1.weight": torch.ones(3, 3)})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {UP: "model-00001-of-00002.safetensors"}})
    )


def shards_with_strays(folder: Path) -> None:
    """Add one shard of an earlier save, an adapter, and a duplicate weight."""
    in_shards(folder)
    stray(folder, "model-00003-of-00004.safetensors")
    stray(folder, "adapter_model.safetensors")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    other = next(name for name in {*index.values()} if name != index[UP])
    weights = load_file(folder / other)
    save_file({**weights, UP: torch.zeros(64, 32)}, folder / other)


def shards_without_metadata(folder: Path) -> None:
    """Write an index as scripts do that look at the files only."""
    in_shards(folder, metadata=False)


def half_without_format(folder: Path) -> None:
    """Write weights without metadata."""
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors")


def untied(folder: Path) -> None:
    """Write an output head next to tied embeddings, as some fine-tuning scripts do."""
    change_weights(
        folder / "model.safetensors", lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()})
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))


def tied(folder: Path) -> None:
    """Write tied embeddings without the output head."""
    change_weights(folder / "model.safetensors", lambda w: w.pop("lm_head.weight", None))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))


@pytest.mark.parametrize(
    "change",
    [single_with_strays, shards_with_strays, shards_without_metadata, half_without_format, untied, tied],
    ids=lambda change: change.__name__,
)
def test_loaded_weights_are_merged_and_other_files_are_ignored(tiny_model: str, tmp_path: Path, change: Any):
    folder = odd_model(tiny_model, tmp_path / "odd")
    change(folder)
    loaded = load_model(str(folder), "float32", "cpu")
    adapter = random_adapters(model_shape(str(folder)))
    assert save_merged(str(folder), adapter, tmp_path / "merged")
    named = {path.name for path in weight_files(folder)}
    assert {path.name for path in (tmp_path / "merged").glob("*.safetensors")} == named
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    a, b = adapter.a["up_proj"][0, 0], adapter.b["up_proj"][0, 0]
    torch.testing.assert_close(
        merged.model.layers[0].mlp.up_proj.weight,
        loaded.model.model.layers[0].mlp.up_proj.weight + adapter.scale * b @ a,
    )
    assert not torch.equal(logits(merged), logits(loaded.model))


@pytest.mark.parametrize("shards", [False, True])
def test_the_weight_files_are_those_that_transformers_loads(tiny_model: str, tmp_path: Path, shards: bool):
    from transformers.modeling_utils import _get_resolved_checkpoint_files

    folder = odd_model(tiny_model, tmp_path / "odd")
    (shards_with_strays if shards else single_with_strays)(folder)
    theirs, _ = _get_resolved_checkpoint_files(
        pretrained_model_name_or_path=str(folder), variant=None, gguf_file=None, use_safetensors=True,
        user_agent=None, is_remote_code=False, download_kwargs={},
    )  # fmt: skip
    assert [str(path) for path in weight_files(folder)] == sorted(theirs)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"weight_map": {UP: "model-00009-of-00009.safetensors"}}, "names model-00009-of-00009.safetensors, which is"),
        ({"weight_map": {UP: "../other/model.safetensors"}}, "names a file outside of its folder"),
        ({"weight_map": {}}, "has neither model.safetensors nor"),
        ({"metadata": {}}, "has neither model.safetensors nor"),
        (["x"], "has neither model.safetensors nor"),
    ],
    ids=["missing", "outside", "empty", "no map", "a list"],
)
def test_an_invalid_index_raises_one_clear_error(tiny_model: str, tmp_path: Path, index: Any, reason: str):
    folder = odd_model(tiny_model, tmp_path / "odd")
    shutil.copytree(tiny_model, tmp_path / "other")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=reason):
        load_model(str(folder), "float32", "cpu")


@pytest.mark.parametrize("place", ["snapshots/v1", "models--a--b/snapshots/0123456789abcdef0123456789abcdef01234567"])
def test_a_changed_weight_changes_the_fingerprint_whatever_the_parent_folders_name(
    tiny_model: str, tmp_path: Path, place: str
):
    found = []
    for number in range(2):
        folder = odd_model(tiny_model, tmp_path / str(number) / place)
        if number:
            change_weights(folder / "model.safetensors", lambda weights: weights["model.norm.weight"].add_(1))
        found.append(model_fingerprint(str(folder)))
    assert found[0] != found[1]
    assert found[0].startswith(Path(place).name)


def test_weights_that_change_during_a_process_are_reloaded_and_fingerprinted_again(tiny_model: str, tmp_path: Path):
    folder = odd_model(tiny_model, tmp_path / "odd")
    before = load_model(str(folder), "float32", "cpu")
    change_weights(folder / "model.safetensors", lambda weights: weights["model.norm.weight"].add_(1))
    after = load_model(str(folder), "float32", "cpu")
    assert before.fingerprint != after.fingerprint == model_fingerprint(str(folder))
    assert not torch.equal(logits(before.model), logits(after.model))


def test_a_snapshot_in_the_hubs_cache_is_identified_by_its_commit(tiny_model: str, tmp_path: Path):
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    folder = tmp_path / "models--a--b" / "snapshots" / ("0123456789" * 4)
    folder.mkdir(parents=True)
    for path in Path(tiny_model).iterdir():
        shutil.copy(path, blobs / path.name)
        (folder / path.name).symlink_to(os.path.relpath(blobs / path.name, folder))
    assert model_fingerprint(str(folder)).endswith("-0123456789012345")
    assert load_model(str(folder), "float32", "cpu").fingerprint == model_fingerprint(str(folder))


def test_only_the_loaded_files_of_a_hub_model_are_downloaded(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = odd_model(tiny_model, tmp_path / "source")
    shards_with_strays(source)
    stray(source, "consolidated.safetensors")
    (source / "original").mkdir()
    stray(source / "original", "model.safetensors")
    (source / "original" / "params.json").write_text("{}")
    target = tmp_path / "models--a--b" / "snapshots" / "abc"

    def snapshot_download(name: str, allow_patterns: list[str], ignore_patterns: Any = ()) -> str:
        for path in source.rglob("*.*"):
            name = str(path.relative_to(source))
            kept = any(fnmatch(name, p) for p in allow_patterns) and not any(fnmatch(name, p) for p in ignore_patterns)
            if kept:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / name)
        return str(target)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert model_files.model_folder("a/b") == target
    fetched = {str(path.relative_to(target)) for path in target.rglob("*.*")}
    assert {name for name in fetched if name.endswith(".safetensors")} == {p.name for p in weight_files(source)}
    assert "tokenizer.json" in fetched
    assert not any(name.startswith("original") for name in fetched)
