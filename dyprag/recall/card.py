"""The model card of a learned translator: what it was trained on, how, what it makes recalled, and where it ends."""

from collections.abc import Sequence
from typing import Any

import yaml

from dyprag.config import PipelineConfig
from dyprag.recall.benchmark import CONDITIONS, Summary

COLUMNS = {
    "own": "own document", "wrong": "wrong document", "mean": "mean adapter", "generic": "generic adapter",
    "zero": "no adapter", "passage": "passage in the prompt", "parametrized": "PRAG's own adapter",
}  # fmt: skip
BANDS = {
    "closed": "invented, closed vocabulary", "open": "invented, new names and numbers", "popqa": "PopQA's paragraphs",
    "multihop": "HotpotQA's and 2WikiMultihopQA's",
}  # fmt: skip


def recall_table(summaries: Sequence[Summary], measure: str = "presence") -> str:
    """Bands down, conditions across, in percent; the last column is own less wrong with its 95 % interval."""
    used = [c for c in CONDITIONS if any(c in summary.presence for summary in summaries)]
    lines = [
        "| band | questions | " + " | ".join(COLUMNS[c] for c in used) + " | own less wrong |",
        "|---" * (len(used) + 3) + "|",
    ]
    for summary in summaries:
        values = summary.presence if measure == "presence" else summary.f1
        cells = [_share(values, summary, c) for c in used]
        specific = summary.specific
        last = f"**{specific.difference:.1f}** [{specific.low:.1f}, {specific.high:.1f}]" if specific else ""
        name, count = BANDS.get(summary.band, summary.band), max(summary.questions.values())
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + f" | {last} |")
    return "\n".join(lines)


def _share(values: dict[Any, float], summary: Summary, condition: Any) -> str:
    if condition not in values:
        return ""
    fewer = summary.questions[condition] < max(summary.questions.values())
    return f"{values[condition]:.1f}" + (f" ({summary.questions[condition]} questions)" if fewer else "")


def model_card(config: PipelineConfig, measures: dict[str, Any], summaries: Sequence[Summary]) -> str:
    """The card, as Markdown. measures: of the translator's record."""
    settings = yaml.safe_dump(config.learn.model_dump(exclude={"data", "start", "output"}), sort_keys=False).strip()
    sources = (
        f"{config.learn.closed:,} invented documents with facts of closed vocabularies, {config.learn.open:,} with "
    )
    sources += "new names, dates and numbers"
    if config.learn.data:
        sources += ", and Wikipedia passages of 2WikiMultihopQA, HotpotQA and DPR with questions made by rules"
        sources += " (CC BY-SA); none about what a test question of PopQA, HotpotQA or 2WikiMultihopQA is about"
    begun = " It began with the weights of one that had been learned before." if config.learn.start else ""
    return f"""# Translator for {config.model.name}

Makes a LoRA adapter of rank {config.learn.rank} for a document in one forward pass; with it the model answers questions
about the document without the passage in its prompt. Kind: {config.learn.kind}, {measures["parameters"]:,} parameters.

## Fact recall on documents not seen in training
Share of answers present in the output, in percent, questions asked without the passage. What the document itself brings
is the own document's share less a wrong document's (95 % interval by bootstrap over questions).

{recall_table(summaries)}

Token F1, in percent:

{recall_table(summaries, "f1")}

Wrong document: another one of the band that does not hold the answer. Mean: of training documents' adapters. Generic:
one adapter trained on training documents' pairs. PRAG's own adapter: trained on the document and the very pairs that
are asked, a ceiling.

## Training
{measures["documents"]:,} documents: {sources}. {measures["steps"]:,} steps of {config.learn.documents} in
{measures["seconds"] / 60:.0f} minutes on {" and ".join(measures["devices"])}, in
{measures["dtype"].removeprefix("torch.")}; mean loss of an answer's token in the last 100 steps
{measures["loss"]:.2f}.{begun}

```yaml
{settings}
```

## Limits
- Short English passages; facts of the kinds it was trained on. Longer ones are read whole, but no more fits an adapter.
- It knows no question: many facts of one document crowd each other out, and long or rare names come out in part.
- Only for the base model that it was trained with.
"""
