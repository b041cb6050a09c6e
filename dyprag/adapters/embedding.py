"""Document embeddings: the input of the paper's translator (§3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dyprag.errors import is_out_of_memory
from dyprag.model.base import BaseModel, neutralise
from dyprag.model.batches import pad
from dyprag.runtime import progress


@torch.inference_mode()
def embed(base: BaseModel, texts: Sequence[str], batch_tokens: int | None = None) -> Tensor:
    """Compute document embeddings s_i (§3.2): the last layer's hidden state at the last token.

    Args:
        texts: passages, truncated to the model's context.
        batch_tokens: tokens per forward pass, padding included. None: 2,048 on a CPU, 16,384 elsewhere. Texts of
            similar length share a pass.

    Returns:
        [docs, hidden], float32, on the CPU.
    """
    limit = batch_tokens or (2048 if base.device.type == "cpu" else 16384)
    tokens = [base.tokenizer(neutralise(text, base.tokenizer))["input_ids"][: base.max_tokens] for text in texts]
    embeddings = torch.empty(len(texts), base.hidden)
    order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
    while order:
        longest = len(tokens[order[-1]])
        batch = order[-max(1, limit // longest) :]
        try:
            with base.lock:
                embeddings[batch] = _last_states(base, [tokens[index] for index in batch])
        except Exception as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            limit = longest * (len(batch) // 2)
            continue
        order = order[: -len(batch)]
        progress.advance(len(batch))
    return embeddings


def _last_states(base: BaseModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """Return the last hidden state at each row's last token: [rows, hidden], float32, on the CPU."""
    ids, _ = pad(rows, base, side="right")  # causal attention never reads right padding
    states = base.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    last = torch.tensor([len(row) - 1 for row in rows], device=base.device)
    return states[torch.arange(len(rows), device=base.device), last].float().cpu()
