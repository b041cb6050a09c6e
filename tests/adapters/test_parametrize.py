"""Parametrization: the same adapter as with plain PEFT training, alone and in groups."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import bare_model, random_adapters
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from parametrization import AUGMENTATION, DOCUMENT, LORA, settings
from peft import PeftModel
from transformers import AutoModelForCausalLM

from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters, initial_adapters, save_peft
from dyprag.adapters.losses import step_size
from dyprag.adapters.parametrize import Parametrized, document_losses, groups, parametrize, schedule
from dyprag.adapters.samples import Sample, document_samples
from dyprag.config import LoraSettings, ParametrizeSettings
from dyprag.errors import is_out_of_memory
from dyprag.model.base import PROJECTIONS, BaseModel


@pytest.fixture(scope="module")
def samples(base: BaseModel) -> list[Sample]:
    return document_samples(base, DOCUMENT, AUGMENTATION, "short", "official")


def train(base: BaseModel, documents: Sequence[Sequence[Sample]], given: ParametrizeSettings) -> list[Parametrized]:
    made = dict(parametrize(base, documents, LORA, given))
    assert sorted(made) == list(range(len(documents)))
    results = [made[index] for index in range(len(documents))]
    for result in results:
        assert isinstance(result, Parametrized), result
    return results


def with_peft(
    base: BaseModel, folder: Path, samples: Sequence[Sample], epochs: int, weight_decay: float,
    start: Adapters | None = None, first_layer: int = 0,
) -> tuple[list[float], Adapters]:  # fmt: skip
    """Train with PEFT, transformers' loss and plain AdamW, one sample per step; returns losses and adapter."""
    start = start or initial_adapters(base, LORA.rank, LORA.alpha, LORA.seed)
    save_peft(base, start, folder, "tiny")
    fresh = AutoModelForCausalLM.from_pretrained(base.model.config._name_or_path, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(fresh, str(folder), is_trainable=True)
    layers = [f".layers.{layer}." for layer in range(first_layer, base.layers)]
    trainable = [p for name, p in theirs.named_parameters() if p.requires_grad and any(n in name for n in layers)]
    optimizer = torch.optim.AdamW(trainable, lr=3e-4, weight_decay=weight_decay, foreach=False)
    losses = []
    for _ in range(epochs):
        for sample in samples:
            ids = torch.tensor([sample.ids])
            loss = theirs(input_ids=ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    modules = {
        projection: [
            theirs.get_submodule(f"base_model.model.model.layers.{layer}.mlp.{projection}")
            for layer in range(base.layers)
        ]
        for projection in PROJECTIONS
    }
    return losses, Adapters(
        {p: torch.stack([m.lora_A.default.weight.detach() for m in ms])[None] for p, ms in modules.items()},
        {p: torch.stack([m.lora_B.default.weight.detach() for m in ms])[None] for p, ms in modules.items()},
        start.scale,
    )


@pytest.mark.parametrize(("epochs", "weight_decay"), [(1, 0.01), (3, 0.1)])
def test_training_equals_a_plain_peft_loop_alone_and_in_a_group(
    base: BaseModel, samples: list[Sample], tmp_path: Path, epochs: int, weight_decay: float
):
    """In float32, losses and matrices agree within 1e-5, also in groups with different sample counts."""
    documents = [samples, samples[2:4], samples[:1], samples[::-1]]
    given = settings(epochs=epochs, weight_decay=weight_decay, documents=len(documents))
    assert len(groups([schedule(d, given) for d in documents], 4)) < len(documents)  # some are grouped
    together = train(base, documents, given)
    alone = [train(base, [document], given)[0] for document in documents]
    for number, document in enumerate(documents):
        losses, adapter = with_peft(base, tmp_path, document, epochs, weight_decay)
        for ours in (together[number], alone[number]):
            assert ours.losses == pytest.approx(losses, abs=1e-5)
            assert ours.tokens == epochs * sum(len(sample.ids) for sample in document)
            for name, tensor in ours.adapter.tensors().items():
                torch.testing.assert_close(tensor, adapter.tensors()[name], atol=1e-5, rtol=0)
        assert adapter.b["up_proj"].abs().max() > 2e-4  # it was trained


def test_a_document_without_further_samples_stays_unchanged(base: BaseModel, samples: list[Sample]):
    """Neither weight decay nor momentum changes it while the other one continues."""
    given = settings(weight_decay=0.5, learning_rate=1e-2, documents=2)
    short, long = [samples[4]], [samples[4]] * 8
    assert groups([schedule(d, given) for d in (short, long)], 2) == [[0, 1]]
    together, _ = train(base, [short, long], given)
    (alone,) = train(base, [short], given)
    for name, tensor in together.adapter.tensors().items():
        torch.testing.assert_close(tensor, alone.adapter.tensors()[name], atol=1e-5, rtol=0)


@given(data=st.data(), size=st.integers(1, 3), together=st.integers(1, 5), rank=st.integers(1, 3))
@hypothesis_settings(max_examples=20)
def test_training_in_a_group_gives_the_same_result_as_alone(data: st.DataObject, size: int, together: int, rank: int):
    """Any lengths from one token to the whole context, any sample counts, batch and group sizes, any rank, any number
    of layers and width of the modules."""
    base = bare_model(data.draw(st.integers(1, 3)), data.draw(st.integers(8, 24)), data.draw(st.integers(1, 40)))
    base.model.double()  # in float32, a gradient near zero may have either sign, and AdamW would take a full step
    length = st.one_of(st.integers(1, 40), st.sampled_from([1, 2, base.max_tokens]))
    shapes = data.draw(st.lists(st.lists(length, min_size=1, max_size=4), min_size=1, max_size=4))
    ids = random.Random(0)
    documents = [
        [
            Sample([ids.randrange(base.model.config.vocab_size) for _ in range(n)], data.draw(st.integers(0, n)))
            for n in shape
        ]
        for shape in shapes
    ]
    lora = LoraSettings(rank=rank, alpha=4, dtype="float32")
    loss_on = data.draw(st.sampled_from(["all", "answer"]))
    given_ = settings(batch_size=size, shuffle=data.draw(st.booleans()), documents=together, loss_on=loss_on)
    made = dict(parametrize(base, documents, lora, given_))
    for index, document in enumerate(documents):
        ((_, alone),) = parametrize(base, [document], lora, given_)
        assert isinstance(alone, Parametrized)
        assert made[index].losses == pytest.approx(alone.losses, abs=1e-5)
        assert all(loss >= 0 for loss in alone.losses)
        start = initial_adapters(base, rank, 4, lora.seed).tensors()
        for name, tensor in made[index].adapter.tensors().items():
            assert torch.isfinite(tensor).all()
            moved = (alone.adapter.tensors()[name] - start[name]).abs().mean()
            assert (tensor - alone.adapter.tensors()[name]).abs().mean() <= 0.01 * moved


@pytest.mark.parametrize("first_layer", [0, 1])
def test_training_goes_on_from_a_given_adapter_as_peft_does(
    base: BaseModel, samples: list[Sample], tmp_path: Path, first_layer: int
):
    """Two documents start from their own adapters, of another rank and scale than the settings'."""
    starts = [random_adapters(base, rank=3, seed=seed) for seed in (1, 2)]
    for start in starts:
        for projection in PROJECTIONS:
            start.b[projection][:, :first_layer] = 0
    before = [start.copy() for start in starts]
    documents = [samples, samples[:3]]
    made = dict(parametrize(base, documents, LORA, settings(), starts, first_layer))
    for number, (start, kept, document) in enumerate(zip(starts, before, documents, strict=True)):
        for name, tensor in start.tensors().items():
            assert torch.equal(tensor, kept.tensors()[name]), "the given adapter is not changed"
        (folder := tmp_path / f"{number}").mkdir()
        losses, theirs = with_peft(base, folder, document, 1, 0.01, start, first_layer)
        ours = made[number]
        assert isinstance(ours, Parametrized)
        assert (ours.adapter.rank, ours.adapter.scale) == (3, start.scale)
        assert ours.losses == pytest.approx(losses, abs=1e-4)
        for projection in PROJECTIONS:
            for layer in range(first_layer):
                assert not ours.adapter.b[projection][0, layer].any()
            for layer in range(first_layer, base.layers):
                trained = theirs.b[projection][0, layer]
                moved = (trained - start.b[projection][0, layer]).abs().mean()
                difference = (ours.adapter.b[projection][0, layer] - trained).abs().mean()
                assert difference <= 0.02 * moved


@given(data=st.data(), most=st.integers(1, 6))
@hypothesis_settings(max_examples=50)
def test_groups_contain_every_document_once_within_their_limits(data: st.DataObject, most: int):
    shapes = data.draw(st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=5), max_size=12))
    given_ = settings(batch_size=data.draw(st.integers(1, 3)), shuffle=True)
    schedules = [schedule([Sample([0] * n, 0) for n in shape], given_) for shape in shapes]
    made = groups(schedules, most)
    assert sorted(index for group in made for index in group) == list(range(len(shapes)))
    for group in made:
        assert 1 <= len(group) <= most
        real = padded = 0
        for number in range(max(len(schedules[d]) for d in group)):
            sizes = [step_size(schedules[d][number]) for d in group if number < len(schedules[d])]
            padded += sum(rows for rows, _ in sizes) * max(length for _, length in sizes)
        for document in group:
            real += sum(rows * length for rows, length in map(step_size, schedules[document]))
        assert real >= 0.79 * padded


def test_training_continues_with_fewer_documents_when_memory_runs_out(
    base: BaseModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, messages: list[str]
):
    """The allocator's own error, at the size at which a machine of so much memory would raise it; in the middle of
    the training, and of a backward pass. A document that is too large even alone is the only one that fails."""
    passes: list[int] = []
    real = document_losses

    def limited(model: BaseModel, adapters: Adapters, batches: Sequence[Sequence[Sample]], *how: Any):
        passes.append(len(batches))
        losses = real(model, adapters, batches, *how)
        if (len(batches) > 2 and len(passes) > 1) or any(step[0].ids == huge for step in batches):
            losses.total.register_hook(lambda slope: torch.empty(2**60))
        return losses

    monkeypatch.setattr("dyprag.adapters.parametrize.document_losses", limited)
    monkeypatch.setattr("dyprag.adapters.parametrize.MOST_PADDING", 1.0)
    huge = [9] * 400
    documents = [samples[3:], samples[3:], [samples[3], Sample(huge, 3)], samples[3:], samples[3:]]
    made = dict(parametrize(base, documents, LORA, settings(documents=5)))
    assert passes[:3] == [5, 5, 2]  # first step, second step, and its repetition with half as many
    assert max(passes[2:]) == 2
    assert any("with 5 documents per pass; continuing with 2" in message for message in messages)
    assert isinstance(made[2], RuntimeError)
    assert is_out_of_memory(made[2])
    monkeypatch.undo()
    (alone,) = train(base, [samples[3:]], settings())
    for index in (0, 1, 3, 4):
        result = made[index]
        assert isinstance(result, Parametrized)
        assert result.losses == pytest.approx(alone.losses, abs=1e-5)
        for name, tensor in result.adapter.tensors().items():
            torch.testing.assert_close(tensor, alone.adapter.tensors()[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss_on", ["all", "answer"])
def test_the_loss_equals_a_plain_computation(base: BaseModel, samples: list[Sample], loss_on: str):
    """Mean of -log p over the predicted tokens of samples of different lengths, or over the answers' tokens."""
    adapter = initial_adapters(base, 2, 32, 0)
    adapter.b["up_proj"].fill_(0.05)
    logs = []
    with torch.no_grad(), inject(base, adapter):
        for sample in samples:
            table = base.model(input_ids=torch.tensor([sample.ids])).logits[0].log_softmax(-1)
            first = 1 if loss_on == "all" else sample.prompt_length
            logs += [table[place - 1, sample.ids[place]].item() for place in range(first, len(sample.ids))]
    found = document_losses(base, adapter, [samples], loss_on)
    assert found.total.item() == pytest.approx(-sum(logs) / len(logs), abs=1e-5)
    assert found.each.tolist() == pytest.approx([-sum(logs) / len(logs)], abs=1e-5)


def test_the_same_seed_gives_the_same_adapter(base: BaseModel, samples: list[Sample]):
    shuffled = settings(shuffle=True, seed=1, epochs=2)
    first, again = (train(base, [samples], shuffled)[0] for _ in range(2))
    (other,) = train(base, [samples], settings(shuffle=True, seed=2, epochs=2))
    assert first.losses == again.losses != other.losses
    for name, tensor in first.adapter.tensors().items():
        assert torch.equal(tensor, again.adapter.tensors()[name])
        assert not tensor.requires_grad


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_sample_is_used_once_per_epoch(base: BaseModel, samples: list[Sample], batch_size: int):
    given_ = settings(batch_size=batch_size, epochs=2, shuffle=True)
    (done,) = train(base, [samples], given_)
    assert done.tokens == 2 * sum(len(sample.ids) for sample in samples)
    assert len(done.losses) == 2 * -(-len(samples) // batch_size)
    steps = schedule(samples, given_)
    for epoch in (steps[: len(steps) // 2], steps[len(steps) // 2 :]):
        assert sorted(sample.ids for step in epoch for sample in step) == sorted(sample.ids for sample in samples)


def test_a_pass_takes_the_configured_number_of_documents_or_as_many_as_fit(
    base: BaseModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
):
    passes = []
    real = document_losses

    def noted(model: BaseModel, adapters: Adapters, batches: Sequence[Sequence[Sample]], *how: Any):
        if torch.is_grad_enabled():  # not the final evaluation
            passes.append(len(batches))
        return real(model, adapters, batches, *how)

    monkeypatch.setattr("dyprag.adapters.parametrize.document_losses", noted)
    monkeypatch.setattr("dyprag.adapters.parametrize.CPU_TOGETHER", 6)
    long, short = samples[0], Sample(samples[0].ids[:4], 2)
    monkeypatch.setattr("dyprag.adapters.parametrize.CPU_TOKENS", 2 * len(long.ids))
    for documents, wanted in ((None, [2, 2, 2, 6]), (3, [3, 3, 3, 3]), (1, [1] * 12)):
        passes.clear()
        train(base, [[long, short]] * 6, settings(documents=documents))
        assert passes == wanted


def test_a_diverged_training_is_reported(base: BaseModel, samples: list[Sample]):
    (sound,) = train(base, [samples], settings())
    assert not sound.diverged
    (burst,) = train(base, [samples], settings(learning_rate=1e38))
    assert burst.diverged


def test_training_lowers_the_loss_and_leaves_the_model_unchanged(base: BaseModel, samples: list[Sample]):
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    (done,) = train(base, [samples], settings(epochs=8, learning_rate=3e-3))
    assert done.losses[-len(samples)] < done.losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.model.state_dict().items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_adapter_has_the_configured_dtype(base: BaseModel, samples: list[Sample], dtype: str):
    ((_, made),) = parametrize(base, [samples], LORA.model_copy(update={"dtype": dtype}), settings())
    (exact,) = train(base, [samples], settings())
    for name, tensor in made.adapter.tensors().items():
        assert tensor.dtype == getattr(torch, dtype)
        assert torch.equal(tensor, exact.adapter.tensors()[name].to(tensor.dtype))
