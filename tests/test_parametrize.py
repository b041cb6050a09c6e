"""Parametrization: the samples of the paper, and the same adapter as a plain PEFT training gives."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import TEXTS
from peft import PeftModel
from transformers import AutoModelForCausalLM

from dyprag.config import LoraSettings, ParametrizeSettings
from dyprag.documents import Augmentation, Document, QAPair
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.lora import initial_adapters, inject, save_peft
from dyprag.models import PROJECTIONS, BaseModel, load_model
from dyprag.parametrize import Sample, document_samples, parametrize, sample_loss

DOCUMENT = Document("lamp", TEXTS["lamp"], "The Ostrel lamp")
REWRITE = "In 1911 Greta Olmsted built the lamp."
PAIRS = (
    QAPair("Who built it?", "Greta Olmsted", "Greta Olmsted built the Ostrel lamp."),
    QAPair("When was it built?", "1911", "It was built in 1911."),
    QAPair("How tall is it?", "24 metres", "It stands 24 metres tall."),
)
AUGMENTATION = Augmentation((REWRITE,), PAIRS)
LORA = LoraSettings(rank=2, alpha=32, seed=3)


def settings(**given) -> ParametrizeSettings:
    """The paper's values, without shuffling."""
    paper = {"learning_rate": 3e-4, "epochs": 1, "batch_size": 1, "samples": "official", "shuffle": False}
    return ParametrizeSettings(**paper | given)


@pytest.fixture(scope="module")
def base(tiny_model: str) -> BaseModel:
    return load_model(tiny_model, "float32", "cpu")


@pytest.fixture(scope="module")
def samples(base: BaseModel) -> list[Sample]:
    return document_samples(base, DOCUMENT, AUGMENTATION, "short", "official")


def contents(base: BaseModel, samples: Sequence[Sample], pairs: Sequence[QAPair] = PAIRS) -> list[tuple[int, str]]:
    """(number of the question, which text stands in the prompt) of each sample, read from its token ids."""
    found = []
    for sample in samples:
        prompt = base.tokenizer.decode(sample.ids[: sample.prompt_length])
        texts = {"passage": DOCUMENT.passage, "rewrite": REWRITE, "other rewrite": "A second rewrite."}
        (number,) = [number for number, pair in enumerate(pairs) if pair.question in prompt]
        found.append((number, "+".join(name for name, text in texts.items() if text in prompt)))
    return found


def test_the_official_layout_gives_five_samples_for_three_pairs(base: BaseModel, samples: list[Sample]):
    assert contents(base, samples) == [(0, "passage"), (0, "rewrite"), (1, "passage"), (1, "rewrite"), (2, "")]


def test_the_layout_both_has_each_pair_with_and_without_a_text(base: BaseModel):
    made = document_samples(base, DOCUMENT, AUGMENTATION, "short", "both")
    assert contents(base, made) == [(0, "passage"), (0, ""), (1, "rewrite"), (1, ""), (2, "passage"), (2, "")]


def test_the_layout_closed_book_has_each_pair_without_and_each_text_once(base: BaseModel):
    made = document_samples(base, DOCUMENT, AUGMENTATION, "short", "closed-book")
    assert contents(base, made) == [(0, "passage"), (0, ""), (1, "rewrite"), (1, ""), (2, "")]


def test_the_layout_closed_book_has_each_text_even_with_fewer_pairs_than_texts(base: BaseModel):
    few = Augmentation((REWRITE, "A second rewrite."), PAIRS[:1])
    made = contents(base, document_samples(base, DOCUMENT, few, "short", "closed-book"))
    assert sorted(made) == [(0, ""), (0, "other rewrite"), (0, "passage"), (0, "rewrite")]


@pytest.mark.parametrize("layout", ["official", "both", "closed-book"])
@pytest.mark.parametrize("answer", ["short", "full"])
def test_a_sample_is_the_prompt_the_answer_and_the_end_token(base: BaseModel, layout: str, answer: str):
    made = document_samples(base, DOCUMENT, AUGMENTATION, answer, layout)
    for sample, (number, _) in zip(made, contents(base, made), strict=True):
        wanted = PAIRS[number].full_answer.rstrip(".") if answer == "full" else PAIRS[number].answer
        assert sample.ids[-1] == base.tokenizer.eos_token_id
        assert base.tokenizer.decode(sample.ids[sample.prompt_length : -1]) == f" {wanted}."


def test_a_document_longer_than_the_context_is_named(base: BaseModel):
    long = Document("epic", "Tomas Reil designed it in 1954. " * 300)
    with pytest.raises(DocumentTooLong, match="epic"):
        document_samples(base, long, AUGMENTATION, "short", "official")


@pytest.mark.parametrize("layout", ["official", "both", "closed-book"])
def test_a_document_without_pairs_is_named(base: BaseModel, layout: str):
    with pytest.raises(DocumentError, match="lamp"):
        document_samples(base, DOCUMENT, Augmentation((REWRITE,), ()), "short", layout)


@pytest.mark.parametrize(("epochs", "weight_decay"), [(1, 0.01), (3, 0.1)])
def test_training_equals_a_plain_loop_with_peft(
    base: BaseModel, tiny_model: str, samples: list[Sample], tmp_path: Path, epochs: int, weight_decay: float
):
    """PEFT's model, transformers' own loss and torch's AdamW; losses and matrices agree within 1e-5, in float32."""
    save_peft(base, initial_adapters(base, LORA.rank, LORA.alpha, LORA.seed), tmp_path, tiny_model)
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(fresh, str(tmp_path), is_trainable=True)
    trainable = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=3e-4, weight_decay=weight_decay)
    losses = []
    for _ in range(epochs):
        for sample in samples:
            ids = torch.tensor([sample.ids])
            loss = theirs(input_ids=ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    ours = parametrize(base, samples, LORA, settings(epochs=epochs, weight_decay=weight_decay))
    assert ours.losses == pytest.approx(losses, abs=1e-5)
    assert ours.tokens == epochs * sum(len(sample.ids) for sample in samples)
    for projection in PROJECTIONS:
        for layer in range(base.layers):
            module = theirs.get_submodule(f"base_model.model.model.layers.{layer}.mlp.{projection}")
            a, b = module.lora_A.default.weight, module.lora_B.default.weight
            torch.testing.assert_close(ours.adapter.a[projection][0, layer], a.detach(), atol=1e-5, rtol=0)
            torch.testing.assert_close(ours.adapter.b[projection][0, layer], b.detach(), atol=1e-5, rtol=0)
            assert b.detach().abs().max() > 1e-3  # it has learned


@pytest.mark.parametrize("loss_on", ["all", "answer"])
def test_the_loss_equals_a_plain_computation(base: BaseModel, samples: list[Sample], loss_on: str):
    """The mean of -log p over every predicted token of a batch of unlike lengths, or over those of the answers."""
    adapter = initial_adapters(base, 2, 32, 0)
    adapter.b["up_proj"].fill_(0.05)
    logs = []
    with torch.no_grad(), inject(base, adapter):
        for sample in samples:
            table = base.model(input_ids=torch.tensor([sample.ids])).logits[0].log_softmax(-1)
            first = 1 if loss_on == "all" else sample.prompt_length
            logs += [table[place - 1, sample.ids[place]].item() for place in range(first, len(sample.ids))]
    found = sample_loss(base, adapter, samples, loss_on).item()
    assert found == pytest.approx(-sum(logs) / len(logs), abs=1e-5)


def test_the_same_seed_gives_the_same_adapter(base: BaseModel, samples: list[Sample]):
    shuffled = settings(shuffle=True, seed=1, epochs=2)
    first, again = (parametrize(base, samples, LORA, shuffled) for _ in range(2))
    other = parametrize(base, samples, LORA, settings(shuffle=True, seed=2, epochs=2))
    assert first.losses == again.losses != other.losses
    for name, tensor in first.adapter.tensors().items():
        assert torch.equal(tensor, again.adapter.tensors()[name])
        assert not tensor.requires_grad


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_sample_is_seen_once_an_epoch(base: BaseModel, samples: list[Sample], batch_size: int):
    steps = []
    done = parametrize(
        base, samples, LORA, settings(batch_size=batch_size, epochs=2, shuffle=True), lambda *step: steps.append(step)
    )
    assert done.tokens == 2 * sum(len(sample.ids) for sample in samples)
    assert len(done.losses) == 2 * -(-len(samples) // batch_size)
    assert steps == list(enumerate(done.losses, start=1))


def test_training_lowers_the_loss_and_leaves_the_model_alone(base: BaseModel, samples: list[Sample]):
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    done = parametrize(base, samples, LORA, settings(epochs=8, learning_rate=3e-3))
    assert done.losses[-len(samples)] < done.losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.model.state_dict().items())
