"""The values that each preset gives to settings without a default."""

from typing import Any

# The paper's values (§4.1), for any model without its own preset.
PAPER: dict[str, dict[str, Any]] = {
    "augment": {"rewrites": 1, "qa_pairs": 3, "least_pairs": 3},
    "lora": {"rank": 2},
    "parametrize": {"learning_rate": 3e-4, "epochs": 1, "batch_size": 1, "samples": "official", "shuffle": False},
    "translator": {
        "residual": False, "scaling": "lora", "init_std": 1e-7, "learning_rate": 1e-5, "epochs": 1, "batch_size": 1,
        "samples": "all",
    },
    "evaluate": {
        "prag_merge": "sum", "dyprag_merge": "mean", "max_new_tokens": 128, "reasoning": True, "strength": 1.0,
        "combine_strength": 1.0, "combine_when": "always", "passage_order": "best-first", "ask_for": "plain",
    },
}  # fmt: skip

# The official code's choices, for reproducing its results and using its published translators: it adds the delta
# unscaled, averages A and B separately, trains on the first sample only and draws all weights from N(0, 1e-7). The
# loss weights and the loss on all tokens are those of the paper's preset. The official code also computes the KL
# divergence over padding tokens; this is not reproduced.
OFFICIAL: dict[str, dict[str, Any]] = {
    **PAPER,
    "translator": {**PAPER["translator"], "scaling": "none", "init_std_down": 1e-7, "samples": "first"},
    "evaluate": {**PAPER["evaluate"], "dyprag_merge": "matrices"},
}

# A model with 135M parameters learns nothing at the paper's learning rate and writes poor rewrites. It gets a higher
# learning rate and more question-answer pairs.
SMOLLM2: dict[str, dict[str, Any]] = {
    "augment": {"rewrites": 1, "qa_pairs": 14, "least_pairs": 3},
    "lora": {"rank": 4},
    "parametrize": {"learning_rate": 5e-3, "epochs": 3, "batch_size": 2, "samples": "closed-book", "shuffle": True},
    "translator": {
        "residual": True, "scaling": "lora", "init_std": 1e-3, "learning_rate": 2e-4, "epochs": 1, "batch_size": 2,
        "samples": "all",
    },
    "evaluate": {
        "prag_merge": "weighted", "dyprag_merge": "weighted", "max_new_tokens": 64, "reasoning": False,
        "strength": 1.0, "combine_strength": 0.5, "combine_when": "borne-out", "passage_order": "best-last",
        "ask_for": "examples", "prompt_passages": 1,
    },
}  # fmt: skip

# A translated adapter is close to its document already: a training that starts from it takes the paper's small steps,
# one pass, and one sample a step. At the rate of a random start it forgets what it was translated to.
_FROM_TRANSLATED = {"smollm2-135m": {"learning_rate": 3e-4, "epochs": 1, "batch_size": 1}}

PRESETS = {"paper": PAPER, "official": OFFICIAL, "smollm2-135m": SMOLLM2}


def preset_values(name: str, start: str) -> dict[str, dict[str, Any]]:
    """Return a preset's values by section, for trainings with this `parametrize.start`."""
    values = PRESETS[name]
    if start != "translated":
        return values
    return {**values, "parametrize": {**values["parametrize"], **_FROM_TRANSLATED.get(name, {})}}
