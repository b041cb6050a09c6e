"""The card of a trained question writer: training data, settings and losses."""

from collections.abc import Mapping
from typing import Any

import yaml

from dyprag.config import PipelineConfig
from dyprag.translators.lessons.human import HELD_OUT, WHOLE_SETS


def writer_card(config: PipelineConfig, measures: Mapping[str, Any]) -> str:
    """Render a writer's card in Markdown.

    Args:
        measures: the measures of the writer's record.
    """
    shown = yaml.safe_dump(config.writer.material(), sort_keys=False).strip()
    sets, whole = ", ".join(measures["sets"]), ", ".join(WHOLE_SETS)
    minutes = f"{measures['seconds'] / 60:.0f} minutes in {measures['dtype']}"
    losses = f"from {measures['first_loss']:.2f} (the first twenty steps) to {measures['loss']:.2f} (the last)"
    return f"""# Question writer for {config.model.name}

A LoRA in PEFT's format. Given a passage and one of its sentences, the model with it chooses a short answer in the
sentence and asks for it. `augment.backend: local` uses it (`augment.writer`); the prompt is in
`dyprag/augmentation/writer/prompts.py`.

## Training

Data: {measures["questions"]:,} questions that people wrote about {measures["passages"]:,} passages, those that a single
sentence answers word for word. One passage in {HELD_OUT} and the sets {whole} were held out. The sets are
{sets}.

{measures["steps"]:,} steps of {config.writer.documents} passages took {minutes}. The loss per token fell {losses}.

```yaml
{shown}
```
"""
