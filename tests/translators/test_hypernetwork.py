"""The hypernetwork: its formula, size and files."""

import itertools
from pathlib import Path

import pytest
import torch
from conftest import make_tiny_model, save_official_translator
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dyprag.adapters.lora import initial_adapters
from dyprag.config import TranslatorSettings
from dyprag.errors import ArtifactError
from dyprag.model.base import PROJECTIONS, BaseModel, load_model
from dyprag.translators.hypernetwork import Translator, TranslatorShape, convert_official
from dyprag.translators.protocol import load_translator, require_model, save_translator

RANK, ALPHA, SEED = 2, 32, 7


def make(base: BaseModel, layers: str = "own", residual: bool = False, init_std: float = 0.1) -> Translator:
    settings = TranslatorSettings(width=4, layers=layers, residual=residual, init_std=init_std, seed=1)
    return Translator.for_model(base, settings, RANK, ALPHA, SEED)


def embeddings(base: BaseModel, docs: int = 3) -> torch.Tensor:
    return torch.randn(docs, base.hidden, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layers", ["own", "shared"])
@pytest.mark.parametrize("residual", [False, True])
def test_each_matrix_follows_the_formula(base: BaseModel, layers: str, residual: bool):
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


@given(
    layers=st.integers(1, 4), hidden=st.integers(1, 20), intermediate=st.integers(1, 30), rank=st.integers(1, 4),
    width=st.integers(1, 9), shared=st.booleans(), docs=st.integers(1, 4),
)  # fmt: skip
@hypothesis_settings(max_examples=30)
def test_the_formula_and_the_number_of_parameters_hold_for_any_shape(
    layers: int, hidden: int, intermediate: int, rank: int, width: int, shared: bool, docs: int
):
    features = {p: (intermediate, hidden) if p == "down_proj" else (hidden, intermediate) for p in PROJECTIONS}
    shape = TranslatorShape(hidden, layers, rank, 16.0, width, shared, False, features)
    translator = Translator(shape, init_std=0.1, seed=3)
    vectors = torch.randn(docs, hidden, generator=torch.Generator().manual_seed(0))
    adapters, groups = translator(vectors), 1 if shared else layers
    # W_down: p by h + 1; W_up: hr by p on the hidden side, kr by p on the intermediate side; A and B of 3 modules
    one_layer = 6 * width * (hidden + 1) + 3 * hidden * rank * width + 3 * intermediate * rank * width
    assert sum(parameter.numel() for parameter in translator.parameters()) == groups * one_layer
    for projection in PROJECTIONS:
        fan_in, fan_out = features[projection]
        for side, half, size in (("a", adapters.a, (rank, fan_in)), ("b", adapters.b, (fan_out, rank))):
            assert half[projection].shape == (docs, layers, *size)
            down, up = translator.down[f"{projection}_{side}"], translator.up[f"{projection}_{side}"]
            for doc, layer in itertools.product(range(docs), range(layers)):
                own = 0 if shared else layer
                code = torch.relu(down[own] @ torch.cat([vectors[doc], torch.tensor([float(layer)])]))
                torch.testing.assert_close(
                    half[projection][doc, layer], (up[own] @ code).reshape(size), atol=1e-5, rtol=1e-4
                )


def test_the_size_of_the_papers_translator_for_llama_1b():
    """The sizes of §3.2 with p = 32, r = 2 for LLaMA-3.2-1B: 16 layers, h = 2048, k = 8192."""
    features = {p: (8192, 2048) if p == "down_proj" else (2048, 8192) for p in PROJECTIONS}
    translator = Translator(TranslatorShape(2048, 16, 2, 16.0, 32, False, False, features))
    assert sum(parameter.numel() for parameter in translator.parameters()) == 16 * (
        6 * 32 * 2049 + 3 * (2048 * 2 * 32) + 3 * (8192 * 2 * 32)
    )


@pytest.mark.parametrize(("layers", "groups"), [("own", 2), ("shared", 1)])
@pytest.mark.parametrize("residual", [False, True])
def test_the_number_of_parameters_follows_the_formula(base: BaseModel, layers: str, groups: int, residual: bool):
    hidden, intermediate, width = 32, 64, 4
    # W_down: p by h + 1; W_up: hr by p on the hidden side, kr by p on the intermediate side; for A and B of 3 modules
    one_layer = 6 * width * (hidden + 1) + 3 * (hidden * RANK * width) + 3 * (intermediate * RANK * width)
    found = sum(parameter.numel() for parameter in make(base, layers, residual).parameters())
    assert found == groups * one_layer


def test_the_last_projection_has_the_configured_standard_deviation(base: BaseModel):
    for parameter in make(base, init_std=1e-7).up.values():
        assert parameter.std().item() == pytest.approx(1e-7, rel=0.2)


def test_a_new_residual_translator_gives_nearly_the_initial_adapter(base: BaseModel):
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
    loaded = load_translator(tmp_path, base)
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
        load_translator(tmp_path, base)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["translator.safetensors", "translator.json"])
def test_a_missing_file_is_an_error_of_the_artifact(base: BaseModel, tmp_path: Path, name: str):
    save_translator(make(base), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError):
        load_translator(tmp_path, base)


def test_files_that_do_not_fit_together_are_an_error_of_the_artifact(base: BaseModel, tmp_path: Path):
    save_translator(make(base, "shared"), tmp_path)
    shape = (tmp_path / "translator.json").read_text()
    save_translator(make(base, "own"), tmp_path)
    (tmp_path / "translator.json").write_text(shape)
    with pytest.raises(ArtifactError):
        load_translator(tmp_path, base)
    (tmp_path / "translator.json").write_text("{}")
    with pytest.raises(ArtifactError):
        load_translator(tmp_path, base)


@pytest.mark.parametrize("layers", ["own", "shared"])
def test_gradients_reach_every_parameter(base: BaseModel, layers: str):
    translator = make(base, layers)
    sum(tensor.square().sum() for tensor in translator(embeddings(base)).tensors().values()).backward()
    for name, parameter in translator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.flatten(1).abs().amax(1).min() > 0, name  # for every layer


def test_documents_do_not_influence_each_other(base: BaseModel):
    translator, vectors = make(base), embeddings(base)
    together = translator(vectors)
    alone = translator(vectors[1:2])
    for name, tensor in alone.tensors().items():
        torch.testing.assert_close(tensor[0], together.tensors()[name][1], atol=1e-6, rtol=1e-5)


@pytest.fixture
def official(base: BaseModel, tmp_path: Path) -> tuple[Path, torch.nn.ModuleDict]:
    return tmp_path / "epoch_0.pt", save_official_translator(tmp_path / "epoch_0.pt", base, RANK)


def test_an_official_translator_gives_the_same_matrices_and_is_not_scaled(
    base: BaseModel, official: tuple[Path, torch.nn.ModuleDict]
):
    path, networks = official
    translator, vectors = convert_official(path, RANK), embeddings(base)
    adapters = translator(vectors)
    assert adapters.scale == 1
    for projection in PROJECTIONS:
        fan_in, fan_out = base.features(projection)
        for layer in range(base.layers):
            network = networks[f"{projection}_{layer}"]
            for doc, vector in enumerate(vectors):
                for side, half, shape in (("A", adapters.a, (RANK, fan_in)), ("B", adapters.b, (fan_out, RANK))):
                    torch.testing.assert_close(half[projection][doc, layer], network(side, vector, layer, shape))


def test_code_in_an_official_file_is_an_error_and_does_not_run(tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"model_state_dict": Trap()}, tmp_path / "epoch_0.pt")
    with pytest.raises(ArtifactError, match="cannot be read"):
        convert_official(tmp_path / "epoch_0.pt", RANK)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_an_official_file_of_another_rank_is_an_error(official: tuple[Path, torch.nn.ModuleDict], rank: int):
    with pytest.raises(ArtifactError, match=f"not of rank {rank}"):
        convert_official(official[0], rank)


@pytest.mark.parametrize("harm", ["not a dictionary", "unlike widths", "a vector"])
def test_an_official_file_with_other_content_is_an_error(official: tuple[Path, torch.nn.ModuleDict], harm: str):
    path, _ = official
    state = torch.load(path, weights_only=True)["model_state_dict"]
    name = "projector.up_proj_1.projector.pre_A_linear.weight"
    if harm == "not a dictionary":
        state = torch.ones(3)
    else:
        state[name] = torch.ones(7, state[name].shape[1]) if harm == "unlike widths" else torch.ones(3)
    torch.save({"model_state_dict": state}, path)
    with pytest.raises(ArtifactError, match=r"cannot be read|do not fit"):
        convert_official(path, RANK)


def test_an_official_file_that_lacks_a_layer_is_an_error(official: tuple[Path, torch.nn.ModuleDict]):
    path, _ = official
    state = torch.load(path, weights_only=True)["model_state_dict"]
    torch.save({"model_state_dict": {n: t for n, t in state.items() if "up_proj_1" not in n}}, path)
    with pytest.raises(ArtifactError, match="every layer"):
        convert_official(path, RANK)


def test_a_translator_of_another_model_is_an_error(
    base: BaseModel, official: tuple[Path, torch.nn.ModuleDict], tmp_path: Path
):
    translator = convert_official(official[0], RANK)
    require_model(translator.shape, base, "mine")
    other = load_model(str(make_tiny_model(tmp_path / "other", layers=3)), "float32", "cpu")
    with pytest.raises(ArtifactError, match="2 layers of 32 and 64 features, this one 3 of 32 and 64"):
        require_model(translator.shape, other, "mine")


def test_scaling_and_initial_values_follow_the_settings(base: BaseModel, tmp_path: Path):
    settings = TranslatorSettings(width=4, scaling="none", init_std=1e-7, init_std_down=1e-7, residual=False)
    made = Translator.for_model(base, settings, RANK, ALPHA, SEED)
    assert made(embeddings(base)).scale == 1
    for parameter in made.parameters():
        assert parameter.std().item() == pytest.approx(1e-7, rel=0.2)
    save_translator(made, tmp_path)
    assert load_translator(tmp_path, base)(embeddings(base)).scale == 1
    for parameter in make(base).down.values():
        assert parameter.std().item() == pytest.approx((base.hidden + 1) ** -0.5, rel=0.2)
