"""Injection: equal to dense weights, with one adapter per row of a batch, and removed when the context ends."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, IDS, bare_model, dense_deltas, logits, make_tiny_model, random_adapters
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters, initial_adapters
from dyprag.model.base import PROJECTIONS, BaseModel, find_ffn, load_model


def test_each_row_of_a_batch_has_its_own_adapter(base: BaseModel):
    adapters = random_adapters(base, docs=3)
    with inject(base, adapters):
        together = logits(base.model)
    for row in range(3):
        with inject(base, adapters.select([row])):
            alone = logits(base.model, IDS[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)
    assert (together - logits(base.model)).abs().amax((1, 2)).min() > 1e-3


def test_rows_that_cannot_be_divided_evenly_are_an_error(base: BaseModel):
    with inject(base, random_adapters(base, docs=2)), pytest.raises(RuntimeError, match="multiply up"):
        logits(base.model)  # three rows: the tokens could be divided evenly, but not the rows
    with inject(base, random_adapters(base, docs=6)), pytest.raises(RuntimeError, match="multiply up"):
        logits(base.model)


def test_after_an_inner_context_the_outer_adapter_is_active_again(base: BaseModel):
    outer, inner = random_adapters(base, seed=1), random_adapters(base, seed=2)
    with inject(base, outer):
        wanted = logits(base.model)
        with inject(base, inner):
            assert not torch.equal(logits(base.model), wanted)
        assert torch.equal(logits(base.model), wanted)


def test_adapters_stored_elsewhere_are_moved_to_the_models_device(base: BaseModel):
    """The model's device stands in for an accelerator: it rejects tensors from other devices."""
    adapters = random_adapters(base)
    meta = replace(base, model=copy.deepcopy(base.model).to("meta"))
    meta = replace(meta, blocks=find_ffn(meta.model, "meta"))
    with inject(meta, adapters):
        assert logits(meta.model, IDS.to("meta")).device.type == "meta"


def test_one_adapter_serves_all_rows(base: BaseModel):
    adapter = random_adapters(base)
    with inject(base, adapter):
        shared = logits(base.model)
    with inject(base, adapter.select([0, 0, 0])):
        torch.testing.assert_close(logits(base.model), shared, atol=1e-5, rtol=0)


@given(
    layers=st.integers(1, 3), hidden=st.integers(1, 24), intermediate=st.integers(1, 40), rank=st.integers(1, 5),
    docs=st.integers(1, 3), rows=st.integers(1, 2), tokens=st.integers(1, 12),
)  # fmt: skip
@settings(max_examples=25)
def test_injection_equals_dense_weights_for_any_shape(
    layers: int, hidden: int, intermediate: int, rank: int, docs: int, rows: int, tokens: int
):
    """Holds for any layer count, module widths, rank, number of adapters, rows per adapter, and length."""
    base = bare_model(layers, hidden, intermediate)
    adapters = random_adapters(base, docs, rank)
    ids = torch.randint(0, 128, (docs * rows, tokens), generator=torch.Generator().manual_seed(1))
    with inject(base, adapters):
        ours = logits(base.model, ids)
    for doc in range(docs):
        dense = bare_model(layers, hidden, intermediate).model
        for projection in PROJECTIONS:
            for layer, delta in enumerate(dense_deltas(adapters, projection)[doc]):
                dense.get_submodule(f"model.layers.{layer}.mlp.{projection}").weight.add_(delta)
        of_doc = slice(doc * rows, (doc + 1) * rows)
        torch.testing.assert_close(ours[of_doc], logits(dense, ids[of_doc]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_those_of_peft(family: str, tmp_path):
    """Gradients of a loss on all logits, in every A and B, including those of lower layers."""
    folder = str(make_tiny_model(tmp_path / family, family, layers=3))
    base = load_model(folder, "float32", "cpu")
    adapters = random_adapters(base)
    weights = torch.randn(IDS.shape[0], IDS.shape[1], len(base.tokenizer), generator=torch.Generator().manual_seed(2))
    config = LoraConfig(r=2, lora_alpha=32, target_modules=list(PROJECTIONS))
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config).eval()
    modules = {
        (p, layer): theirs.get_submodule(f"base_model.model.model.layers.{layer}.mlp.{p}")
        for p in PROJECTIONS for layer in range(3)
    }  # fmt: skip
    for (projection, layer), module in modules.items():
        module.lora_A.default.weight.data = adapters.a[projection][0, layer].clone()
        module.lora_B.default.weight.data = adapters.b[projection][0, layer].clone()
    (theirs(input_ids=IDS).logits * weights).sum().backward()
    adapters.require_gradients()
    with inject(base, adapters):
        (base.model(input_ids=IDS).logits * weights).sum().backward()
    for (projection, layer), module in modules.items():
        for half, weight in ((adapters.a, module.lora_A.default.weight), (adapters.b, module.lora_B.default.weight)):
            assert weight.grad.abs().max() > 1e-3
            scale = weight.grad.abs().max().item()
            torch.testing.assert_close(half[projection].grad[0, layer], weight.grad, atol=1e-5 * scale, rtol=1e-4)


def test_after_the_context_the_model_is_unchanged(base: BaseModel):
    before = logits(base.model)
    with inject(base, random_adapters(base)):
        assert not torch.equal(logits(base.model), before)
    assert torch.equal(logits(base.model), before)
    with pytest.raises(RuntimeError, match="inside"), inject(base, random_adapters(base)):
        raise RuntimeError("inside")
    assert torch.equal(logits(base.model), before)


def test_a_mismatched_adapter_leaves_the_model_unchanged(base: BaseModel):
    before, good = logits(base.model), random_adapters(base)
    short = Adapters({p: t[:, :1] for p, t in good.a.items()}, {p: t[:, :1] for p, t in good.b.items()}, good.scale)
    with pytest.raises(ValueError, match="zip"), inject(base, short):
        pass
    assert torch.equal(logits(base.model), before)


def test_no_adapter_changes_nothing(base: BaseModel):
    before = logits(base.model)
    with inject(base, None):
        assert torch.equal(logits(base.model), before)
    with inject(base, initial_adapters(base, 2, 32, 0)):  # B is zero
        assert torch.equal(logits(base.model), before)
