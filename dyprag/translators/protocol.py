"""Translators of either kind: what they have in common, how they are made, and their files.

The paper's (`hypernetwork`) sees a document's last hidden state, the attentive one (`attentive`) all tokens.
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
    """All sizes that fix a translator's parameters: a data class that stands in its translator.json."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]  # in translator.json and in the settings

    @property
    def hidden(self) -> int: ...

    @property
    def layers(self) -> int: ...

    @property
    def features(self) -> dict[str, tuple[int, int]]: ...

    def untrained(self, base: BaseModel) -> "Translator | AttentiveTranslator":
        """A translator of this shape that waits for its weights."""
        ...


class Translating(Protocol):
    """A translator: it reads passages once, with the base model, and makes adapters of what it read."""

    @property
    def reads_tokens(self) -> bool:
        """Whether it reads every token of a passage, so that only `read` gives what it needs. Otherwise it reads the
        passage's embedding, which may come from the store, and its adapters can be averaged matrix by matrix."""
        ...

    @property
    def first_layer(self) -> int:
        """The first layer that its adapters change."""
        ...

    def read(self, base: BaseModel, passages: Sequence[str]) -> list[Any]:
        """What `translate` needs of each passage."""
        ...

    def translate(self, readings: Sequence[Any]) -> Adapters:
        """Adapters, [docs, layers, …] float32, of documents that were read."""
        ...


SHAPES: dict[str, Callable[..., Shape]] = {shape.kind: shape for shape in (AttentiveShape, TranslatorShape)}


def first_translator(
    base: BaseModel, settings: LearnSettings, prompts: Sequence[Sequence[int]], start: Path | None = None
) -> nn.Module:
    """A translator to be trained: a fresh one, or with the weights in a folder.

    Args:
        prompts: as `fresh_translator` takes them.

    Raises:
        ConfigError: sizes that do not fit the base model, or other ones than the folder's translator has.
        ArtifactError: the folder's translator cannot be read, or is another model's.
    """
    if start is None:
        return fresh_translator(base, settings, prompts)
    found = load_translator(start, base)
    wanted, there = asdict(_shape(base, settings)), asdict(found.shape)
    other = [f"{name} {there.get(name)}" for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    if other:
        raise ConfigError(
            "setting 'learn.start'", f"the translator in {start} has other sizes than are set: {', '.join(other)}",
            "Set learn's sizes to these, or learn.start to another one.",
        )  # fmt: skip
    return found


def fresh_translator(base: BaseModel, settings: LearnSettings, prompts: Sequence[Sequence[int]]) -> nn.Module:
    """A translator to be trained, of the kind set.

    Args:
        prompts: token ids of some documents and questions, on which the attentive kind is calibrated.

    Raises:
        ConfigError: sizes that do not fit the base model.
    """
    if settings.kind == "attentive":
        return AttentiveTranslator.for_model(base, _attentive_shape(base, settings), settings.seed, prompts)
    made = Translator(_hypernetwork_shape(base, settings), settings.init_std, settings.seed)
    if settings.residual:
        for projection, a in initial_adapters(base, settings.rank, settings.alpha, settings.seed).a.items():
            getattr(made, f"start_{projection}").copy_(a[0])
    return made.to(base.device)


def _shape(base: BaseModel, settings: LearnSettings) -> Shape:
    return _attentive_shape(base, settings) if settings.kind == "attentive" else _hypernetwork_shape(base, settings)


def _hypernetwork_shape(base: BaseModel, settings: LearnSettings) -> TranslatorShape:
    features = {projection: base.features(projection) for projection in PROJECTIONS}
    return TranslatorShape(base.hidden, base.layers, settings.rank, settings.alpha / settings.rank, settings.width,
                           False, settings.residual, features, settings.normalize)  # fmt: skip


def _attentive_shape(base: BaseModel, settings: LearnSettings) -> AttentiveShape:
    features = {projection: base.features(projection) for projection in PROJECTIONS}
    adapted = base.layers - settings.first_layer
    if adapted < settings.sources or adapted % settings.sources:
        raise ConfigError(
            "setting 'learn.sources'",
            f"the {adapted} layers from {settings.first_layer} on cannot be divided evenly among {settings.sources}",
            "Change learn.first_layer or learn.sources.",
        )
    if settings.width % settings.heads:
        raise ConfigError("setting 'learn.width'", "it is not a multiple of learn.heads", "Choose a multiple.")
    step = adapted // settings.sources
    sources = tuple(settings.first_layer + step * place + step // 2 for place in range(settings.sources))
    return AttentiveShape(base.hidden, base.layers, settings.first_layer, settings.rank, settings.alpha / settings.rank,
                          sources, settings.width, settings.heads, settings.blocks, settings.copy_tokens, features,
                          settings.spread)  # fmt: skip


def save_translator(translator: nn.Module, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """translator.safetensors (weights, in the dtype given) and translator.json (kind and shape)."""
    weights = {name: tensor.to(dtype).contiguous().cpu() for name, tensor in translator.state_dict().items()}
    save_file(weights, folder / "translator.safetensors")
    shape: Shape = cast(Any, translator).shape
    (folder / "translator.json").write_text(json.dumps({"kind": shape.kind, **asdict(shape)}, indent=1))


def load_translator(folder: Path, base: BaseModel) -> "Translator | AttentiveTranslator":
    """Read what `save_translator` wrote, for the base model that it was trained with.

    Raises:
        ArtifactError: files that do not fit together, or another model's.
    """
    try:
        raw = json.loads((folder / "translator.json").read_text())
        raw["features"] = {projection: tuple(sizes) for projection, sizes in raw["features"].items()}
        weights = load_file(folder / "translator.safetensors")
        of_kind = SHAPES[raw.pop("kind", TranslatorShape.kind)]  # the only one there was before it was written down
        shape = of_kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})
    except Exception as error:  # safetensors raises its own kind for a truncated file
        raise ArtifactError(f"translator {folder}", f"it cannot be read ({error})", "Train it again.") from error
    require_model(shape, base, str(folder))
    made = shape.untrained(base)
    try:
        made.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(f"translator {folder}", f"it cannot be read ({error})", "Train it again.") from error
    return made.to(base.device).eval()


def require_model(shape: Shape, base: BaseModel, name: str) -> None:
    """Make sure that a translator's adapters fit a base model.

    Raises:
        ArtifactError: it was trained for a model of other sizes.
    """
    made = shape.hidden, shape.layers, tuple(shape.features["gate_proj"])
    wanted = base.hidden, base.layers, base.features("gate_proj")
    if made != wanted:
        raise ArtifactError(
            f"translator {name}",
            f"its model has {made[1]} layers of {made[2][0]} and {made[2][1]} features, this one {wanted[1]} of "
            f"{wanted[2][0]} and {wanted[2][1]}",
            "Choose the model that it was trained for (--set model.name=…).",
        )
