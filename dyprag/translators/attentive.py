"""The attentive translator, an alternative to the paper's hypernetwork (§3.2): it reads every token of a document.

One slot per rank of each adapted layer attends to the document's hidden states and yields a key and a value. The key
matches the FFN's input where the fact is asked for; the value is then added to the residual stream. A slot also points
at tokens, whose states and unembeddings are mixed into its key and value, so that names never seen in training can be
copied. Keys and values are predicted in the residual stream's basis, which all layers share; the frozen FFN maps them
to its inner features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from dyprag.adapters.lora import Adapters
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.translators.readings import Reading, pad_readings, read_passages


@dataclass(frozen=True)
class AttentiveShape:
    """The sizes that determine an attentive translator's parameters.

    layers, first: the base model's layers, and the first one that is adapted.
    sources: the layers whose inputs are read.
    width, heads, blocks: size of a slot, attention heads, and number of blocks.
    copy_tokens: whether a slot also mixes in the states and unembeddings of the tokens that it points at.
    spread: whether the slots of a source start out spread over the document, each at its own stretch.
    """

    kind: ClassVar[str] = "attentive"

    hidden: int
    layers: int
    first: int
    rank: int
    scale: float
    sources: tuple[int, ...]
    width: int
    heads: int
    blocks: int
    copy_tokens: bool
    features: dict[str, tuple[int, int]]
    spread: bool = False

    @property
    def slots(self) -> int:
        return (self.layers - self.first) * self.rank

    def untrained(self, base: BaseModel) -> "AttentiveTranslator":
        """Create a translator of this shape whose weights are yet to be loaded."""
        return AttentiveTranslator(base, self)


class Attention(nn.Module):
    """Multi-head attention, [docs, slots, width] to [docs, tokens, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        query, keys, values = (
            t.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for t in (self.query(x), keys, values)
        )
        mixed = scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.out(mixed.transpose(-3, -2).flatten(-2))


class Block(nn.Module):
    """Cross-attention of slots to the document, self-attention among slots, and an MLP."""

    def __init__(self, shape: AttentiveShape) -> None:
        super().__init__()
        width = shape.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.across, self.among = Attention(width, shape.heads), Attention(width, shape.heads)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Update the slots.

        x: [docs, sources, slots, width]; keys, values: [docs, sources, tokens, width]; mask: [docs, 1, 1, 1, tokens].
        """
        x = x + self.across(self.norms[0](x), keys, values, mask)
        flat = x.flatten(1, 2)
        normed = self.norms[1](flat)
        flat = flat + self.among(normed, *self.key_value(normed).chunk(2, -1), None)
        flat = flat + self.think(self.norms[2](flat))
        return flat.view(x.shape)


class AttentiveTranslator(nn.Module):
    """See the module's docstring. The frozen base model is used but is not part of the state."""

    reads_tokens = True

    def __init__(self, base: BaseModel, shape: AttentiveShape, seed: int = 0) -> None:
        super().__init__()
        self.shape, self.base = shape, base
        width, hidden, slots, sources = shape.width, shape.hidden, shape.slots, len(shape.sources)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.latents = nn.Parameter(torch.randn(slots, width))
            self.key_maps = nn.Parameter(torch.randn(sources, width, hidden) * hidden**-0.5)
            self.value_maps = nn.Parameter(torch.randn(sources, width, hidden) * hidden**-0.5)
            self.token_maps = nn.Parameter(torch.randn(2, width, hidden) * hidden**-0.5)
            self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
            self.norm = nn.LayerNorm(width)
            self.point = nn.Linear(width, width, bias=False)
            self.gates = nn.Linear(width, 4)
            # keys for gate, up, down, then values for gate, up, down
            self.heads = nn.Parameter(torch.randn(6, hidden, width) * width**-0.5)
            self.gains = nn.Parameter(torch.full((3, shape.layers - shape.first, shape.rank), 0.1))
            if shape.spread:
                self.near = nn.Parameter(torch.ones(sources, slots // sources))
        nn.init.constant_(self.gates.bias, 0.5)
        adapted = shape.layers - shape.first
        self.states_mean: Tensor
        self.inputs_mean: Tensor
        self.inner_mean: Tensor
        self.norms: Tensor
        self.register_buffer("states_mean", torch.zeros(sources, hidden))
        self.register_buffer("inputs_mean", torch.zeros(adapted, hidden))
        self.register_buffer("inner_mean", torch.zeros(adapted, shape.features["down_proj"][0]))
        self.register_buffer("norms", torch.ones(5, adapted))  # mean norms of centred inputs, inner, gate, up, out

    @classmethod
    def for_model(
        cls, base: BaseModel, shape: AttentiveShape, seed: int, prompts: Sequence[Sequence[int]]
    ) -> "AttentiveTranslator":
        """Create a new translator, calibrated on the base model's activations for some prompts."""
        translator = cls(base, shape, seed).to(base.device)
        translator.calibrate(prompts)
        return translator

    @torch.no_grad()
    def calibrate(self, prompts: Sequence[Sequence[int]]) -> None:
        """Measure each layer's mean and norm of activations, so that keys ignore what all tokens have in common."""
        base, first = self.base, self.shape.first
        block_inputs: list[list[Tensor]] = [[] for _ in base.blocks]
        hooks = [
            block.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
            for block, inputs in zip(base.blocks, block_inputs, strict=True)
        ]
        try:
            outputs = [
                base.model.get_decoder()(
                    input_ids=torch.tensor([list(prompt)], device=base.device),
                    use_cache=False, output_hidden_states=True,
                ).hidden_states
                for prompt in prompts
            ]  # fmt: skip
        finally:
            for hook in hooks:
                hook.remove()
        # the first token is an attention sink, far from all others
        for index, source in enumerate(self.shape.sources):
            self.states_mean[index] = torch.cat([states[source][0, 1:].float() for states in outputs]).mean(0)
        for layer in range(first, self.shape.layers):
            x = torch.cat([activations[0, 1:] for activations in block_inputs[layer]])
            block: Any = base.blocks[layer]
            gate, up = block.gate_proj(x), block.up_proj(x)
            inner = block.act_fn(gate) * up
            out = block.down_proj(inner)
            self.inputs_mean[layer - first] = x.float().mean(0)
            self.inner_mean[layer - first] = inner.float().mean(0)
            for index, activations in enumerate((x, inner, gate, up, out)):
                self.norms[index, layer - first] = (
                    (activations.float() - activations.float().mean(0)).norm(dim=-1).mean()
                )

    @property
    def first_layer(self) -> int:
        """The first layer that the adapters change."""
        return self.shape.first

    def read(self, base: BaseModel, passages: Sequence[str]) -> list[Reading]:
        """Read passages for `translate`."""
        return read_passages(base, passages, self.shape.sources)

    def translate(self, readings: Sequence[Reading]) -> Adapters:
        """Translate documents into adapters, [docs, layers, …] float32."""
        shape, base = self.shape, self.base
        states, ids, mask = pad_readings(readings, base)
        z, points, normed = self._slots(states, ids, mask)
        docs, adapted = z.shape[0], shape.layers - shape.first
        unembeddings = _next_token(self._unembedding(ids) * mask[..., None])
        per_source = points.view(docs, len(shape.sources), -1, points.shape[-1])
        copied_key = (per_source @ normed).flatten(1, 2)  # [docs, slots, hidden]
        copied_value = points @ unembeddings
        gates = self.gates(z) * shape.copy_tokens
        keys = torch.einsum("dsw,khw->kdsh", z, self.heads[:3]) * shape.hidden**-0.5
        values = torch.einsum("dsw,khw->kdsh", z, self.heads[3:]) * shape.hidden**-0.5
        split = (docs, adapted, shape.rank, shape.hidden)
        key_gate = (keys[0] + gates[..., 0:1] * copied_key).view(split)
        key_up = keys[1].view(split)
        key_down = (keys[2] + gates[..., 1:2] * copied_key).view(split)
        value_gate = (values[0] + gates[..., 2:3] * copied_value).view(split)
        value_up = values[1].view(split)
        value_down = (values[2] + gates[..., 3:4] * copied_value).view(split)
        return self._adapters(key_gate, key_up, key_down, value_gate, value_up, value_down)

    def _slots(self, states: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the blocks.

        Returns:
            The slots, [docs, slots, width]; where each points, [docs, slots, tokens]; and the normalised states,
            [docs, sources, tokens, hidden].
        """
        shape = self.shape
        docs, sources = states.shape[0], states.shape[1]
        normed = normalize(states - self.states_mean[:, None], dim=-1)
        embedded = normalize(self.base.model.get_input_embeddings()(ids).float(), dim=-1)
        scale = shape.hidden**0.5
        identity = linear(embedded * scale, self.token_maps[0]) + linear(
            _next_token(embedded * mask[..., None]) * scale, self.token_maps[1]
        )
        keys = torch.einsum("dsth,swh->dstw", normed * scale, self.key_maps) + identity[:, None]
        values = torch.einsum("dsth,swh->dstw", normed * scale, self.value_maps) + identity[:, None]
        score_mask = torch.where(mask, 0.0, -torch.inf)[:, None, None, None]  # [docs, 1, 1, 1, tokens]
        x = self.latents.view(sources, -1, shape.width).expand(docs, -1, -1, -1)
        distances = None
        if shape.spread:
            distances = _distances(mask, shape.slots // sources)[:, None]
            x = x + (score_mask[:, :, 0] - distances).softmax(-1) @ values
        for block in self.blocks:
            x = block(x, keys, values, score_mask)
        z = self.norm(x)
        points = (self.point(z) @ keys.mT) * shape.width**-0.5 + score_mask[:, :, 0]
        if distances is not None:
            points = points - self.near[..., None] * distances
        return z.flatten(1, 2), points.softmax(-1).flatten(1, 2), normed

    def _unembedding(self, ids: Tensor) -> Tensor:
        """Return unit directions of the residual stream that raise these tokens' logits, [docs, tokens, hidden]."""
        decoder = self.base.model.get_decoder()
        rows = self.base.model.get_output_embeddings().weight[ids].float()
        return normalize(rows * decoder.norm.weight.float(), dim=-1)

    def _adapters(self, key_gate: Tensor, key_up: Tensor, key_down: Tensor, value_gate: Tensor, value_up: Tensor,
                  value_down: Tensor) -> Adapters:  # fmt: skip
        """Convert keys and values, [docs, adapted, rank, hidden], to LoRA matrices of all layers."""
        shape, base = self.shape, self.base
        of_input, of_inner, of_gate, of_up, of_out = self.norms[:, None, :, None, None]
        mean = normalize(self.inputs_mean, dim=-1)[:, None]
        a_gate, a_up, unit = (_unit(_without(key, mean)) for key in (key_gate, key_up, key_down))
        a_down, b_gate, b_up = [], [], []
        inputs = self.inputs_mean[:, None] + unit * of_input
        for index in range(shape.layers - shape.first):
            block: Any = base.blocks[shape.first + index]
            x = inputs[:, index].to(base.dtype)
            inner = (block.act_fn(block.gate_proj(x)) * block.up_proj(x)).float() - self.inner_mean[index]
            a_down.append(_unit(_without(inner, normalize(self.inner_mean[index], dim=-1))))
            weight = block.down_proj.weight.float()
            b_gate.append(value_gate[:, index] @ weight / weight.norm() * shape.hidden**0.5)
            b_up.append(value_up[:, index] @ weight / weight.norm() * shape.hidden**0.5)
        gains = self.gains[:, None, :, :, None] / shape.scale
        a = {"gate_proj": a_gate / of_input, "up_proj": a_up / of_input, "down_proj": torch.stack(a_down, 1) / of_inner}
        b = {
            "gate_proj": torch.stack(b_gate, 1) * of_gate * gains[0],
            "up_proj": torch.stack(b_up, 1) * of_up * gains[1],
            "down_proj": value_down * of_out * gains[2],
        }
        below = (0, 0, 0, 0, shape.first, 0)
        return Adapters(
            {p: nn.functional.pad(a[p], below) for p in PROJECTIONS},
            {p: nn.functional.pad(b[p].mT, below) for p in PROJECTIONS},
            shape.scale,
        )


def _distances(mask: Tensor, count: int) -> Tensor:
    """Return each token's distance from the centres of `count` even stretches of its document, in stretches.

    Args:
        mask: [docs, tokens], False for padding.

    Returns:
        [docs, count, tokens].
    """
    longest = mask.shape[1]
    last = (mask * torch.arange(longest, device=mask.device)).amax(1)
    stretch = (last / count).clamp(min=1e-6)[:, None]
    centres = 1 + stretch * (torch.arange(count, device=mask.device) + 0.5)
    tokens = torch.arange(longest, device=mask.device) + 0.5
    return (tokens - centres[..., None]).abs() / stretch[..., None].clamp(min=1)


def _next_token(x: Tensor) -> Tensor:
    """Shift by one token, so that each position has the next token's value, [docs, tokens, …]; the last has zeros."""
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1)


def _without(x: Tensor, direction: Tensor) -> Tensor:
    return x - (x * direction).sum(-1, keepdim=True) * direction


def _unit(x: Tensor) -> Tensor:
    return normalize(x, dim=-1)
