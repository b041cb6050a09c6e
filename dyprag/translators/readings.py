"""What the attentive translator reads of a document: token ids and hidden states of the base model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from dyprag.adapters.forward import fast_attention
from dyprag.config import MOST_TOGETHER
from dyprag.errors import DocumentError
from dyprag.model.base import BaseModel, neutralise
from dyprag.model.batches import alike, pad

CPU_BATCH = 16  # passages read together on a CPU


@dataclass(frozen=True)
class Reading:
    """A document as the base model reads it.

    ids: [tokens].
    states: [sources, tokens, hidden], bfloat16, the inputs of the layers `sources`.
    """

    ids: Tensor
    states: Tensor


@torch.no_grad()
def read_passages(base: BaseModel, passages: Sequence[str], sources: Sequence[int]) -> list[Reading]:
    """Read passages with the base model, in batches of similar length.

    Args:
        sources: the layers whose inputs are kept; the number of layers means the last layer's output.

    Raises:
        DocumentError: a passage has no text.
    """
    tokens = [base.tokenizer(neutralise(text, base.tokenizer))["input_ids"][: base.max_tokens] for text in passages]
    if not all(tokens):
        raise DocumentError("a passage", "it has no text", "Add text to it, or remove it.")
    readings: dict[int, Reading] = {}
    limit = CPU_BATCH if base.device.type == "cpu" else MOST_TOGETHER
    for batch in alike([len(row) for row in tokens], limit):
        ids, _ = pad([tokens[index] for index in batch], base, side="right")
        with base.lock, fast_attention(base, ids.shape[1]):
            states = _layer_inputs(base, ids, sources)
        kept = torch.stack(states, 1).bfloat16()
        for row, index in enumerate(batch):
            length = len(tokens[index])
            readings[index] = Reading(ids[row, :length].clone(), kept[row, :, :length].clone())
    return [readings[index] for index in range(len(tokens))]


class _AllRead(Exception):
    """Ends a forward pass whose later layers nobody needs."""


def _layer_inputs(base: BaseModel, ids: Tensor, sources: Sequence[int]) -> list[Tensor]:
    """Run the base model as far as needed; returns the inputs of the layers `sources`, [rows, tokens, hidden] each.

    Args:
        sources: in ascending order; the number of layers means the last layer's output.
    """
    decoder = base.model.get_decoder()
    layers, last = getattr(decoder, "layers", ()), sources[-1]
    if last >= len(layers) or len(layers) != base.layers:
        hidden_states = decoder(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
        return [hidden_states[source] for source in sources]
    inputs: dict[int, Tensor] = {}

    def keep(source: int, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        inputs[source] = given[0] if given else named["hidden_states"]
        if source == last:
            raise _AllRead

    hooks = [
        layers[source].register_forward_pre_hook(
            lambda _, given, named, source=source: keep(source, given, named), with_kwargs=True
        )
        for source in sources
    ]
    try:
        with suppress(_AllRead):
            decoder(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [inputs[source] for source in sources]


def pad_readings(readings: Sequence[Reading], base: BaseModel) -> tuple[Tensor, Tensor, Tensor]:
    """Pad readings; returns states [docs, sources, tokens, hidden] float32, ids and mask [docs, tokens]."""
    longest = max(len(reading.ids) for reading in readings)
    sources, _, hidden = readings[0].states.shape
    states = torch.zeros(len(readings), sources, longest, hidden, device=base.device)
    ids = torch.zeros(len(readings), longest, dtype=torch.long, device=base.device)
    mask = torch.zeros(len(readings), longest, dtype=torch.bool, device=base.device)
    for row, reading in enumerate(readings):
        length = len(reading.ids)
        states[row, :, :length] = reading.states
        ids[row, :length] = reading.ids
        mask[row, 1:length] = True  # the first token is an attention sink without a meaning of its own
        mask[row, 0] = length == 1
    return states, ids, mask
