"""The likelihood of given answers under the base model."""

from collections.abc import Sequence

import torch

from dyprag.adapters.decoding import prefill
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.adapters.sharing import common_prefix
from dyprag.model.base import BaseModel
from dyprag.model.batches import pad
from dyprag.runtime import progress


@torch.inference_mode()
def likelihoods(
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    batch_size: int = 32,
    adapter: Adapters | None = None,
) -> list[float]:
    """Compute the mean log-likelihood of each answer's tokens after its prompt. A shared prefix is computed once.

    Args:
        adapter: injected into the model, [1, layers, …]; None for none.

    Returns:
        One number per prompt (natural logarithm, at most 0).
    """
    results: list[float] = []
    for start in range(0, len(prompts), batch_size):
        batch, batch_answers = prompts[start : start + batch_size], answers[start : start + batch_size]
        with base.lock, inject(base, adapter):
            shared = common_prefix(batch)
            rows = [[*prompt[shared:], *answer] for prompt, answer in zip(batch, batch_answers, strict=True)]
            cache, ids, mask = prefill(base, batch[0][:shared], *pad(rows, base, side="right"))
            states = base.model.get_decoder()(
                input_ids=ids[:, shared:], attention_mask=mask, past_key_values=cache, use_cache=bool(shared)
            ).last_hidden_state
            # the vocabulary projection costs as much as all layers: apply it only where an answer token is predicted
            spans = [
                (len(prompt) - shared - 1, len(answer)) for prompt, answer in zip(batch, batch_answers, strict=True)
            ]
            predicting = torch.cat([states[row, first : first + size] for row, (first, size) in enumerate(spans)])
            log_probs = base.head(predicting).float().log_softmax(-1)
            tokens = torch.tensor([token for answer in batch_answers for token in answer], device=log_probs.device)
            chosen = log_probs.gather(1, tokens[:, None])[:, 0].split([size for _, size in spans])
            results.extend(part.mean().item() for part in chosen)
        progress.advance(len(batch))
    return results
