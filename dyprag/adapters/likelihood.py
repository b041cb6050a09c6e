"""How likely the base model finds given answers."""

from collections.abc import Sequence

import torch

from dyprag.adapters.decoding import common_prefix, prefill
from dyprag.model.base import BaseModel
from dyprag.model.batches import pad
from dyprag.runtime import progress


@torch.inference_mode()
def likelihoods(
    base: BaseModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], batch_size: int = 32
) -> list[float]:
    """Mean log-likelihood of each answer's tokens after its prompt; a prefix that the prompts share is computed once.

    Returns:
        One number a prompt, natural logarithm, at most 0.
    """
    results: list[float] = []
    for start in range(0, len(prompts), batch_size):
        batch, wanted = prompts[start : start + batch_size], answers[start : start + batch_size]
        with base.lock:
            shared = common_prefix(batch)
            rows = [[*prompt[shared:], *answer] for prompt, answer in zip(batch, wanted, strict=True)]
            cache, ids, mask = prefill(base, batch[0][:shared], *pad(rows, base, side="right"))
            states = base.model.get_decoder()(
                input_ids=ids[:, shared:], attention_mask=mask, past_key_values=cache, use_cache=bool(shared)
            ).last_hidden_state
            # the vocabulary projection costs as much as all layers: only for what stands before an answer's token
            spans = [(len(prompt) - shared - 1, len(answer)) for prompt, answer in zip(batch, wanted, strict=True)]
            before = torch.cat([states[row, first : first + size] for row, (first, size) in enumerate(spans)])
            logs = base.head(before).float().log_softmax(-1)
            tokens = torch.tensor([token for answer in wanted for token in answer], device=logs.device)
            chosen = logs.gather(1, tokens[:, None])[:, 0].split([size for _, size in spans])
            results.extend(part.mean().item() for part in chosen)
        progress.advance(len(batch))
    return results
