"""Translators on disk: exact or smaller files, damaged ones, and trainings that start from them."""

import json
from pathlib import Path

import pytest
import torch
from attentive import SMALL, adapters_of, distance, make, prompts
from conftest import TEXTS, make_tiny_model

from dyprag.config import LearnSettings
from dyprag.errors import ArtifactError, ConfigError
from dyprag.model.base import BaseModel, load_model
from dyprag.translators.attentive import AttentiveTranslator
from dyprag.translators.hypernetwork import Translator
from dyprag.translators.protocol import first_translator, fresh_translator, load_translator, save_translator

FILES = ("translator.safetensors", "translator.json")


def test_a_float32_translator_is_stored_exactly(base: BaseModel, tmp_path: Path):
    translator = make(base)
    save_translator(translator, tmp_path)
    loaded = load_translator(tmp_path, base)
    assert isinstance(loaded, AttentiveTranslator)
    assert loaded.shape == translator.shape
    before, after = (adapters_of(t, list(TEXTS.values())).tensors() for t in (translator, loaded))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_bfloat16_translator_takes_half_the_bytes_and_gives_similar_adapters(base: BaseModel, tmp_path: Path):
    translator, sizes = make(base), []
    for dtype in (torch.float32, torch.bfloat16):
        save_translator(translator, tmp_path, dtype)
        sizes.append((tmp_path / "translator.safetensors").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    before, after = (adapters_of(t, list(TEXTS.values())) for t in (translator, load_translator(tmp_path, base)))
    assert 0 < distance(before, after) < 0.05
    assert all(tensor.dtype == torch.float32 for tensor in after.tensors().values())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_an_error_that_names_the_folder(base: BaseModel, tmp_path: Path, name: str, share: float):
    save_translator(make(base), tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ArtifactError) as caught:
        load_translator(tmp_path, base)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_an_error_that_names_the_folder(base: BaseModel, tmp_path: Path, name: str):
    save_translator(make(base), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError) as caught:
        load_translator(tmp_path, base)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("changes", [{"width": 8}, {"blocks": 2}, {"rank": 4}, {"first_layer": 0}])
def test_files_that_do_not_fit_together_are_an_error_that_names_the_folder(
    base: BaseModel, tmp_path: Path, changes: dict[str, int]
):
    save_translator(make(base, **changes), tmp_path)
    shape = (tmp_path / "translator.json").read_text()
    save_translator(make(base), tmp_path)
    (tmp_path / "translator.json").write_text(shape)
    with pytest.raises(ArtifactError) as caught:
        load_translator(tmp_path, base)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(("layers", "hidden"), [(3, 32), (2, 48)])
def test_another_models_translator_is_an_error_that_names_the_folder(
    base: BaseModel, tmp_path: Path, layers: int, hidden: int
):
    save_translator(make(base), tmp_path)
    folder = make_tiny_model(tmp_path / "other", layers=layers, hidden=hidden)
    with pytest.raises(ArtifactError) as caught:
        load_translator(tmp_path, load_model(str(folder), "float32", "cpu"))
    assert str(tmp_path) in str(caught.value)
    assert f"{layers} of {hidden}" in str(caught.value)


def test_a_folder_without_a_kind_is_read_as_a_hypernetwork(base: BaseModel, tmp_path: Path):
    translator = fresh_translator(base, LearnSettings(kind="hypernetwork", width=4, rank=2), [])
    save_translator(translator, tmp_path)
    told = json.loads((tmp_path / "translator.json").read_text())
    assert told.pop("kind") == "hypernetwork"
    (tmp_path / "translator.json").write_text(json.dumps(told))
    loaded = load_translator(tmp_path, base)
    assert isinstance(loaded, Translator)
    readings = loaded.read(base, list(TEXTS.values()))
    before, after = translator.translate(readings).tensors(), loaded.translate(readings).tensors()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_can_start_from_a_translators_weights(base: BaseModel, tmp_path: Path):
    before = make(base)
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.add_(0.5)
    save_translator(before, tmp_path)
    begun = first_translator(base, LearnSettings(**SMALL), prompts(base)[:1], tmp_path)
    for name, tensor in before.state_dict().items():
        assert torch.equal(begun.state_dict()[name], tensor)
    assert all(parameter.requires_grad for parameter in begun.parameters())


@pytest.mark.parametrize(
    "changes", [{"width": 8}, {"rank": 1}, {"alpha": 4}, {"spread": False}, {"kind": "hypernetwork"}]
)
def test_starting_from_a_translator_of_other_sizes_is_an_error(
    base: BaseModel, tmp_path: Path, changes: dict[str, object]
):
    save_translator(make(base), tmp_path)
    with pytest.raises(ConfigError, match=r"learn\.start"):
        first_translator(base, LearnSettings(**{**SMALL, **changes}), prompts(base), tmp_path)
