"""Stage 2's hypernetwork: a document's embedding becomes its LoRA adapter in one forward pass (§3.2)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dyprag.config import TranslatorSettings
from dyprag.errors import ArtifactError
from dyprag.lora import Adapters, initial_adapters
from dyprag.models import PROJECTIONS, BaseModel


@dataclass(frozen=True)
class TranslatorShape:
    """All sizes that fix a translator's parameters; stored beside its weights."""

    hidden: int
    layers: int
    rank: int
    alpha: float
    width: int
    shared: bool
    residual: bool
    features: dict[str, tuple[int, int]]  # projection -> (in_features, out_features)


class Translator(nn.Module):
    """For each FFN projection and each of A and B: W_up · ReLU(W_down · [s_i ; l]), reshaped to the LoRA matrix.

    No biases. The weights of all layers are one tensor, so a forward pass has no loop over layers:
    down[name]: [layers, width, hidden + 1], up[name]: [layers, rank · features, width]; the first dimension is 1
    where the layers share their weights. `start` holds the initial adapter when only the difference is predicted.
    """

    def __init__(self, shape: TranslatorShape, init_std: float = 1e-7, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        generator = torch.Generator().manual_seed(seed)
        groups = 1 if shape.shared else shape.layers
        down, up = {}, {}
        for projection in PROJECTIONS:
            for side, features in zip("ab", shape.features[projection], strict=True):
                name = f"{projection}_{side}"
                fan_in = shape.hidden + 1
                down[name] = nn.Parameter(torch.randn(groups, shape.width, fan_in, generator=generator) * fan_in**-0.5)
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
        """A fresh translator for a base model and the adapters trained on it; `seed` is the initial adapter's."""
        shape = TranslatorShape(
            base.hidden, base.layers, rank, alpha, settings.width, settings.layers == "shared", settings.residual,
            {projection: base.features(projection) for projection in PROJECTIONS},
        )  # fmt: skip
        translator = cls(shape, settings.init_std, settings.seed)
        if shape.residual:
            for projection, a in initial_adapters(base, rank, alpha, seed).a.items():
                getattr(translator, f"start_{projection}").copy_(a[0])
        return translator.to(base.device)

    def forward(self, embeddings: Tensor) -> Adapters:
        """Translate document embeddings, [docs, hidden] float32, into adapters, [docs, layers, …] float32."""
        shape = self.shape
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
        return Adapters(a, b, shape.alpha / shape.rank)

    def _matrix(self, name: str, inputs: Tensor) -> Tensor:
        """[docs, layers, hidden + 1] to [docs, layers, rank · features]."""
        down, up = (weights[name].expand(self.shape.layers, -1, -1) for weights in (self.down, self.up))
        code = torch.relu(torch.einsum("dlh,lph->dlp", inputs, down))
        return torch.einsum("dlp,lop->dlo", code, up)


def save_translator(translator: Translator, folder: Path) -> None:
    """translator.safetensors (weights) and translator.json (shape)."""
    save_file({k: t.contiguous().cpu() for k, t in translator.state_dict().items()}, folder / "translator.safetensors")
    (folder / "translator.json").write_text(json.dumps(asdict(translator.shape), indent=1))


def load_translator(folder: Path) -> Translator:
    """Read what `save_translator` wrote.

    Raises:
        ArtifactError: files that do not fit together.
    """
    try:
        raw = json.loads((folder / "translator.json").read_text())
        raw["features"] = {projection: tuple(sizes) for projection, sizes in raw["features"].items()}
        translator = Translator(TranslatorShape(**raw))
        translator.load_state_dict(load_file(folder / "translator.safetensors"))
    except Exception as error:  # safetensors raises its own kind for a truncated file
        raise ArtifactError(f"translator {folder}", f"it cannot be read ({error})", "Train it again.") from error
    return translator.eval()
