"""Writes the report as Markdown and HTML.

The content is assembled once as a list of blocks, which both formats render. The HTML page is a single file without
external resources, and ends with a browser of all answers.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dyprag.evaluation.comparison import Comparison, comparisons
from dyprag.evaluation.gains import Gain, first_line, gains
from dyprag.evaluation.report import augmentation, blocks, plots, tables
from dyprag.evaluation.report.blocks import Block, Code, Details, Heading, Picture, Table
from dyprag.evaluation.report.browser import SCRIPT, browser
from dyprag.evaluation.report.findings import findings, outputs_cut
from dyprag.evaluation.results import ALL, Judged, Row
from dyprag.methods.spec import is_control

MOST_EXAMPLES = 8
STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
EXPLANATION = (
    "F1: token overlap of the answer with the true one, after the official answer extraction, in percent, with the "
    "95 % bootstrap interval over questions. Wrong documents: the same score with the adapters of other documents; "
    "it is reached without knowledge of the right ones. EM: share of exact matches. Precision and recall: the two "
    "components of F1. Answer present: share of whole outputs that contain the answer. Gold found: share of gold "
    "documents that were retrieved. Unsupported: share of the answer's words that occur neither in its passages nor "
    "in the question. Believed: share of outputs with the true answer although the documents were altered to "
    "contradict it. Tokens: per answer. Cut: share of outputs that were cut at the token limit "
    "(evaluate.max_new_tokens), so that their end is not scored. s/answer: seconds per answer; First token: seconds "
    "until its first token. Retrievals: searches for passages per answer. bytes/document: storage that is needed per "
    "document to answer."
)
SPLITS = (
    "The translator was trained on the seen documents, not on the unseen ones. The splits have different questions, so "
    "compare methods only within a column."
)
GAINS = (
    "Gain: the method's score minus vanilla's, on questions that the method, vanilla and its controls all answered. "
    "Control's gain: the gain of the best control. Over control: the method's score minus that control's; only this "
    "can be knowledge of the documents. The p-values are from a sign-flip test, adjusted (Holm) for the whole table."
)
COMPARED = (
    "Difference in F1 points between the method of the row and that of the column, on questions that both answered. "
    "A star marks significant differences (sign-flip test, p < 0.05 after Holm's adjustment for all pairs)."
)
JUDGED = (
    "An LLM judged which of two answers has internalized the passages' knowledge (paper: RAGTruth). Each pair was "
    "judged in both orders; if the verdicts disagree, the pair is a tie. Agreement: share of pairs with the same "
    "verdict in both orders."
)
OVERALL = (
    "Every data set has the same weight, whatever its number of questions. Scores are means over the data sets whose "
    "questions have answers. Only methods that answered in every data set are listed."
)


@dataclass(frozen=True)
class ReportData:
    """The data of a report.

    rows: the result of `result_rows` for `judged`.
    versions: the versions of the libraries in use.
    notes: remarks about the data.
    judgements: an LLM's comparisons of two methods, as from `dyprag.evaluation.judge.summarise`.
    """

    title: str
    created: str
    model: str
    config: dict[str, Any]
    judged: Sequence[Judged]
    rows: list[Row]
    translator_curve: list[dict[str, float]]
    adapter_curves: dict[str, list[float]]
    stages: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    augmentations: list[dict[str, Any]] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    judgements: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Report:
    """A written report: its files, the Markdown text, and a summary for the terminal."""

    folder: Path
    markdown: Path
    html: Path
    markdown_text: str
    summary: str


def write_report(data: ReportData, folder: Path, earlier: Path | None = None) -> Report:
    """Write report.md, report.html and the charts to a folder.

    Args:
        earlier: the folder of an earlier report; charts that show the same are copied from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    method_gains = gains(data.judged)
    headline = first_line(method_gains)
    top: list[Block] = [Heading(data.title, level=1), headline]
    body = _body(data, method_gains, plots.Charts(folder, earlier))
    text = blocks.markdown([*top, *body]) + "\n"
    markdown, page = folder / "report.md", folder / "report.html"
    markdown.write_text(text, encoding="utf-8", errors="replace")
    page.write_text(_html_page(data, top, body), encoding="utf-8", errors="replace")
    summary = [headline, outputs_cut(data.rows), tables.terminal_table(data.rows)]
    return Report(folder, markdown, page, text, "\n\n".join(filter(None, summary)).rstrip())


def augmentation_table(rows: Sequence[Row]) -> str:
    """Render the augmentation tables as Markdown, from the rows of the catalogue's view `augmentations`."""
    return blocks.markdown(_augmentation_tables(rows))


def _body(data: ReportData, method_gains: Sequence[Gain], charts: plots.Charts) -> list[Block]:
    return [
        findings(data.rows), *_cut_warning(data.rows), *_prompting(data.config),
        f"Base model: {data.model}. Created: {data.created}.",
        *([f"Notes on the data: {'; '.join(data.notes)}."] if data.notes else []),
        *_results(data, charts), *_judgements(data), *_gains(data, method_gains),
        *_comparisons(comparisons(data.judged)), *_augmentation_section(data, charts), *_training(data, charts),
        *_examples(data.judged), *_run_summary(data), *_settings(data),
    ]  # fmt: skip


def _cut_warning(rows: Sequence[Row]) -> list[Block]:
    cut = outputs_cut(rows)
    return [f"**{cut}**"] if cut else []


def _prompting(config: Mapping[str, Any]) -> list[Block]:
    """Describe the form of the prompts and the strength of the adapters."""
    settings = config.get("evaluate", {})
    order = {"best-first": "best first", "best-last": "best last"}.get(settings.get("passage_order", ""), "")
    shown = settings.get("prompt_passages") or settings.get("passages")
    asking = {
        "plain": "the answer begins with 'The answer is:'", "instruction": "an instruction asks for a few words",
        "examples": "two examples show a short answer", "sentence": "the model answers freely",
    }.get(settings.get("ask_for", ""), "")  # fmt: skip
    if not (order and asking):
        return []
    gate = (
        ", if the passages contain the answer that they give alone"
        if settings.get("combine_when") == "borne-out"
        else ""
    )
    return [
        f"Passages per prompt: at most {shown}, {order}; {asking}. Strength of adapters: {settings['strength']:g}, "
        f"beside passages {settings['combine_strength']:g}{gate}. Answers: at most {settings['max_new_tokens']} tokens."
    ]


def _results(data: ReportData, charts: plots.Charts) -> list[Block]:
    """Build the tables and charts of each data set, beginning with the mean over all, and of the costs."""
    content: list[Block] = []
    datasets = tables.datasets(data.rows)
    for index, dataset in enumerate(datasets):
        rows = tables.of(data.rows, dataset=dataset)
        title = "Results" if len(datasets) == 1 else tables.dataset_name(data.rows, dataset)
        content += [Heading(title), *([OVERALL] if dataset == ALL else [])]
        content += [tables.results(rows), *([EXPLANATION] if index == 0 else [])]
        suffix = "" if len(datasets) == 1 else f"-{index + 1}"
        content += [*_parts(rows), *_pictures(rows, suffix, charts), *_published(rows, data.model, dataset)]
    if rows := tables.of(data.rows, dataset=datasets[0], type=ALL, split=ALL) if datasets else []:
        chart = charts.write("cost.png", plots.cost_chart, [r for r in rows if not tables.is_control(r)] or rows)
        content += [Heading("Cost"), Picture(chart, "Seconds and tokens per answer, and bytes per document")]
    return content


def _parts(rows: Sequence[Row]) -> list[Block]:
    """Build the tables of F1 by variant, split and type, if there are several."""
    content: list[Block] = []
    if len(tables.names(rows, "variant")) > 1:
        content += [Heading("F1 by variant", level=3), tables.by_variant(rows)]
    if len(tables.names(rows, "split")) > 1:
        content += [Heading("F1 by split", level=3), SPLITS, tables.by_split(rows)]
    if len(tables.names(rows, "type")) > 1:
        content += [Heading("F1 by question type", level=3), tables.by_type(rows)]
    return content


def _pictures(rows: Sequence[Row], suffix: str, charts: plots.Charts) -> list[Block]:
    content: list[Block] = []
    scored = [row for row in tables.shown(rows) if row["f1"] is not None]
    variants = tables.names(scored, "variant")
    if len(variants) > 1:
        scored = [row for row in scored if not tables.is_control(row)]  # their bars would obscure the differences
        grid = [row for row in tables.of(rows, type=ALL, split=ALL) if row["f1"] is not None]
        grid = [row for row in grid if not tables.is_control(row)]
        if axis := plots.axis_of(variants):
            chart = charts.write(f"variants{suffix}.png", plots.grid_chart, grid, *axis)
            content += [Picture(chart, "F1 of each method over the variants")]
    if scored:
        chart = charts.write(f"f1{suffix}.png", plots.f1_chart, scored)
        content += [Picture(chart, "F1 of each method with its 95 % interval")]
    return content


def _published(rows: Sequence[Row], model: str, dataset: str) -> list[Block]:
    content: list[Block] = []
    for variant in tables.names(rows, "variant"):
        if comparison := tables.beside_published(tables.of(rows, variant=variant), model, dataset):
            table, sources = comparison
            source_list = "; ".join(f"{index + 1}: {source}" for index, source in enumerate(sources))
            title = "Beside published F1" + (f", {variant}" if variant else "")
            content += [Details(title, [table, f"Sources: {source_list}. Their test questions may differ from ours."])]
    return content


def _judgements(data: ReportData) -> list[Block]:
    """Build the section on an LLM's judgements, if there are any."""
    return [Heading("Judged by an LLM"), JUDGED, tables.judgements(data.judgements)] if data.judgements else []


def _gains(data: ReportData, method_gains: Sequence[Gain]) -> list[Block]:
    if not method_gains:
        return []
    present = gains(data.judged, "present")
    content: list[Block] = [
        Heading("What survives the controls"),
        GAINS,
        Heading("F1", 3),
        tables.gains_table(method_gains),
    ]
    return [*content, Heading("Answer present", 3), first_line(present), tables.gains_table(present)]


def _comparisons(results: Sequence[Comparison]) -> list[Block]:
    if not results:
        return []
    content: list[Block] = [Heading("Pairwise comparison of methods"), COMPARED]
    cells = sorted(
        dict.fromkeys((result.dataset, result.variant) for result in results), key=lambda cell: cell[0] != ALL
    )
    for dataset, variant in cells:
        cell_results = [result for result in results if (result.dataset, result.variant) == (dataset, variant)]
        name = "All data sets" if dataset == ALL else dataset
        content += [Heading(", ".join(filter(None, (name, variant))), 3)] if len(cells) > 1 else []
        content += [tables.comparisons_matrix(cell_results)]
    return [*content, Details("All pairs with intervals", [tables.comparisons_list(results)])]


def _augmentation_tables(rows: Sequence[Row]) -> list[Block]:
    content: list[Block] = [Table(*augmentation.table(rows), augmentation.LEFT)]
    if dropped := augmentation.reasons(rows):
        content += [Table(["Reason for dropping", "Items"], dropped, left=1)]
    return content


def _augmentation_section(data: ReportData, charts: plots.Charts) -> list[Block]:
    if not data.augmentations:
        return []
    chart = charts.write("augmentation.png", plots.augmentation_chart, data.augmentations)
    words = "Histograms: accepted items, and tokens or seconds, of each document"
    return [
        Heading("Augmentation"),
        *_augmentation_tables(data.augmentations),
        Picture(chart, words),
    ]


def _training(data: ReportData, charts: plots.Charts) -> list[Block]:
    content: list[Block] = []
    if data.translator_curve:
        chart = charts.write("translator.png", plots.translator_chart, data.translator_curve)
        content += [Picture(chart, "The translator's losses over its training steps")]
    if curves := {name: losses for name, losses in data.adapter_curves.items() if losses}:
        chart = charts.write("adapters.png", plots.adapter_chart, curves)
        content += [Picture(chart, "The losses of the documents' adapters over their training steps")]
    return [Heading("Training"), *content] if content else []


def _examples(judged: Sequence[Judged]) -> list[Block]:
    """Show some questions, evenly spread, with the methods' answers in the first variant."""
    questions: dict[tuple[str, str], list[Judged]] = {}
    for item in judged:
        questions.setdefault((item.dataset, item.question_id), []).append(item)
    content: list[Block] = [Heading("Answers side by side")] if questions else []
    for items in plots.spread(list(questions.values()), MOST_EXAMPLES):
        first = items[0]
        items = [item for item in items if item.variant == first.variant and not is_control(item.method)]
        content += [Heading(first.question, level=3)]
        answers = " / ".join(first.answers) or "(none known)"
        content += [f"True answer: {answers} ({first.dataset}; type: {first.type}; documents: {first.split})"]
        lines = [
            [item.method, item.output.strip() or "(empty)", f"{100 * item.score.f1:.0f}" if item.score else "–"]
            for item in items
        ]
        content += [Table(("Method", "Answer", "F1"), lines, left=2)]
    return content


def _run_summary(data: ReportData) -> list[Block]:
    content: list[Block] = []
    for title, items, columns, left in (
        ("Stages", data.stages, ("stage", "done", "partial", "failed", "waiting", "cached"), 1),
        ("Failures", data.failures, ("document_id", "stage", "error"), 3),
    ):
        if items:
            header = [column.replace("_", " ").capitalize() for column in columns]
            content += [Heading(title), Table(header, [[str(item[c]) for c in columns] for item in items], left)]
    return content


def _settings(data: ReportData) -> list[Block]:
    config = json.dumps(data.config, indent=2, ensure_ascii=False, default=str)
    content: list[Block] = [Heading("Settings"), Details("Configuration", [Code(config)])]
    if data.versions:
        lines = [[name, version] for name, version in data.versions.items()]
        content += [Details("Versions", [Table(["Library", "Version"], lines, left=2)])]
    return content


def _html_page(data: ReportData, head: Sequence[Block], body: Sequence[Block]) -> str:
    title, first = head
    answers = browser(data.judged)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
        f"<title>{html.escape(data.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'{blocks.page([title])}\n<div class="first">{blocks.page([first])}</div>\n'
        + blocks.contents([*body, *([Heading("Every answer")] if answers else [])])
        + f"\n{blocks.page(body)}\n{answers}\n</body>\n</html>\n"
    )


def _policy() -> str:
    """Return the content security policy: no external resources, and no scripts but the page's own."""
    script, style = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (SCRIPT, STYLE))
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; base-uri 'none'"
    )
