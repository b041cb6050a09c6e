"""The hypernetwork: its formula written out, its size, its files."""

from pathlib import Path

import pytest
import torch

from dyprag.config import TranslatorSettings
from dyprag.errors import ArtifactError
from dyprag.lora import initial_adapters
from dyprag.models import PROJECTIONS, BaseModel, load_model
from dyprag.translator import Translator, load_translator, save_translator

RANK, ALPHA, SEED = 2, 32, 7


@pytest.fixture(scope="module")
def base(tiny_model: str) -> BaseModel:
    return load_model(tiny_model, "float32", "cpu")


def make(base: BaseModel, layers: str = "own", residual: bool = False, init_std: float = 0.1) -> Translator:
    settings = TranslatorSettings(width=4, layers=layers, residual=residual, init_std=init_std, seed=1)
    return Translator.for_model(base, settings, RANK, ALPHA, SEED)


def embeddings(base: BaseModel, docs: int = 3) -> torch.Tensor:
    return torch.randn(docs, base.hidden, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layers", ["own", "shared"])
@pytest.mark.parametrize("residual", [False, True])
def test_each_matrix_is_that_of_the_formula(base: BaseModel, layers: str, residual: bool):
    translator, vectors = make(base, layers, residual), embeddings(base)
    adapters = translator(vectors)
    start = initial_adapters(base, RANK, ALPHA, SEED)
    assert adapters.scale == ALPHA / RANK
    for projection in PROJECTIONS:
        fan_in, fan_out = base.features(projection)
        for side, half, shape in (("a", adapters.a, (RANK, fan_in)), ("b", adapters.b, (fan_out, RANK))):
            assert half[projection].shape == (len(vectors), base.layers, *shape)
            down, up = translator.down[f"{projection}_{side}"], translator.up[f"{projection}_{side}"]
            for doc, vector in enumerate(vectors):
                for layer in range(base.layers):
                    own = layer if layers == "own" else 0
                    code = torch.relu(down[own] @ torch.cat([vector, torch.tensor([float(layer)])]))
                    wanted = (up[own] @ code).reshape(shape)
                    if residual and side == "a":  # the initial B is zero
                        wanted = wanted + start.a[projection][0, layer]
                    torch.testing.assert_close(half[projection][doc, layer], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("layers", "groups"), [("own", 2), ("shared", 1)])
@pytest.mark.parametrize("residual", [False, True])
def test_the_number_of_parameters_is_that_of_the_formula(base: BaseModel, layers: str, groups: int, residual: bool):
    hidden, intermediate, width = 32, 64, 4
    # W_down: p by h + 1; W_up: hr by p on the hidden side, kr by p on the intermediate side; for A and B of 3 modules
    one_layer = 6 * width * (hidden + 1) + 3 * (hidden * RANK * width) + 3 * (intermediate * RANK * width)
    found = sum(parameter.numel() for parameter in make(base, layers, residual).parameters())
    assert found == groups * one_layer


def test_the_last_projection_is_drawn_with_the_deviation_asked_for(base: BaseModel):
    for parameter in make(base, init_std=1e-7).up.values():
        assert parameter.std().item() == pytest.approx(1e-7, rel=0.2)


def test_with_residual_a_fresh_translator_gives_almost_the_initial_adapter(base: BaseModel):
    adapters = make(base, residual=True, init_std=1e-7)(embeddings(base, 1))
    for projection, wanted in initial_adapters(base, RANK, ALPHA, SEED).a.items():
        torch.testing.assert_close(adapters.a[projection], wanted, atol=1e-5, rtol=0)
        assert adapters.b[projection].abs().max() < 1e-5


def test_the_same_seed_gives_the_same_translator(base: BaseModel):
    first, second = make(base).state_dict(), make(base).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("layers", ["own", "shared"])
@pytest.mark.parametrize("residual", [False, True])
def test_a_saved_translator_gives_the_same_adapters(base: BaseModel, tmp_path: Path, layers: str, residual: bool):
    translator, vectors = make(base, layers, residual), embeddings(base)
    save_translator(translator, tmp_path)
    loaded = load_translator(tmp_path)
    assert loaded.shape == translator.shape
    before, after = translator(vectors).tensors(), loaded(vectors).tensors()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", ["translator.safetensors", "translator.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_an_error_of_the_artifact(base: BaseModel, tmp_path: Path, name: str, share: float):
    save_translator(make(base), tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ArtifactError) as caught:
        load_translator(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["translator.safetensors", "translator.json"])
def test_a_missing_file_is_an_error_of_the_artifact(base: BaseModel, tmp_path: Path, name: str):
    save_translator(make(base), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError):
        load_translator(tmp_path)


def test_files_that_do_not_fit_together_are_an_error_of_the_artifact(base: BaseModel, tmp_path: Path):
    save_translator(make(base, "shared"), tmp_path)
    shape = (tmp_path / "translator.json").read_text()
    save_translator(make(base, "own"), tmp_path)
    (tmp_path / "translator.json").write_text(shape)
    with pytest.raises(ArtifactError):
        load_translator(tmp_path)
    (tmp_path / "translator.json").write_text("{}")
    with pytest.raises(ArtifactError):
        load_translator(tmp_path)


@pytest.mark.parametrize("layers", ["own", "shared"])
def test_gradients_reach_every_parameter(base: BaseModel, layers: str):
    translator = make(base, layers)
    sum(tensor.square().sum() for tensor in translator(embeddings(base)).tensors().values()).backward()
    for name, parameter in translator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.flatten(1).abs().amax(1).min() > 0, name  # of every layer


def test_documents_do_not_influence_each_other(base: BaseModel):
    translator, vectors = make(base), embeddings(base)
    together = translator(vectors)
    alone = translator(vectors[1:2])
    for name, tensor in alone.tensors().items():
        torch.testing.assert_close(tensor[0], together.tensors()[name][1], atol=1e-6, rtol=1e-5)
