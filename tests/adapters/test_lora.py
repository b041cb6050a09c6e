"""Adapters: PEFT gives the same results from their files, and merging follows the formulas."""

from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, dense_deltas, logits, make_tiny_model, random_adapters
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters, initial_adapters, load_peft, merge, save_peft, stack
from dyprag.errors import ArtifactError
from dyprag.model.base import PROJECTIONS, BaseModel, load_model


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_computes_the_same_from_the_saved_adapter(family: str, tmp_path: Path):
    folder = str(make_tiny_model(tmp_path / family, family))
    base = load_model(folder, "float32", "cpu")
    adapter = random_adapters(base)
    save_peft(base, adapter, tmp_path, folder)
    fresh = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain = logits(fresh)
    theirs = logits(PeftModel.from_pretrained(fresh, str(tmp_path)).eval())
    with inject(base, adapter):
        ours = logits(base.model)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert (ours - plain).abs().max() > 1e-2  # the adapter has an effect


def test_equal_adapters_are_found_and_those_of_equal_sums_are_told_apart(base: BaseModel):
    adapters = random_adapters(base, 3).select([0, 1, 0, 2, 1])
    assert adapters.firsts() == [0, 1, 0, 3, 1]
    zero = Adapters(adapters.a, {p: torch.zeros_like(t) for p, t in adapters.b.items()}, 1.0)
    assert zero.firsts() == [0, 1, 0, 3, 1], "their deltas are equal, their matrices are not"


def test_saved_adapters_are_loaded_unchanged(base: BaseModel, tmp_path: Path):
    adapter = random_adapters(base, rank=3)
    save_peft(base, adapter, tmp_path, "tiny")
    loaded = load_peft(tmp_path)
    assert loaded.scale == pytest.approx(adapter.scale)
    assert loaded.tensors().keys() == adapter.tensors().keys()
    assert all(torch.equal(tensor, adapter.tensors()[name]) for name, tensor in loaded.tensors().items())


def test_a_bfloat16_adapter_takes_half_the_bytes_and_loads_in_peft(base: BaseModel, tiny_model: str, tmp_path: Path):
    adapter = random_adapters(base)
    sizes = []
    for dtype in (torch.float32, torch.bfloat16):
        save_peft(base, adapter.to(dtype), tmp_path, "tiny")
        sizes.append((tmp_path / "adapter_model.safetensors").stat().st_size)
    header = 8 + int.from_bytes((tmp_path / "adapter_model.safetensors").read_bytes()[:8], "little")
    assert sizes[1] - header == pytest.approx((sizes[0] - header) / 2, abs=100)
    loaded = load_peft(tmp_path)
    for name, tensor in loaded.tensors().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, adapter.tensors()[name], atol=0, rtol=2**-8)  # bfloat16 keeps 8 bits
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    theirs = logits(PeftModel.from_pretrained(fresh, str(tmp_path)).eval())
    with inject(base, loaded):
        torch.testing.assert_close(logits(base.model), theirs, atol=1e-5, rtol=0)


def test_layers_are_loaded_in_the_order_of_their_numbers(tmp_path: Path):
    base = load_model(str(make_tiny_model(tmp_path / "deep", layers=12, hidden=16)), "float32", "cpu")
    adapter = random_adapters(base)
    save_peft(base, adapter, tmp_path, "deep")
    assert torch.equal(load_peft(tmp_path).a["up_proj"], adapter.a["up_proj"])  # 10 after 9, not after 1


def test_an_adapter_that_peft_made_is_loaded(base: BaseModel, tiny_model: str, tmp_path: Path):
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=list(PROJECTIONS), init_lora_weights=False)
    theirs = get_peft_model(fresh, config).eval()
    theirs.save_pretrained(str(tmp_path))
    with inject(base, load_peft(tmp_path)):
        torch.testing.assert_close(logits(base.model), logits(theirs), atol=1e-5, rtol=0)


@given(count=st.integers(1, 4), rank=st.integers(1, 4), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=15)
def test_merging_adds_the_dense_deltas(base: BaseModel, count: int, rank: int, seed: int, data: st.DataObject):
    adapters = random_adapters(base, count, rank, seed)
    scores = data.draw(st.lists(st.floats(0, 5), min_size=count, max_size=count))
    exponentials = [2.718281828459045**score for score in scores]
    shares = {
        "sum": [1.0] * count,
        "mean": [1 / count] * count,
        "weighted": [value / sum(exponentials) for value in exponentials],
    }
    for how, weights in shares.items():
        merged = merge(adapters, how, scores)
        assert (merged.docs, merged.rank) == (1, count * rank)
        for projection in PROJECTIONS:
            dense = dense_deltas(adapters, projection)
            wanted = sum(weight * dense[doc] for doc, weight in enumerate(weights))
            torch.testing.assert_close(dense_deltas(merged, projection)[0], wanted, atol=1e-5, rtol=1e-4)


@given(count=st.integers(1, 4), rank=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_merging_matrices_takes_the_mean_of_each(base: BaseModel, count: int, rank: int, seed: int):
    adapters = random_adapters(base, count, rank, seed)
    merged = merge(adapters, "matrices")
    assert (merged.docs, merged.rank, merged.scale) == (1, rank, adapters.scale)
    for name, tensor in merged.tensors().items():
        parts = adapters.tensors()[name]
        torch.testing.assert_close(tensor[0], sum(parts[doc] for doc in range(count)) / count)


def test_the_logits_of_a_sum_are_those_of_the_dense_weights(base: BaseModel, tiny_model: str):
    adapters = random_adapters(base, docs=3)
    dense = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for projection in PROJECTIONS:
        for layer, delta in enumerate(dense_deltas(adapters, projection).sum(0)):
            module = dense.get_submodule(f"model.layers.{layer}.mlp.{projection}")
            module.weight.data += delta
    with inject(base, merge(adapters, "sum")):
        torch.testing.assert_close(logits(base.model), logits(dense), atol=1e-5, rtol=0)


def test_stacking_keeps_each_adapter_and_rejects_different_scales(base: BaseModel):
    first, second = random_adapters(base, seed=1), random_adapters(base, docs=2, seed=2)
    stacked = stack([first, second])
    assert stacked.docs == 3
    assert torch.equal(stacked.select([2]).b["up_proj"], second.select([1]).b["up_proj"])
    with pytest.raises(ValueError, match="scale"):
        stack([first, random_adapters(base, rank=3)])


def test_a_damaged_adapter_file_is_an_error_of_the_artifact(base: BaseModel, tmp_path: Path):
    save_peft(base, random_adapters(base), tmp_path, "tiny")
    file = tmp_path / "adapter_model.safetensors"
    whole = file.read_bytes()
    for size in (len(whole) - 10, len(whole) // 2, 4, 0):
        file.write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match="cannot be read"):
            load_peft(tmp_path)
    file.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_peft(tmp_path)


def test_an_adapter_of_other_modules_is_an_error_of_the_artifact(tiny_model: str, tmp_path: Path):
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    get_peft_model(fresh, LoraConfig(r=2, target_modules=["q_proj", "up_proj"])).save_pretrained(str(tmp_path))
    with pytest.raises(ArtifactError, match="q_proj"):
        load_peft(tmp_path)


def test_an_adapter_that_lacks_modules_is_an_error_of_the_artifact(base: BaseModel, tmp_path: Path):
    save_peft(base, random_adapters(base), tmp_path, "tiny")
    file = tmp_path / "adapter_model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(file).items() if "down_proj" not in name}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ArtifactError):
        load_peft(tmp_path)


def test_the_initial_adapter_has_the_distribution_of_peft(base: BaseModel, tiny_model: str):
    ours = initial_adapters(base, 64, 32, seed=5)
    config = LoraConfig(r=64, lora_alpha=32, target_modules=list(PROJECTIONS))
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32), config)
    for projection in PROJECTIONS:
        # kaiming_uniform_ with a = √5: bound = gain · √(3 / in) = √(2 / (1 + 5)) · √(3 / in) = 1 / √in
        fan_in = base.features(projection)[0]
        peft = theirs.get_submodule(f"base_model.model.model.layers.0.mlp.{projection}.lora_A.default").weight
        for drawn in (ours.a[projection], peft):
            assert drawn.abs().max() <= fan_in**-0.5
            assert drawn.abs().max() > 0.98 * fan_in**-0.5
            assert abs(drawn.mean()) < 0.05 * fan_in**-0.5
            assert drawn.std().item() == pytest.approx(fan_in**-0.5 / 3**0.5, rel=0.05)
        assert not ours.b[projection].any()
        assert ours.a[projection].dtype == torch.float32
    assert ours.scale == 32 / 64


def test_the_initial_adapter_follows_its_seed_and_is_the_same_for_all_documents(base: BaseModel):
    first, again, other = (initial_adapters(base, 2, 32, seed, docs=2) for seed in (1, 1, 2))
    for projection in PROJECTIONS:
        assert torch.equal(first.a[projection], again.a[projection])
        assert not torch.equal(first.a[projection], other.a[projection])
        assert torch.equal(first.a[projection][0], first.a[projection][1])
