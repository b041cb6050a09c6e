"""The losses of documents: samples that begin alike share a row, and losses and gradients stay the same."""

import random

import pytest
import torch
from conftest import FAMILIES, make_tiny_model, random_adapters

from dyprag.adapters import losses
from dyprag.adapters.losses import document_losses, step_size
from dyprag.adapters.samples import Sample
from dyprag.model.base import BaseModel, load_model


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model of each family."""
    return load_model(str(make_tiny_model(tmp_path_factory.mktemp(request.param) / "tiny", request.param)), "float32")


def steps(seed: int) -> list[list[Sample]]:
    """The steps of some documents: samples that begin alike, or not, of many lengths; one has no target at all."""
    draw = random.Random(seed)
    documents = []
    for _ in range(3):
        beginning = draw.choices(range(3, 300), k=draw.choice([0, 1, 9, 40]))
        samples = []
        for _ in range(draw.randint(1, 4)):
            ids = beginning + draw.choices(range(3, 300), k=draw.randint(1, 12))
            samples.append(Sample(ids, draw.randint(0, len(ids) - 1)))
        documents.append(samples)
    documents.append([Sample([7], 0)])
    return documents


def differentiated(
    base: BaseModel, documents: list[list[Sample]], loss_on: str, first_layer: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Each document's loss, and the gradients of all matrices."""
    adapters = random_adapters(base, len(documents), 3)
    matrices = adapters.require_gradients()
    made = document_losses(base, adapters, documents, loss_on, first_layer)
    made.total.backward()
    return made.each, [torch.zeros_like(x) if x.grad is None else x.grad for x in matrices]


@pytest.mark.parametrize("loss_on", ["all", "answer"])
@pytest.mark.parametrize("seed", range(4))
def test_a_shared_beginning_changes_neither_losses_nor_gradients(
    family: BaseModel, monkeypatch: pytest.MonkeyPatch, seed: int, loss_on: str
):
    documents, first_layer = steps(seed), seed % 2
    monkeypatch.setattr(losses, "WORTH_A_TREE", 0.0)
    separate, expected = differentiated(family, documents, loss_on, first_layer)
    monkeypatch.setattr(losses, "WORTH_A_TREE", 1e9)
    together, gradients = differentiated(family, documents, loss_on, first_layer)
    torch.testing.assert_close(together, separate, atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_a_beginning_is_computed_once(base: BaseModel, monkeypatch: pytest.MonkeyPatch):
    computed: list[int] = []
    base.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    step = [Sample([*range(3, 43), 50 + n, 60, 70], 41) for n in range(2)]
    assert step_size(step) == (1, 46)
    document_losses(base, random_adapters(base), [step])
    assert computed == [46]
    apart = [Sample([3 + n, *range(5, 40)], 20) for n in range(2)]
    assert step_size(apart) == (2, 36)
    document_losses(base, random_adapters(base), [apart])
    assert computed == [46, 72]


def test_a_model_with_a_shorter_window_computes_separate_rows(base: BaseModel, monkeypatch: pytest.MonkeyPatch):
    step = [Sample([*range(3, 43), 50 + n, 60, 70], 41) for n in range(2)]
    expected = document_losses(base, random_adapters(base), [step]).each
    monkeypatch.setattr(base.model.config, "sliding_window", 45, raising=False)
    monkeypatch.setattr(losses, "build_tree", None)
    torch.testing.assert_close(document_losses(base, random_adapters(base), [step]).each, expected)
