"""Folders of exported adapters: names identify content, writers do not disturb each other, and vLLM can load them."""

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from conftest import logits, random_adapters
from exported import contents, of_peft
from safetensors import safe_open

from dyprag.adapters.exchange.export import (
    Placed,
    copy_adapter,
    place,
    serve_command,
    serve_script,
    slug,
    write_adapter,
)
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.model.base import PROJECTIONS, BaseModel, model_shape


def test_an_embedded_model_is_named_by_its_hugging_face_id_if_unchanged(monkeypatch: pytest.MonkeyPatch):
    from dyprag.model import files as model_files

    monkeypatch.setattr(model_files, "model_fingerprint", lambda name: model_files.EMBEDDED[name].fingerprint)
    assert model_files.public_name("smollm2-135m") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    monkeypatch.setattr(model_files, "model_fingerprint", lambda name: "smollm2-135m-another")
    monkeypatch.setattr(model_files, "model_folder", lambda name: Path("/converted"))
    assert model_files.public_name("smollm2-135m") == "/converted"
    assert model_files.public_name("Qwen/Qwen2.5-1.5B-Instruct") == "Qwen/Qwen2.5-1.5B-Instruct"


def test_different_weights_get_different_names(base: BaseModel, tmp_path: Path):
    names = {
        place(tmp_path, "One", lambda folder, a=adapter: write_adapter(base, a, folder, "tiny")).name
        for adapter in (
            random_adapters(base, seed=0), random_adapters(base, seed=1),
            Adapters(random_adapters(base).a, random_adapters(base).b, 1.0),
        )
    }  # fmt: skip
    assert len(names) == 3
    assert all(name.startswith("one-") for name in names)


def test_writers_of_the_same_adapter_at_the_same_time_write_it_once(base: BaseModel, tmp_path: Path):
    adapter, ready = random_adapters(base), threading.Barrier(4)

    def written(_: int) -> Placed:
        def fill(folder: Path) -> None:
            write_adapter(base, adapter, folder, "tiny")
            ready.wait()

        return place(tmp_path, "One", fill)

    with ThreadPoolExecutor(4) as pool:
        placed = list(pool.map(written, range(4)))
    assert sorted(each.made for each in placed) == [False, False, False, True]
    assert [path.name for path in tmp_path.iterdir()] == [placed[0].name]


def test_an_adapter_that_another_writer_finishes_meanwhile_is_not_taken_for_a_damaged_one(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The other writer comes right after the first look at the folder, however `place` looks."""
    adapter, begun, others = random_adapters(base), list[str](), list[Placed]()

    def fill(folder: Path) -> None:
        write_adapter(base, adapter, folder, "tiny")

    def patch(look: str) -> None:
        real = getattr(Path, look)

        def looked(path: Path) -> bool:
            found = bool(real(path))
            if not begun and "one-" in str(path):
                begun.append(look)
                others.append(place(tmp_path, "One", fill))
            return found

        monkeypatch.setattr(Path, look, looked)

    patch("exists")
    patch("is_file")
    placed = place(tmp_path, "One", fill)
    assert [(other.name, other.made) for other in others] == [(placed.name, True)]
    assert not placed.made
    assert [path.name for path in tmp_path.iterdir()] == [placed.name]


# vLLM's rules, from its code at v0.22: vllm/lora/peft_helper.py (validate_legal, _validate_features),
# vllm/lora/lora_model.py (from_local_checkpoint), vllm/lora/utils.py (parse_fine_tuned_lora_name), vllm/config/lora.py.
@pytest.mark.parametrize("scale", [16, 0.3])
def test_exported_adapters_follow_vllm_s_rules(base: BaseModel, tmp_path: Path, tiny_model: str, scale: float):
    one = random_adapters(base)
    adapter = Adapters(one.a, one.b, scale)
    write_adapter(base, adapter, tmp_path, tiny_model)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert isinstance(config["r"], int)
    assert isinstance(config["lora_alpha"], int)  # PEFTHelper's fields; its scaling is lora_alpha / r, for all modules
    assert not config["use_rslora"]  # else it would be lora_alpha / sqrt(r)
    assert config["bias"] == "none"
    assert not config["modules_to_save"]
    assert not config["use_dora"]
    assert not config["rank_pattern"]  # vLLM does not read it: it supports one r and one alpha
    assert not config["alpha_pattern"]
    assert set(config["target_modules"]) == set(PROJECTIONS)  # vLLM packs gate and up itself
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    expected = {}
    for layer in range(base.layers):
        for projection in PROJECTIONS:
            fan_in, fan_out = base.features(projection)
            module = f"base_model.model.model.layers.{layer}.mlp.{projection}"
            expected[f"{module}.lora_A.weight"] = [config["r"], fan_in]
            expected[f"{module}.lora_B.weight"] = [fan_out, config["r"]]
    assert shapes == expected  # A [r, in] and B [out, r], no bias, nothing else
    with inject(base, adapter):  # the scale is unchanged, also for a fractional alpha
        torch.testing.assert_close(of_peft(tiny_model, tmp_path), logits(base.model), atol=1e-5, rtol=0)


def test_the_embedded_model_is_served_from_its_folder_by_its_public_name(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
):
    """vLLM loads the folder below the working directory, and finds no other name for it than the adapters have."""
    from dyprag.adapters.exchange import export

    monkeypatch.setattr(export, "public_name", lambda name: "SomeOrg/Model-1B")
    monkeypatch.setattr(export, "model_folder", lambda name: Path(tiny_model))
    index = export.Index("smollm2-135m", "print", adapters={"a": {"rank": 2}})
    export.write_index(tmp_path, index)
    vllm = tmp_path / "bin" / "vllm"
    vllm.parent.mkdir()
    vllm.write_text('#!/bin/sh\ncat "$2/config.json"; echo; echo "$2"\n')
    vllm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{vllm.parent}:/usr/bin:/bin")
    for _ in range(2):
        said = subprocess.run([tmp_path / "serve.sh"], capture_output=True, text=True, check=True, cwd="/").stdout
        assert said.splitlines()[-1] == "SomeOrg/Model-1B"
        assert json.loads(said.rpartition("}")[0] + "}") == json.loads((Path(tiny_model) / "config.json").read_text())


def test_a_rank_above_vllm_s_maximum_gives_no_command(base: BaseModel, tmp_path: Path):
    from dyprag.adapters.exchange.export import Index

    index = Index("model", "print", adapters={"a": {"rank": 512}})
    assert "--max-lora-rank 512" in serve_command(index)
    index.adapters["b"] = {"rank": 513}
    assert serve_command(index) == ""
    assert serve_script(index) == ""


def test_a_model_s_shape_names_the_same_modules_as_the_model(base: BaseModel, tiny_model: str, tmp_path: Path):
    adapter = random_adapters(base)
    for name, shape in (("whole", base), ("shape", model_shape(tiny_model))):
        (tmp_path / name).mkdir()
        write_adapter(shape, adapter, tmp_path / name, tiny_model)
    (tmp_path / "copy").mkdir()
    copy_adapter(tmp_path / "whole", tmp_path / "copy")
    assert [data for data, _ in contents(tmp_path / "shape").values()] == [
        data for data, _ in contents(tmp_path / "copy").values()
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [("Docs/Café No. 1.md#2", "docs-cafe-no-1-md-2"), ("灯台", "adapter"), ("a" * 99, "a" * 40), ("../x", "x")],
)
def test_slugs_are_safe_for_folders_and_command_lines(text: str, name: str):
    assert slug(text) == name
