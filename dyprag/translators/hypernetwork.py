"""The paper's hypernetwork: maps a document's embedding to its LoRA adapter in one forward pass (§3.2)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from dyprag.adapters.embedding import embed
from dyprag.adapters.lora import Adapters, initial_adapters
from dyprag.config import TranslatorSettings
from dyprag.errors import ArtifactError
from dyprag.model.base import PROJECTIONS, BaseModel


@dataclass(frozen=True)
class TranslatorShape:
    """The sizes that determine a translator's parameters; stored beside its weights.

    scale: the scale of its adapters: alpha / rank, or 1 if the delta is added unscaled as in the official code.
    width: the hidden size of the hypernetwork.
    shared: whether all layers share their weights.
    residual: whether only the difference from the initial adapter is predicted.
    """

    kind: ClassVar[str] = "hypernetwork"

    hidden: int
    layers: int
    rank: int
    scale: float
    width: int
    shared: bool
    residual: bool
    features: dict[str, tuple[int, int]]  # projection -> (in_features, out_features)
    normalize: bool = False  # layer norm on the embedding, whose entries differ much in size

    def untrained(self, base: BaseModel) -> "Translator":
        """Create a translator of this shape whose weights are yet to be loaded."""
        return Translator(self)


class Translator(nn.Module):
    """Predicts A and B of each FFN projection as W_up · ReLU(W_down · [s_i ; l]), reshaped to the LoRA matrix.

    There are no biases. The weights of all layers are one tensor, so a forward pass has no loop over layers:
    down[name] is [layers, width, hidden + 1] and up[name] is [layers, rank · features, width]. The first dimension is 1
    if the layers share their weights. `start` is the initial adapter, if only the difference is predicted.
    Weights are drawn from N(0, std); `down_std` defaults to 1 / √(hidden + 1).
    """

    reads_tokens = False

    def __init__(
        self, shape: TranslatorShape, init_std: float = 1e-7, seed: int = 0, down_std: float | None = None
    ) -> None:
        super().__init__()
        self.shape = shape
        generator = torch.Generator().manual_seed(seed)
        groups = 1 if shape.shared else shape.layers
        down, up = {}, {}
        for projection in PROJECTIONS:
            for side, features in zip("ab", shape.features[projection], strict=True):
                name = f"{projection}_{side}"
                fan_in = shape.hidden + 1
                down[name] = nn.Parameter(
                    torch.randn(groups, shape.width, fan_in, generator=generator) * (down_std or fan_in**-0.5)
                )
                size = (groups, shape.rank * features, shape.width)
                up[name] = nn.Parameter(torch.randn(size, generator=generator) * init_std)
        self.down, self.up = nn.ParameterDict(down), nn.ParameterDict(up)
        if shape.residual:
            for projection in PROJECTIONS:
                size = (shape.layers, shape.rank, shape.features[projection][0])
                self.register_buffer(f"start_{projection}", torch.zeros(size))

    @classmethod
    def for_model(
        cls, base: BaseModel, settings: TranslatorSettings, rank: int, alpha: float, seed: int
    ) -> "Translator":
        """Create a new translator for a base model and its trained adapters; `seed` is the initial adapter's."""
        shape = TranslatorShape(
            base.hidden, base.layers, rank, 1.0 if settings.scaling == "none" else alpha / rank, settings.width,
            settings.layers == "shared", settings.residual,
            {projection: base.features(projection) for projection in PROJECTIONS},
        )  # fmt: skip
        translator = cls(shape, settings.init_std, settings.seed, settings.init_std_down)
        if shape.residual:
            for projection, a in initial_adapters(base, rank, alpha, seed).a.items():
                getattr(translator, f"start_{projection}").copy_(a[0])
        return translator.to(base.device)

    @property
    def first_layer(self) -> int:
        """The first layer that the adapters change."""
        return 0

    def read(self, base: BaseModel, passages: Sequence[str]) -> list[Tensor]:
        """Embed passages for `translate`, [hidden] each."""
        return list(embed(base, passages))

    def translate(self, readings: Sequence[Tensor]) -> Adapters:
        """Translate documents into adapters, [docs, layers, …] float32."""
        adapters: Adapters = self(torch.stack(list(readings)).to(next(self.parameters()).device))
        return adapters

    def forward(self, embeddings: Tensor) -> Adapters:
        """Translate document embeddings, [docs, hidden] float32, into adapters, [docs, layers, …] float32."""
        shape = self.shape
        if shape.normalize:
            embeddings = layer_norm(embeddings, (shape.hidden,))
        docs = embeddings.shape[0]
        index = torch.arange(shape.layers, device=embeddings.device, dtype=embeddings.dtype)
        inputs = torch.cat(
            [embeddings[:, None].expand(-1, shape.layers, -1), index[None, :, None].expand(docs, -1, 1)], dim=-1
        )
        a, b = {}, {}
        for projection in PROJECTIONS:
            fan_in, fan_out = shape.features[projection]
            flat_a, flat_b = (self._matrix(f"{projection}_{side}", inputs) for side in "ab")
            a[projection] = flat_a.reshape(docs, shape.layers, shape.rank, fan_in)
            b[projection] = flat_b.reshape(docs, shape.layers, fan_out, shape.rank)
            if shape.residual:
                a[projection] = a[projection] + getattr(self, f"start_{projection}")
        return Adapters(a, b, shape.scale)

    def _matrix(self, name: str, inputs: Tensor) -> Tensor:
        """Map inputs, [docs, layers, hidden + 1], to a flat matrix, [docs, layers, rank · features]."""
        down, up = (weights[name].expand(self.shape.layers, -1, -1) for weights in (self.down, self.up))
        code = torch.relu(torch.einsum("dlh,lph->dlp", inputs, down))
        return torch.einsum("dlp,lop->dlo", code, up)


_OFFICIAL_NAME = re.compile(
    r"projector\.(gate_proj|up_proj|down_proj)_(\d+)\.projector\.(pre|post)_([AB])_linear\.weight"
)


def convert_official(checkpoint: Path, rank: int) -> Translator:
    """Read a translator saved by the official code (`epoch_N.pt`): separate weights per layer, unscaled delta.

    Only tensors are read from the file (`weights_only`); no code in it can run.

    Args:
        rank: the adapters' rank, which the file does not contain.

    Raises:
        ArtifactError: the file is not such a checkpoint, or has another rank.
    """

    def error_for(reason: str) -> ArtifactError:
        return ArtifactError(
            f"translator {checkpoint}", reason, "Give an epoch_N.pt of the official code and its rank."
        )

    matrices: dict[str, dict[int, Tensor]] = {}
    try:
        for name, tensor in torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state_dict"].items():
            if match := _OFFICIAL_NAME.fullmatch(name):
                projection, layer, stage, side = match.groups()
                kind = "down" if stage == "pre" else "up"
                matrices.setdefault(f"{kind}.{projection}_{side.lower()}", {})[int(layer)] = tensor.float()
    except Exception as error:  # torch, pickle and zipfile each raise their own exception types
        raise error_for(f"it cannot be read ({error})") from error
    names = {f"{kind}.{p}_{side}" for kind in ("down", "up") for p in PROJECTIONS for side in "ab"}
    layers = {tuple(sorted(numbers)) for numbers in matrices.values()}
    if set(matrices) != names or layers != {tuple(range(len(next(iter(layers)))))}:
        raise error_for("it does not contain all three projections of every layer")
    try:
        return _from_official(matrices, rank)
    except _WrongRank:
        raise error_for(f"its adapters are not of rank {rank}") from None
    except (RuntimeError, IndexError, ValueError) as error:
        raise error_for("its matrices do not fit together") from error


class _WrongRank(ValueError):
    pass


def _from_official(matrices: dict[str, dict[int, Tensor]], rank: int) -> Translator:
    """Create a translator from the official code's matrices, by name and layer."""
    weights = {
        name: torch.stack([tensor for _, tensor in sorted(by_layer.items())]) for name, by_layer in matrices.items()
    }
    features = {}
    for projection in PROJECTIONS:
        sizes = [weights[f"up.{projection}_{side}"].shape[1] for side in "ab"]
        if any(size % rank for size in sizes):
            raise _WrongRank
        features[projection] = (sizes[0] // rank, sizes[1] // rank)
    layers, width, inputs = weights["down.gate_proj_a"].shape
    if features["gate_proj"][0] != inputs - 1:
        raise _WrongRank
    translator = Translator(TranslatorShape(inputs - 1, layers, rank, 1.0, width, False, False, features))
    translator.load_state_dict(weights)
    return translator.eval()
