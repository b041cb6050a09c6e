"""What both kinds of translator have in common: protocols, creation, saving and loading.

The paper's kind (`hypernetwork`) reads a document's last hidden state, the `attentive` kind reads all tokens.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dyprag.adapters.lora import Adapters, initial_adapters
from dyprag.config import LearnSettings
from dyprag.errors import ArtifactError, ConfigError
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.translators.attentive import AttentiveShape, AttentiveTranslator
from dyprag.translators.hypernetwork import Translator, TranslatorShape


class Shape(Protocol):
    """The sizes that determine a translator's parameters: a data class, stored in translator.json."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]  # as in translator.json and in the settings

    @property
    def hidden(self) -> int: ...

    @property
    def layers(self) -> int: ...

    @property
    def features(self) -> dict[str, tuple[int, int]]: ...

    def untrained(self, base: BaseModel) -> "Translator | AttentiveTranslator":
        """Create a translator of this shape whose weights are yet to be loaded."""
        ...


class Translating(Protocol):
    """A translator: reads passages with the base model, and makes adapters from the readings."""

    @property
    def reads_tokens(self) -> bool:
        """Whether it reads every token of a passage, and so needs `read`.

        Otherwise it needs only the passage's embedding, which may come from the store, and its adapters can be averaged
        matrix by matrix.
        """
        ...

    @property
    def first_layer(self) -> int:
        """The first layer that the adapters change."""
        ...

    def read(self, base: BaseModel, passages: Sequence[str]) -> list[Any]:
        """Read passages for `translate`."""
        ...

    def translate(self, readings: Sequence[Any]) -> Adapters:
        """Translate documents into adapters, [docs, layers, …] float32."""
        ...


SHAPES: dict[str, Callable[..., Shape]] = {shape.kind: shape for shape in (AttentiveShape, TranslatorShape)}


def first_translator(
    base: BaseModel, settings: LearnSettings, prompts: Sequence[Sequence[int]], start: Path | None = None
) -> nn.Module:
    """Create a translator for training: a new one, or one with the weights of the folder `start`.

    Args:
        prompts: see `fresh_translator`.

    Raises:
        ConfigError: the configured sizes do not fit the base model, or differ from the folder's translator.
        ArtifactError: the folder's translator cannot be read, or belongs to another model.
    """
    if start is None:
        return fresh_translator(base, settings, prompts)
    loaded = load_translator(start, base)
    configured, stored = asdict(_shape(base, settings)), asdict(loaded.shape)
    different = [
        f"{name} {stored.get(name)}" for name in {**stored, **configured} if stored.get(name) != configured.get(name)
    ]
    if different:
        raise ConfigError(
            "setting 'learn.start'",
            f"the translator in {start} has other sizes than configured: {', '.join(different)}",
            "Set the learn settings to these sizes, or learn.start to another translator.",
        )  # fmt: skip
    return loaded


def fresh_translator(base: BaseModel, settings: LearnSettings, prompts: Sequence[Sequence[int]]) -> nn.Module:
    """Create a new translator of the configured kind.

    Args:
        prompts: token ids of documents and questions, used to calibrate the attentive kind.

    Raises:
        ConfigError: the configured sizes do not fit the base model.
    """
    if settings.kind == "attentive":
        return AttentiveTranslator.for_model(base, _attentive_shape(base, settings), settings.seed, prompts)
    translator = Translator(_hypernetwork_shape(base, settings), settings.init_std, settings.seed)
    if settings.residual:
        for projection, a in initial_adapters(base, settings.rank, settings.alpha, settings.seed).a.items():
            getattr(translator, f"start_{projection}").copy_(a[0])
    return translator.to(base.device)


def _shape(base: BaseModel, settings: LearnSettings) -> Shape:
    return _attentive_shape(base, settings) if settings.kind == "attentive" else _hypernetwork_shape(base, settings)


def _hypernetwork_shape(base: BaseModel, settings: LearnSettings) -> TranslatorShape:
    features = {projection: base.features(projection) for projection in PROJECTIONS}
    return TranslatorShape(base.hidden, base.layers, settings.rank, settings.alpha / settings.rank, settings.width,
                           False, settings.residual, features, settings.normalize)  # fmt: skip


def _attentive_shape(base: BaseModel, settings: LearnSettings) -> AttentiveShape:
    features = {projection: base.features(projection) for projection in PROJECTIONS}
    adapted = base.layers - settings.first_layer
    divisors = [n for n in range(1, adapted + 1) if adapted % n == 0]
    if settings.sources not in divisors:
        one_of = f"Set it to one of {', '.join(map(str, divisors))}, or change" if divisors else "Lower"
        raise ConfigError(
            "setting 'learn.sources'",
            f"the model's {max(0, adapted)} layers from {settings.first_layer} on cannot be divided evenly among "
            f"{settings.sources} sources", f"{one_of} learn.first_layer.",
        )  # fmt: skip
    if settings.width % settings.heads:
        raise ConfigError("setting 'learn.width'", "it is not a multiple of learn.heads", "Choose a multiple.")
    step = adapted // settings.sources
    sources = tuple(settings.first_layer + step * index + step // 2 for index in range(settings.sources))
    return AttentiveShape(base.hidden, base.layers, settings.first_layer, settings.rank, settings.alpha / settings.rank,
                          sources, settings.width, settings.heads, settings.blocks, settings.copy_tokens, features,
                          settings.spread)  # fmt: skip


def save_translator(translator: nn.Module, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write translator.safetensors (weights in the given dtype) and translator.json (kind and shape)."""
    weights = {name: tensor.to(dtype).contiguous().cpu() for name, tensor in translator.state_dict().items()}
    save_file(weights, folder / "translator.safetensors")
    shape: Shape = cast(Any, translator).shape
    (folder / "translator.json").write_text(json.dumps({"kind": shape.kind, **asdict(shape)}, indent=1))


def load_translator(folder: Path, base: BaseModel) -> "Translator | AttentiveTranslator":
    """Load a translator saved by `save_translator`, for the base model that it was trained with.

    Raises:
        ArtifactError: the files cannot be read, do not fit together, or belong to another model.
    """
    try:
        raw = json.loads((folder / "translator.json").read_text())
        raw["features"] = {projection: tuple(sizes) for projection, sizes in raw["features"].items()}
        weights = load_file(folder / "translator.safetensors")
        shape_class = SHAPES[raw.pop("kind", TranslatorShape.kind)]  # older files do not name their kind
        shape = shape_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})
    except Exception as error:  # safetensors raises its own exception type for a truncated file
        raise ArtifactError(f"translator {folder}", f"it cannot be read ({error})", "Train it again.") from error
    require_model(shape, base, str(folder))
    translator = shape.untrained(base)
    try:
        translator.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(f"translator {folder}", f"it cannot be read ({error})", "Train it again.") from error
    return translator.to(base.device).eval()


def require_model(shape: Shape, base: BaseModel, name: str) -> None:
    """Check that a translator's adapters fit a base model.

    Raises:
        ArtifactError: the translator was trained for a model of other sizes.
    """
    expected = shape.hidden, shape.layers, tuple(shape.features["gate_proj"])
    actual = base.hidden, base.layers, base.features("gate_proj")
    if expected != actual:
        raise ArtifactError(
            f"translator {name}",
            f"its model has {expected[1]} layers of {expected[2][0]} and {expected[2][1]} features, "
            f"this one {actual[1]} of {actual[2][0]} and {actual[2][1]}",
            "Choose the model that it was trained for (--set model.name=…).",
        )
