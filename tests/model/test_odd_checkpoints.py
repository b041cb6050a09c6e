"""Checkpoints as they are found: with weights missing or renamed, an adapter beside them, an empty template."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import random_adapters
from safetensors.torch import load_file, save_file

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import save_peft
from dyprag.errors import ModelError
from dyprag.model.base import BaseModel, keeping_prefixes, load_model
from dyprag.model.prompts import question_prompt


@pytest.fixture
def folder(tiny_model: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "odd"))


def load(folder: Path) -> BaseModel:
    return load_model(str(folder), "float32", "cpu")


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def weights(folder: Path, changed: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(changed(load_file(file)), file, {"format": "pt"})


def without(name: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda all_: {key: tensor for key, tensor in all_.items() if name not in key}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (without("layers.1.mlp.up_proj"), "lack 1 weights, such as model.layers.1.mlp.up_proj.weight"),
        (without("lm_head"), "lack 1 weights, such as lm_head.weight"),
        (lambda all_: {f"module.{key}": x for key, x in all_.items()}, "of other names, such as module."),
        (lambda all_: {f"_orig_mod.{key}": x for key, x in all_.items()}, "of other names, such as _orig_mod."),
    ],
    ids=["one", "head", "module", "compiled"],
)
def test_a_checkpoint_without_all_weights_is_an_error_and_not_random(folder: Path, changed: object, named: str):
    weights(folder, changed)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=named):
        load(folder)


def test_weights_that_are_not_numbers_are_an_error_that_says_so(folder: Path):
    weights(folder, lambda all_: {key: x * torch.nan if "embed" in key else x for key, x in all_.items()})
    with pytest.raises(ModelError, match="NaN or infinite"):
        load(folder)


def test_an_adapter_in_the_models_folder_is_not_part_of_the_model(folder: Path, tiny_model: str, tmp_path: Path):
    base = load_model(tiny_model, "float32", "cpu")
    (tmp_path / "adapter").mkdir()
    save_peft(base, random_adapters(base), tmp_path / "adapter", tiny_model)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(tmp_path / "adapter" / name, folder / name)
    beside = load(folder)
    ids = torch.tensor([question_prompt(base.tokenizer, "Who built it?")])
    assert torch.equal(beside.model(input_ids=ids).logits, base.model(input_ids=ids).logits)


@pytest.mark.parametrize("template", ["hello", "{{ messages[0].role }}", "{% if false %}{{ messages }}{% endif %}x"])
def test_a_template_that_leaves_out_the_question_is_an_error(folder: Path, template: str):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match="leaves out the user's message"):
        load(folder)


def test_a_blank_template_is_none(folder: Path):
    (folder / "chat_template.jinja").write_text(" \n")
    base = load(folder)
    assert "Who built it?" in base.tokenizer.decode(question_prompt(base.tokenizer, "Who built it?"))


def test_a_configuration_that_asks_for_tuples_changes_nothing(folder: Path, tiny_model: str):
    change(folder / "config.json", return_dict=False)
    prompt = [question_prompt(load(folder).tokenizer, "Who built it?")]
    (answer,) = generate(load(folder), prompt, Sampling(4))
    assert answer.ids == generate(load_model(tiny_model, "float32", "cpu"), prompt, Sampling(4))[0].ids


@pytest.mark.parametrize("penalty", [2, "1.1", -1.0, 0])
def test_an_odd_repetition_penalty_does_not_stop_answers(folder: Path, penalty: object):
    change(folder / "generation_config.json", repetition_penalty=penalty)
    base = load(folder)
    assert len(generate(base, [question_prompt(base.tokenizer, "Who built it?")], Sampling(4))) == 1


def test_states_are_not_kept_if_positions_depend_on_the_length_of_the_text(folder: Path):
    """A question is answered alike, whatever was asked before."""
    scaling = {"rope_type": "longrope", "factor": 4.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
               "original_max_position_embeddings": 32, "rope_theta": 10000.0}  # fmt: skip
    change(folder / "config.json", rope_parameters=scaling, max_position_embeddings=128, head_dim=8)
    base = load(folder)
    assert not base.can_keep_prefixes
    assert keeping_prefixes(base).prefixes is None
    assert load_model(str(folder.parent / "odd"), "float32", "cpu").can_keep_prefixes is False
