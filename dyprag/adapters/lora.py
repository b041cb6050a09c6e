"""LoRA adapters of one or many documents: shapes, merging, and storage in PEFT's format.

An adapter adds scale · B·A to gate_proj, up_proj and down_proj of every layer (§3.1).
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import pad as pad_tensor

from dyprag.errors import ArtifactError
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.model.files import public_name


@dataclass(frozen=True)
class Adapters:
    """The stacked LoRA matrices of `docs` documents.

    a[proj]: [docs, layers, rank, in_features].
    b[proj]: [docs, layers, out_features, rank].
    scale: alpha / rank.
    """

    a: dict[str, Tensor]
    b: dict[str, Tensor]
    scale: float

    @property
    def docs(self) -> int:
        return self.a["gate_proj"].shape[0]

    @property
    def rank(self) -> int:
        return self.a["gate_proj"].shape[2]

    def to(self, *args: Any) -> "Adapters":
        """Return the adapters on another device or in another dtype."""
        return Adapters(
            {p: t.to(*args) for p, t in self.a.items()}, {p: t.to(*args) for p, t in self.b.items()}, self.scale
        )

    def times(self, strength: float) -> "Adapters | None":
        """Return the adapters with each delta multiplied by `strength`; None for 0 (an unchanged model)."""
        if strength == 1:
            return self
        return Adapters(self.a, self.b, self.scale * strength) if strength else None

    def detach(self) -> "Adapters":
        """Return the adapters detached from the autograd graph."""
        return Adapters(
            {p: t.detach() for p, t in self.a.items()}, {p: t.detach() for p, t in self.b.items()}, self.scale
        )

    def copy(self) -> "Adapters":
        """Return the adapters with matrices of their own."""
        return Adapters(
            {p: t.clone() for p, t in self.a.items()}, {p: t.clone() for p, t in self.b.items()}, self.scale
        )

    def require_gradients(self) -> list[Tensor]:
        """Make the matrices trainable, and return them."""
        return [tensor.requires_grad_(True) for tensor in self.tensors().values()]

    def select(self, docs: Sequence[int]) -> "Adapters":
        """Return the adapters of the given documents, in that order."""
        index = list(docs)
        return Adapters({p: t[index] for p, t in self.a.items()}, {p: t[index] for p, t in self.b.items()}, self.scale)

    def of_rows(self, rows: Sequence[int]) -> "Adapters":
        """Return the adapters of some rows of a batch; nothing is copied if all rows are meant or share one."""
        return self if self.docs == 1 or list(rows) == list(range(self.docs)) else self.select(rows)

    def firsts(self) -> list[int]:
        """For each document, the first one that has the same matrices."""
        alike: dict[float, list[int]] = {}
        found: list[int] = []
        # documents with equal sums may be equal; only those are compared as a whole
        for doc, total in enumerate(self.b["down_proj"].float().sum((1, 2, 3)).tolist()):
            others = alike.setdefault(total, [])
            first = next((other for other in others if self._same(doc, other)), doc)
            if first == doc:
                others.append(doc)
            found.append(first)
        return found

    def digest(self) -> str:
        """A name for the contents of the matrices and their scale."""
        digest = hashlib.blake2b(f"{self.scale}".encode(), digest_size=16)
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
        return digest.hexdigest()

    def _same(self, one: int, other: int) -> bool:
        return all(torch.equal(tensor[one], tensor[other]) for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Return the matrices by name: `gate_proj.a` … `down_proj.b`."""
        return {f"{p}.{side}": t for side, half in (("a", self.a), ("b", self.b)) for p, t in half.items()}

    @property
    def nbytes(self) -> int:
        """The bytes of all matrices in memory."""
        return sum(t.nbytes for t in self.tensors().values())


def initial_adapters(base: BaseModel, rank: int, alpha: float, seed: int, docs: int = 1) -> Adapters:
    """Create the initial adapter of every document (§3.1): random A as in PEFT, zero B, float32.

    PEFT's default is kaiming_uniform with a = √5, that is U(-1/√in, 1/√in). All documents start from the same adapter,
    so that the translator can regress onto the trained ones.
    """
    generator = torch.Generator().manual_seed(seed)
    a, b = {}, {}
    for projection in PROJECTIONS:
        fan_in, fan_out = base.features(projection)
        bound = fan_in**-0.5
        initial = torch.empty(1, base.layers, rank, fan_in).uniform_(-bound, bound, generator=generator)
        a[projection] = initial.expand(docs, -1, -1, -1).clone().to(base.device)
        b[projection] = torch.zeros(docs, base.layers, fan_out, rank, device=base.device)
    return Adapters(a, b, alpha / rank)


def stack(adapters: Sequence[Adapters]) -> Adapters:
    """Concatenate adapters along the document dimension: [docs₁ + docs₂ + …].

    Raises:
        ValueError: the adapters differ in scale.
    """
    scales = {adapter.scale for adapter in adapters}
    if len(scales) != 1:
        raise ValueError(f"adapters of different scales cannot be stacked: {sorted(scales)}")
    return Adapters(
        {p: torch.cat([adapter.a[p] for adapter in adapters]) for p in PROJECTIONS},
        {p: torch.cat([adapter.b[p] for adapter in adapters]) for p in PROJECTIONS},
        scales.pop(),
    )


def merge(adapters: Adapters, how: str, scores: Sequence[float] = ()) -> Adapters:
    """Merge the adapters of a question's c documents into one adapter (§3.3).

    Args:
        adapters: [c, layers, …].
        how: "sum" of the deltas (PRAG); "mean" of the deltas; "weighted": the sum of the deltas weighted by the softmax
            of the retrieval scores, so that a clear winner is hardly changed; "matrices": the mean of the A's and the
            mean of the B's, as in the official DyPRAG code. The last is not the mean of the deltas.
        scores: the documents' retrieval scores, for "weighted".

    Returns:
        [1, layers, …]. The rank is unchanged for "matrices" and c·rank otherwise.
    """
    if how == "matrices":
        return Adapters(
            {p: t.mean(0, keepdim=True) for p, t in adapters.a.items()},
            {p: t.mean(0, keepdim=True) for p, t in adapters.b.items()},
            adapters.scale,
        )
    weights: Tensor = {
        "sum": torch.ones(adapters.docs),
        "mean": torch.full((adapters.docs,), 1 / adapters.docs),
        "weighted": torch.tensor(list(scores), dtype=torch.float32).softmax(0),
    }[how]
    if len(weights) != adapters.docs:
        raise ValueError(f"{adapters.docs} adapters and {len(weights)} scores")
    a, b = {}, {}
    for projection in PROJECTIONS:  # concatenating ranks adds the deltas: [B₁ B₂]·[A₁; A₂] = B₁A₁ + B₂A₂
        a[projection] = torch.cat(adapters.a[projection].unbind(0), dim=1)[None]
        weighted = adapters.b[projection] * weights.to(adapters.b[projection])[:, None, None, None]
        b[projection] = torch.cat(weighted.unbind(0), dim=2)[None]
    return Adapters(a, b, adapters.scale)


def together(adapters: Adapters, count: int) -> Adapters:
    """Put each document's adapter in place together with those of the `count` - 1 documents after it, in a circle.

    Args:
        adapters: [docs, layers, …].

    Returns:
        [docs, layers, …] of rank count·rank: the sums of the deltas.
    """
    if count == 1:
        return adapters
    docs = adapters.docs
    shifted = [adapters.select([(index + shift) % docs for index in range(docs)]) for shift in range(count)]
    a = {p: torch.cat([each.a[p] for each in shifted], 2) for p in PROJECTIONS}
    b = {p: torch.cat([each.b[p] for each in shifted], 3) for p in PROJECTIONS}
    return Adapters(a, b, adapters.scale)


def stack_rows(rows: Sequence[Adapters | None]) -> Adapters | None:
    """Stack one adapter per row of a batch, with zeros for missing adapters and missing ranks.

    If all rows share the same object, it is returned as it is, so that it is computed once.
    """
    first = next((row for row in rows if row is not None), None)
    if first is None or all(row is first for row in rows):
        return first
    rank = max(row.rank for row in rows if row is not None)
    zero = Adapters(
        {p: torch.zeros_like(t) for p, t in first.a.items()},
        {p: torch.zeros_like(t) for p, t in first.b.items()},
        first.scale,
    )
    padded = []
    for row in (zero if row is None else row for row in rows):
        missing = rank - row.rank
        a = {p: pad_tensor(row.a[p], (0, 0, 0, missing)) for p in PROJECTIONS}
        b = {p: pad_tensor(row.b[p], (0, missing)) for p in PROJECTIONS}
        padded.append(Adapters(a, b, row.scale))
    return stack(padded)


_PEFT_NAME = re.compile(r"base_model\.model\.(?P<path>.+)\.(?P<proj>\w+)\.lora_(?P<side>[AB])\.weight")


def save_peft(base: BaseModel, adapter: Adapters, folder: Path, model_name: str) -> None:
    """Write a document's adapter ([1, layers, …]) in PEFT's format: adapter_config.json and safetensors.

    The configuration names the base model as other programs load it. The matrices keep their dtype; PEFT computes with
    float32 copies of bfloat16 matrices.
    """
    from peft import LoraConfig

    names = {module: name for name, module in base.model.named_modules()}
    tensors = {}
    for projection in PROJECTIONS:
        for layer, block in enumerate(base.blocks):
            for side, half in (("A", adapter.a), ("B", adapter.b)):
                name = f"base_model.model.{names[block]}.{projection}.lora_{side}.weight"
                tensors[name] = half[projection][0, layer].detach().cpu().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = LoraConfig(
        r=adapter.rank, lora_alpha=_integer_if_whole(adapter.scale * adapter.rank), lora_dropout=0.0, bias="none",
        target_modules=list(PROJECTIONS), task_type="CAUSAL_LM", base_model_name_or_path=public_name(model_name),
        inference_mode=True,
    )  # fmt: skip
    config.target_modules = sorted(PROJECTIONS)  # PEFT keeps a set, whose order differs between processes
    config.save_pretrained(str(folder))


def load_peft(folder: Path) -> Adapters:
    """Read a document's adapter in PEFT's format: [1, layers, …], float32, on the CPU.

    Raises:
        ArtifactError: the files are missing or damaged, or the adapter does not cover the FFN of every layer.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
    except Exception as error:  # safetensors raises its own exception type for a truncated file
        raise ArtifactError(f"adapter {folder}", f"it cannot be read ({error})", "Recreate it: dyprag run.") from error
    matrices: dict[tuple[str, str], dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _PEFT_NAME.fullmatch(name)
        layer = re.search(r"\.(\d+)\.", match["path"]) if match else None
        if not match or not layer or match["proj"] not in PROJECTIONS:
            raise ArtifactError(f"adapter {folder}", f"it adapts {name}", "Only FFN adapters can be used here.")
        matrices.setdefault((match["proj"], match["side"]), {})[int(layer[1])] = tensor
    layers = {tuple(sorted(matrices.get((p, side), {}))) for p in PROJECTIONS for side in "AB"}
    if layers != {tuple(range(len(next(iter(layers)))))} or layers == {()}:
        raise ArtifactError(
            f"adapter {folder}",
            "it does not adapt gate_proj, up_proj and down_proj of every layer",
            "Train it on all three.",
        )
    halves = {
        side: {p: torch.stack([t.float() for _, t in sorted(matrices[p, side].items())])[None] for p in PROJECTIONS}
        for side in "AB"
    }
    return Adapters(halves["A"], halves["B"], config["lora_alpha"] / config["r"])


def load_fitting(base: BaseModel, folder: Path) -> Adapters:
    """Read an adapter in PEFT's format for a model: [1, layers, …], on its device and in its dtype.

    Raises:
        ArtifactError: it cannot be read, or it is for a model of other sizes.
    """
    adapter = load_peft(folder)
    sizes = {p: (adapter.a[p].shape[1], adapter.a[p].shape[3], adapter.b[p].shape[2]) for p in PROJECTIONS}
    if sizes != {p: (base.layers, *base.features(p)) for p in PROJECTIONS}:
        raise ArtifactError(f"adapter {folder}", "it is for a model of other sizes", "Use an adapter of this model.")
    return adapter.to(base.device, base.dtype)


def _integer_if_whole(number: float) -> Any:
    return int(number) if float(number).is_integer() else number
