"""The model card of a trained translator: training data, settings, fact recall, and limits."""

from collections.abc import Sequence
from typing import Any

import yaml

from dyprag.config import PipelineConfig
from dyprag.evaluation.recall.benchmark import CONDITIONS, Change, Summary
from dyprag.evaluation.statistics import Paired

COLUMNS = {
    "zero": "no adapter", "own": "own document", "wrong": "wrong document", "mean": "mean adapter",
    "generic": "generic adapter", "passage": "passage in the prompt", "beside": "beside the passage",
    "beside-wrong": "beside it, wrong document", "parametrized": "PRAG's own adapter",
}  # fmt: skip
BANDS = {
    "closed": "invented, closed vocabulary", "open": "invented, new names and numbers", "popqa": "PopQA's paragraphs",
    "multihop": "HotpotQA's and 2WikiMultihopQA's", "human": "people's questions, passages kept from training",
    "kinds": "people's questions, other kinds of text", "everyday": "everyday documents",
    "unanswered": "not answered by the document", "common": "common knowledge",
}  # fmt: skip


def recall_table(summaries: Sequence[Summary], measure: str = "presence") -> str:
    """Render recall in percent, a row per band and a column per condition.

    The last columns are own minus wrong document, beside the passage minus passage in the prompt (with 95 % intervals),
    and own document ÷ passage in the prompt.
    """
    conditions = [condition for condition in CONDITIONS if any(condition in summary.presence for summary in summaries)]
    lines = [
        "| band | questions | "
        + " | ".join(COLUMNS[condition] for condition in conditions)
        + " | own less wrong | beside less in the prompt | own ÷ in the prompt |",
        "|---" * (len(conditions) + 5) + "|",
    ]
    for summary in summaries:
        values = summary.presence if measure == "presence" else summary.f1
        cells = [_share(values, summary, condition) for condition in conditions]
        relative = "" if summary.relative is None or measure != "presence" else f"{summary.relative:.2f}"
        summary_cells = f"**{_difference(summary.specific)}** | {_difference(summary.beside)} | {relative}"
        name, count = BANDS.get(summary.band, summary.band), max(summary.questions.values())
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + f" | {summary_cells} |")
    return "\n".join(lines)


def cut_table(summaries: Sequence[Summary]) -> str:
    """Render the share of outputs cut at the token limit, a row per band and a column per condition."""
    conditions = [condition for condition in CONDITIONS if any(condition in summary.cut for summary in summaries)]
    lines = [
        "| outputs cut, % | " + " | ".join(COLUMNS[condition] for condition in conditions) + " |",
        "|---" * (len(conditions) + 1) + "|",
    ]
    for summary in summaries:
        cells = [f"{summary.cut[condition]:.1f}" if condition in summary.cut else "" for condition in conditions]
        lines.append(f"| {BANDS.get(summary.band, summary.band)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def changes_table(changes: Sequence[Change]) -> str:
    """Render the effect of adapters on questions that their documents do not answer."""
    lines = ["| questions | adapter | questions asked | changed | for the worse | for the better |", "|---" * 6 + "|"]
    for change in changes:
        prompt = "without the passage" if change.before == "zero" else "beside the passage"
        shares = f"{change.changed:.1f} | {change.worse:.1f} | {change.better:.1f}"
        lines.append(f"| {BANDS[change.band]} | {prompt} | {change.questions} | {shares} |")
    return "\n".join(lines)


def _difference(comparison: Paired | None) -> str:
    return f"{comparison.difference:+.1f} [{comparison.low:+.1f}, {comparison.high:+.1f}]" if comparison else ""


def _share(values: dict[Any, float], summary: Summary, condition: Any) -> str:
    if condition not in values:
        return ""
    fewer = summary.questions[condition] < max(summary.questions.values())
    return f"{values[condition]:.1f}" + (f" ({summary.questions[condition]} questions)" if fewer else "")


def model_card(
    config: PipelineConfig, measures: dict[str, Any], summaries: Sequence[Summary], changes: Sequence[Change] = ()
) -> str:
    """Render the model card as Markdown.

    Args:
        measures: the measures in the translator's record.
    """
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

{recall_section(config, summaries, changes)}

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
- Documents of other kinds than those: see the bands of people's questions and of everyday documents above.
- It knows no question: many facts of one document crowd each other out, and long or rare names come out in part.
- Only for the base model that it was trained with.
"""


def recall_section(config: PipelineConfig, summaries: Sequence[Summary], changes: Sequence[Change]) -> str:
    """Render the card's first section, on fact recall, as Markdown."""
    settings = config.evaluate
    parts = [
        f"""## Fact recall on documents not seen in training
Share of answers present in outputs of at most {settings.max_new_tokens} tokens, in percent; adapters at
{settings.strength:g} of their strength, beside the passage at {settings.combine_strength:g}. What the document itself
brings is the own document's share less a wrong document's (95 % intervals by bootstrap over questions).

{recall_table(summaries)}

Token F1, in percent:

{recall_table(summaries, "f1")}

Wrong document: another one of the band that does not hold the answer. Mean: of training documents' adapters. Generic:
one adapter trained on training documents' pairs. PRAG's own adapter: trained on the document and the very pairs that
are asked, a ceiling.

{cut_table(summaries)}"""
    ]
    if changes:
        parts.append(
            f"""What an adapter does to questions that its document does not answer. For the worse: of common knowledge,
a right answer became a wrong one; of what the document does not answer, the output now says what the document says
about something else.

{changes_table(changes)}"""
        )
    return "\n\n".join(parts)
