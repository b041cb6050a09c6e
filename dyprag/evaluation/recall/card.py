"""The model card of a trained translator: training data, settings, fact recall, and limits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dyprag.config import PipelineConfig
from dyprag.evaluation.recall.benchmark import CONDITIONS
from dyprag.evaluation.recall.summaries import Change, Summary
from dyprag.evaluation.statistics import Paired
from dyprag.translators.lessons.human import HELD_OUT, WHOLE_SETS, human_sets

COLUMNS = {
    "zero": "no adapter", "own": "own document", "wrong": "wrong document", "mean": "mean adapter",
    "generic": "generic adapter", "passage": "passage in the prompt", "beside": "beside the passage",
    "beside-wrong": "beside the passage, wrong document", "parametrized": "PRAG's own adapter",
}  # fmt: skip
BANDS = {
    "closed": "invented, closed vocabulary", "open": "invented, new names and numbers", "popqa": "PopQA's paragraphs",
    "multihop": "HotpotQA's and 2WikiMultihopQA's", "human": "people's questions, held-out passages",
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
        + " | own minus wrong | beside minus in the prompt | own ÷ in the prompt |",
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
    lines = ["| questions | adapter | number | changed | worse | better |", "|---" * 6 + "|"]
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
    settings = yaml.safe_dump(
        config.learn.model_dump(exclude={"data", "people", "start", "output"}), sort_keys=False
    ).strip()
    sources = (
        f"{config.learn.closed:,} invented documents with answers from closed vocabularies, {config.learn.open:,} with "
    )
    sources += "new names, dates and numbers"
    if config.learn.data:
        sources += ", and Wikipedia passages of 2WikiMultihopQA, HotpotQA and DPR with questions generated by rules"
        sources += (
            " (CC BY-SA), without passages about subjects of test questions of PopQA, HotpotQA or 2WikiMultihopQA"
        )
    if config.learn.records:
        sources += f", {config.learn.records:,} sheets, lists and tables with such facts"
    if config.learn.people:
        names = ", ".join(name for name in human_sets(Path(config.learn.people)) if not name.startswith(WHOLE_SETS))
        sources += f", and passages with questions that people wrote ({names}; one passage in {HELD_OUT} is held out)"
    begun = " It was initialised with the weights of an earlier translator." if config.learn.start else ""
    return f"""# Translator for {config.model.name}

Translates a document into a LoRA adapter of rank {config.learn.rank} in one forward pass. With the adapter, the model
answers questions about the document without the passage in its prompt. Kind: {config.learn.kind},
{measures["parameters"]:,} parameters.

{recall_section(config, summaries, changes)}

## Training
{measures["documents"]:,} documents: {sources}. {measures["steps"]:,} steps with {config.learn.documents} documents each
took {measures["seconds"] / 60:.0f} minutes on {" and ".join(measures["devices"])}, in
{measures["dtype"].removeprefix("torch.")}. Mean loss per answer token in the last 100 steps:
{measures["loss"]:.2f}.{begun}

```yaml
{settings}
```

## Limits
- It is trained on short English passages and certain kinds of facts. Longer passages are read completely, but an
  adapter holds no more facts.
- For other kinds of documents, see the bands with people's questions and everyday documents above.
- It does not know the questions: the facts of a document compete for space, and long or rare names are often
  incomplete.
- It works only with the base model that it was trained with.
"""


def recall_section(config: PipelineConfig, summaries: Sequence[Summary], changes: Sequence[Change]) -> str:
    """Render the card's first section, on fact recall, as Markdown."""
    settings = config.evaluate
    parts = [
        f"""## Fact recall on documents not seen in training
Share of outputs (at most {settings.max_new_tokens} tokens) that contain the answer, in percent. Strength of adapters:
{settings.strength:g}, beside the passage {settings.combine_strength:g}. The contribution of the document is the share
with the own document minus that with a wrong document (95 % bootstrap intervals over questions).

{recall_table(summaries)}

Token F1, in percent:

{recall_table(summaries, "f1")}

Wrong document: another document of the band that does not contain the answer. Mean: the mean of training documents'
adapters. Generic: an adapter trained on pairs of training documents. PRAG's own adapter: trained on the document and
the pairs that are asked; an upper limit.

{cut_table(summaries)}"""
    ]
    if changes:
        parts.append(
            f"""The effect of adapters on questions that their documents do not answer. Worse: for common knowledge, a
right answer became wrong; for questions that the document does not answer, the output now contains what the document
says about something else.

{changes_table(changes)}"""
        )
    return "\n\n".join(parts)
