"""The attentive translator: independent documents, agreement with PEFT, and sizes that fit the model."""

import itertools
from pathlib import Path

import pytest
import torch
from attentive import SMALL, adapters_of, distance, make, prompts
from conftest import TEXTS, logits
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM

from dyprag.adapters.injection import inject
from dyprag.adapters.lora import save_peft
from dyprag.config import LearnSettings
from dyprag.errors import ConfigError
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.translators.attentive import _distances
from dyprag.translators.protocol import fresh_translator
from dyprag.translators.readings import Reading, read_passages


def random_reading(length: int, seed: int, sources: int) -> Reading:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(sources, length, 32, generator=generator).bfloat16()
    return Reading(torch.randint(3, 300, (length,), generator=generator), states)


@pytest.mark.parametrize("sources", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_a_reading_equals_that_of_the_passage_alone(base: BaseModel, sources: tuple[int, ...]):
    texts = [*TEXTS.values(), "Lamp", "Tide Songs. " * 30]
    readings = read_passages(base, texts, sources)
    for text, reading in zip(texts, readings, strict=True):
        ids = base.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = base.model.model(input_ids=ids, output_hidden_states=True).hidden_states
        assert torch.equal(reading.ids, ids[0])
        assert reading.states.dtype == torch.bfloat16
        expected = torch.cat([states[source] for source in sources])
        torch.testing.assert_close(reading.states.float(), expected, atol=1e-5, rtol=2**-7)


@pytest.mark.parametrize(("first", "sources"), [(0, 1), (0, 2), (1, 1)])
@pytest.mark.parametrize("docs", [1, 3])
def test_adapters_have_lora_shapes_and_skip_the_first_layers(base: BaseModel, first: int, sources: int, docs: int):
    translator = make(base, first_layer=first, sources=sources)
    adapters = adapters_of(translator, list(TEXTS.values())[:docs])
    assert translator.first_layer == first
    assert (adapters.docs, adapters.rank, adapters.scale) == (docs, 2, 1.0)
    for projection in PROJECTIONS:
        fan_in, fan_out = base.features(projection)
        for half, shape in ((adapters.a, (2, fan_in)), (adapters.b, (fan_out, 2))):
            assert half[projection].shape == (docs, base.layers, *shape)
            assert half[projection].dtype == torch.float32
            assert not half[projection][:, :first].any()
            assert half[projection][:, first:].flatten(2).abs().amax(-1).min() > 0


@given(lengths=st.lists(st.integers(1, 40), min_size=2, max_size=4), copy_tokens=st.booleans(), data=st.data())
@settings(max_examples=10)
def test_a_documents_adapter_does_not_depend_on_other_documents(
    base: BaseModel, lengths: list[int], copy_tokens: bool, data: st.DataObject
):
    translator = make(base, first_layer=0, sources=2, copy_tokens=copy_tokens)
    readings = [random_reading(length, seed, 2) for seed, length in enumerate(lengths)]
    order = data.draw(st.permutations(range(len(lengths))))
    with torch.no_grad():
        together = translator.translate([readings[index] for index in order])
        for place, index in enumerate(order):
            for name, alone in translator.translate([readings[index]]).tensors().items():
                torch.testing.assert_close(together.tensors()[name][place], alone[0], atol=1e-5, rtol=1e-5)


def test_different_documents_give_different_adapters(base: BaseModel):
    adapters = adapters_of(make(base), list(TEXTS.values()))
    for other in (1, 2):
        for name, tensor in adapters.tensors().items():
            assert (tensor[0] - tensor[other]).norm() > 1e-2 * tensor[0].norm(), name


def test_a_changed_token_in_the_middle_changes_the_adapter(base: BaseModel):
    text = TEXTS["lamp"]
    translator = make(base)
    assert distance(adapters_of(translator, [text]), adapters_of(translator, [text.replace("1911", "1987")])) > 1e-3


@pytest.mark.parametrize("passage", [" ", "L", "<|im_end|>", "\ud800"])
def test_very_short_passages_give_an_adapter(base: BaseModel, passage: str):
    translator = make(base)
    adapters = adapters_of(translator, [passage, TEXTS["lamp"]])
    alone = adapters_of(translator, [passage])
    for name, tensor in adapters.tensors().items():
        assert tensor.isfinite().all()
        torch.testing.assert_close(tensor[:1], alone.tensors()[name], atol=1e-2, rtol=1e-2)  # bfloat16 readings


def test_the_first_of_several_tokens_is_masked(base: BaseModel):
    """It is an attention sink, far from all other tokens."""
    translator, reading = make(base), random_reading(9, 0, 1)
    changed = Reading(reading.ids.clone(), reading.states.clone())
    changed.ids[0], changed.states[:, 0] = 7, 50.0
    with torch.no_grad():
        assert distance(translator.translate([reading]), translator.translate([changed])) < 1e-6
        changed.states[:, 1] = 50.0
        assert distance(translator.translate([reading]), translator.translate([changed])) > 1e-3


@pytest.mark.parametrize("copy_tokens", [True, False])
def test_gates_are_ignored_without_copying(base: BaseModel, copy_tokens: bool):
    translator = make(base, copy_tokens=copy_tokens)
    before = adapters_of(translator, [TEXTS["lamp"]])
    with torch.no_grad():
        translator.gates.bias.add_(1)
        translator.point.weight.mul_(3)
    after = adapters_of(translator, [TEXTS["lamp"]])
    assert (distance(before, after) > 1e-3) == copy_tokens
    assert all(tensor.isfinite().all() and tensor[:, 1:].any() for tensor in after.tensors().values())


def test_a_copying_slot_writes_the_unembedding_of_the_token_after_its_target(base: BaseModel):
    """Of three tokens the second and third are looked at; the third follows the second, and nothing follows the third.
    So with values of its own at zero, what down_proj adds is along the third's unembedding alone."""
    translator = make(base)
    with torch.no_grad():
        translator.heads[3:].zero_()
        translator.point.weight.zero_()  # equal scores for all tokens
        reading = random_reading(3, 0, 1)
        added = translator.translate([reading]).b["down_proj"][0, 1]
    rows = base.model.lm_head.weight[reading.ids[2]] * base.model.model.norm.weight
    for slot in range(2):
        cosine = torch.cosine_similarity(added[:, slot], rows, dim=0)
        assert abs(cosine) == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_keys_are_orthogonal_to_the_mean_input_of_their_layer(base: BaseModel):
    """The means are computed from the layers' modules, over all tokens except the first of each prompt."""
    translator = make(base, first_layer=0, sources=2)
    adapters = adapters_of(translator, list(TEXTS.values()))
    for layer, projection in itertools.product(range(base.layers), PROJECTIONS):
        module = base.model.get_submodule(f"model.layers.{layer}.mlp.{projection}")
        seen: list[torch.Tensor] = []
        hook = module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0][0, 1:]))
        for ids in prompts(base):
            base.model(input_ids=torch.tensor([ids]))
        hook.remove()
        mean = torch.cat(seen).mean(0)
        keys = adapters.a[projection][:, layer]  # [docs, rank, in]
        cosines = torch.cosine_similarity(keys, mean.expand_as(keys), dim=-1)
        assert cosines.abs().max() < 1e-4, (layer, projection)


def test_peft_computes_the_same_from_the_saved_adapter(base: BaseModel, tiny_model: str, tmp_path: Path):
    adapters = adapters_of(make(base), list(TEXTS.values()))
    plain = logits(base.model)
    for doc in range(adapters.docs):
        adapter = adapters.select([doc])
        save_peft(base, adapter, tmp_path, tiny_model)
        fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        theirs = logits(PeftModel.from_pretrained(fresh, str(tmp_path)).eval())
        for first_layer in (0, 1):
            with inject(base, adapter, first_layer):
                torch.testing.assert_close(logits(base.model), theirs, atol=1e-5, rtol=0)
        assert (theirs - plain).abs().max() > 1e-3


def test_gradients_reach_every_parameter(base: BaseModel):
    translator = make(base, first_layer=0, sources=2)
    adapters = translator.translate(translator.read(base, list(TEXTS.values())))
    generator = torch.Generator().manual_seed(0)
    sum((t * torch.randn(t.shape, generator=generator)).sum() for t in adapters.tensors().values()).backward()
    for name, parameter in translator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_frozen_model_is_not_part_of_the_translator(base: BaseModel):
    translator = make(base)
    own = {parameter.data_ptr() for parameter in translator.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in base.model.parameters())
    assert not any("embed" in name or "lm_head" in name for name in translator.state_dict())


@pytest.mark.parametrize("kind", ["attentive", "hypernetwork"])
def test_the_same_seed_gives_the_same_translator_and_draws_nothing_from_the_common_generator(
    base: BaseModel, kind: str
):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again, other = (
        fresh_translator(base, LearnSettings(**{**SMALL, "kind": kind, "seed": seed}), prompts(base))
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    named = first.state_dict()
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in named.items())
    assert any(not torch.equal(tensor, other.state_dict()[name]) for name, tensor in named.items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"first_layer": 0, "sources": 3}, "learn.sources"),
        ({"first_layer": 1, "sources": 2}, "learn.sources"),
        ({"first_layer": 2}, "learn.sources"),
        ({"first_layer": 9}, "learn.sources"),
        ({"heads": 3}, "learn.width"),
        ({"heads": 32}, "learn.width"),
    ],
)
def test_sizes_that_do_not_fit_the_model_are_an_error_of_their_setting(
    base: BaseModel, changes: dict[str, int], named: str
):
    with pytest.raises(ConfigError, match=named):
        make(base, **changes)


def test_a_normalizing_hypernetwork_sees_the_layer_norm_of_the_embedding(base: BaseModel):
    common = {"kind": "hypernetwork", "width": 4, "rank": 2, "init_std": 0.1}
    ours, plain = (fresh_translator(base, LearnSettings(**common, normalize=flag), []) for flag in (True, False))
    plain.load_state_dict(ours.state_dict())
    vectors = 5 + 20 * torch.randn(3, base.hidden, generator=torch.Generator().manual_seed(0))
    norm = torch.nn.LayerNorm(base.hidden, elementwise_affine=False)
    for name, tensor in plain(norm(vectors)).tensors().items():
        torch.testing.assert_close(ours(vectors).tensors()[name], tensor, atol=1e-5, rtol=1e-5)
    assert distance(ours(vectors), plain(vectors)) > 0.1


@given(length=st.integers(1, 40), padding=st.integers(0, 5), count=st.integers(1, 12))
@settings(max_examples=60)
def test_every_token_but_the_first_is_within_a_stretch_of_some_slot(length: int, padding: int, count: int):
    mask = torch.zeros(1, length + padding, dtype=torch.bool)
    mask[0, min(1, length - 1) : length] = True
    distances = _distances(mask, count)
    assert distances.shape == (1, count, length + padding)
    assert torch.isfinite(distances).all()
    if length > 1:
        assert (distances[0, :, 1:length].amin(0) <= 1).all()
        assert (distances.argmin(-1)[0] >= 1).all()
        assert (distances.argmin(-1)[0] < length).all()
    torch.testing.assert_close(_distances(mask[:, :length], count), distances[..., :length])
