"""The report's two pages, Markdown and HTML.

The content is put together once, as a list of blocks; each kind of page only decides how a block is written. The HTML
page is one file without anything from elsewhere, and ends with a browser of every answer.
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
    "F1: the words that the answer shares with the true one, after the official extraction of the answer, in percent, "
    "with the 95 % interval of a bootstrap over the questions. Wrong documents: the same figure of the same method "
    "with the adapters of other documents; what it reaches is no knowledge of the right ones. EM: share of answers "
    "that match exactly. Precision and recall: the two parts of F1. Answer present: share of whole, uncut outputs in "
    "which the answer occurs. Gold found: share of the documents with the answer that were retrieved. Unsupported: "
    "share of the answer's words that neither its passages nor the question have. Believed: share of outputs with the "
    "true answer where the documents were altered to say something else. Tokens: of an answer. Cut: share of outputs "
    "that had not ended at the limit of tokens (evaluate.max_new_tokens), so that their end is not scored. s/answer: "
    "seconds for one answer, and those before its first token. Retrievals: times that passages were looked for while "
    "answering. "
    "bytes/document: what must be stored for each document to be able to answer."
)
SPLITS = (
    "Seen documents are those that the translator was trained on, unseen those that it was not. Each split has its own "
    "questions, so compare methods within a column of the table by split."
)
GAINS = (
    "Gain: the method less vanilla, on the questions that it, vanilla and its controls all answered. Control's: what "
    "the best control gains by itself. Left: the method less that control; only this can be knowledge of the "
    "documents. The p-values are those of a sign-flip test, adjusted (Holm) for all of the table."
)
COMPARED = (
    "F1 points by which the method of the row stands above that of the column, on the questions that both answered; a "
    "star marks what is more than noise (sign-flip test, p < 0.05 after Holm's adjustment for all pairs)."
)
JUDGED = (
    "Which of two answers shows that the passages' knowledge was internalized (paper: RAGTruth). Each pair was judged "
    "twice, with the answers in either order; where the two verdicts disagree it is a tie. Agreement: share of pairs "
    "with the same verdict both times."
)
OVERALL = (
    "Every data set counts the same, however many questions it has; scores are the mean over those whose questions "
    "have answers. Only methods that answered in every data set are here."
)


@dataclass(frozen=True)
class ReportData:
    """What a report tells. rows: those that `result_rows` makes of `judged`; versions: of the libraries in use; notes:
    what a reader should know of the data."""

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
    judgements: Sequence[dict[str, Any]] = ()  # an LLM's comparison of two methods' answers: `summarise`'s figures


@dataclass(frozen=True)
class Report:
    """A written report: its files, the Markdown page's text, and its first line with the results for a terminal."""

    folder: Path
    markdown: Path
    html: Path
    markdown_text: str
    summary: str


def write_report(data: ReportData, folder: Path) -> Report:
    """Write report.md, report.html and the pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    gained = gains(data.judged)
    first = first_line(gained)
    head: list[Block] = [Heading(data.title, level=1), first]
    body = _body(data, gained, folder)
    text = blocks.markdown([*head, *body]) + "\n"
    markdown, page = folder / "report.md", folder / "report.html"
    markdown.write_text(text, encoding="utf-8", errors="replace")
    page.write_text(_html_page(data, head, body), encoding="utf-8", errors="replace")
    summary = [first, outputs_cut(data.rows), tables.terminal_table(data.rows)]
    return Report(folder, markdown, page, text, "\n\n".join(filter(None, summary)).rstrip())


def augmentation_table(rows: Sequence[Row]) -> str:
    """What augmentation brought and took, as Markdown; the rows are those of the catalogue's `augmentations`."""
    return blocks.markdown(_augmentation(rows))


def _body(data: ReportData, gained: Sequence[Gain], folder: Path) -> list[Block]:
    return [
        findings(data.rows), *_cut_warning(data.rows), *_form(data.config),
        f"Base model: {data.model}. Created: {data.created}.",
        *([f"Of the data: {'; '.join(data.notes)}."] if data.notes else []),
        *_results(data, folder), *_judged(data), *_gains(data, gained), *_comparisons(comparisons(data.judged)),
        *_augmented(data, folder), *_training(data, folder), *_examples(data.judged), *_work(data), *_settings(data),
    ]  # fmt: skip


def _cut_warning(rows: Sequence[Row]) -> list[Block]:
    cut = outputs_cut(rows)
    return [f"**{cut}**"] if cut else []


def _form(config: Mapping[str, Any]) -> list[Block]:
    """How questions were put and how strong adapters were, in words."""
    settings = config.get("evaluate", {})
    order = {"best-first": "best first", "best-last": "best last"}.get(settings.get("passage_order", ""), "")
    shown = settings.get("prompt_passages") or settings.get("passages")
    asked = {
        "plain": "the answer begins with 'The answer is:'", "instruction": "an instruction asks for a few words",
        "examples": "two examples show a short answer", "sentence": "the model begins as it likes",
    }.get(settings.get("ask_for", ""), "")  # fmt: skip
    if not (order and asked):
        return []
    gate = (
        ", where these bear out the answer that they give alone" if settings.get("combine_when") == "borne-out" else ""
    )
    return [
        f"Passages in a prompt: at most {shown}, {order}; {asked}. Adapters at {settings['strength']:g} of their "
        f"strength, beside passages at {settings['combine_strength']:g}{gate}. "
        f"Answers: at most {settings['max_new_tokens']} tokens."
    ]


def _results(data: ReportData, folder: Path) -> list[Block]:
    """Each data set's tables and pictures, those of all together first, and what it costs."""
    made: list[Block] = []
    datasets = tables.datasets(data.rows)
    for place, dataset in enumerate(datasets):
        rows = tables.of(data.rows, dataset=dataset)
        title = "Results" if len(datasets) == 1 else tables.dataset_name(data.rows, dataset)
        made += [Heading(title), *([OVERALL] if dataset == ALL else [])]
        made += [tables.results(rows), *([EXPLANATION] if place == 0 else [])]
        suffix = "" if len(datasets) == 1 else f"-{place + 1}"
        made += [*_parts(rows), *_pictures(rows, suffix, folder), *_published(rows, data.model, dataset)]
    if rows := tables.of(data.rows, dataset=datasets[0], type=ALL, split=ALL) if datasets else []:
        plots.cost_chart([row for row in rows if not tables.is_control(row)] or rows, folder / "cost.png")
        made += [Heading("Cost"), Picture(folder / "cost.png", "Seconds and tokens per answer, and bytes per document")]
    return made


def _parts(rows: Sequence[Row]) -> list[Block]:
    """F1 by variant, split and type, where there are several."""
    made: list[Block] = []
    if len(tables.names(rows, "variant")) > 1:
        made += [Heading("F1 by variant", level=3), tables.by_variant(rows)]
    if len(tables.names(rows, "split")) > 1:
        made += [Heading("F1 by split", level=3), SPLITS, tables.by_split(rows)]
    if len(tables.names(rows, "type")) > 1:
        made += [Heading("F1 by question type", level=3), tables.by_type(rows)]
    return made


def _pictures(rows: Sequence[Row], suffix: str, folder: Path) -> list[Block]:
    made: list[Block] = []
    scored = [row for row in tables.shown(rows) if row["f1"] is not None]
    variants = tables.names(scored, "variant")
    if len(variants) > 1:
        scored = [row for row in scored if not tables.is_control(row)]  # their bars would hide what differs
        grid = [row for row in tables.of(rows, type=ALL, split=ALL) if row["f1"] is not None]
        grid = [row for row in grid if not tables.is_control(row)]
        if axis := plots.axis_of(variants):
            plots.grid_chart(grid, *axis, folder / f"variants{suffix}.png")
            made += [Picture(folder / f"variants{suffix}.png", "F1 of each method over the variants")]
    if scored:
        plots.f1_chart(scored, folder / f"f1{suffix}.png")
        made += [Picture(folder / f"f1{suffix}.png", "F1 of each method with its 95 % interval")]
    return made


def _published(rows: Sequence[Row], model: str, dataset: str) -> list[Block]:
    made: list[Block] = []
    for variant in tables.names(rows, "variant"):
        if found := tables.beside_published(tables.of(rows, variant=variant), model, dataset):
            table, sources = found
            words = "; ".join(f"{place + 1}: {source}" for place, source in enumerate(sources))
            title = "Beside published F1" + (f", {variant}" if variant else "")
            made += [Details(title, [table, f"Sources: {words}. They asked questions of their own choice."])]
    return made


def _judged(data: ReportData) -> list[Block]:
    """What an LLM says of two methods, where one was asked."""
    return [Heading("Judged by an LLM"), JUDGED, tables.judgements(data.judgements)] if data.judgements else []


def _gains(data: ReportData, gained: Sequence[Gain]) -> list[Block]:
    if not gained:
        return []
    present = gains(data.judged, "present")
    made: list[Block] = [Heading("What survives the controls"), GAINS, Heading("F1", 3), tables.gains_table(gained)]
    return [*made, Heading("Answer present", 3), first_line(present), tables.gains_table(present)]


def _comparisons(found: Sequence[Comparison]) -> list[Block]:
    if not found:
        return []
    made: list[Block] = [Heading("Methods compared in pairs"), COMPARED]
    places = sorted(dict.fromkeys((c.dataset, c.variant) for c in found), key=lambda place: place[0] != ALL)
    for dataset, variant in places:
        some = [c for c in found if (c.dataset, c.variant) == (dataset, variant)]
        name = "All data sets" if dataset == ALL else dataset
        made += [Heading(", ".join(filter(None, (name, variant))), 3)] if len(places) > 1 else []
        made += [tables.comparisons_matrix(some)]
    return [*made, Details("Every pair with its interval", [tables.comparisons_list(found)])]


def _augmentation(rows: Sequence[Row]) -> list[Block]:
    made: list[Block] = [Table(*augmentation.table(rows), augmentation.LEFT)]
    if dropped := augmentation.reasons(rows):
        made += [Table(["Dropped because", "Items"], dropped, left=1)]
    return made


def _augmented(data: ReportData, folder: Path) -> list[Block]:
    if not data.augmentations:
        return []
    plots.augmentation_chart(data.augmentations, folder / "augmentation.png")
    words = "Histograms: accepted items, and tokens or seconds, of each document"
    return [Heading("Augmentation"), *_augmentation(data.augmentations), Picture(folder / "augmentation.png", words)]


def _training(data: ReportData, folder: Path) -> list[Block]:
    made: list[Block] = []
    if data.translator_curve:
        plots.translator_chart(data.translator_curve, folder / "translator.png")
        made += [Picture(folder / "translator.png", "The translator's losses over its training steps")]
    if curves := {name: losses for name, losses in data.adapter_curves.items() if losses}:
        plots.adapter_chart(curves, folder / "adapters.png")
        made += [Picture(folder / "adapters.png", "The losses of the documents' adapters over their training steps")]
    return [Heading("Training"), *made] if made else []


def _examples(judged: Sequence[Judged]) -> list[Block]:
    """Some questions, spread over all of them, with the methods' answers; of variants the first one's."""
    questions: dict[tuple[str, str], list[Judged]] = {}
    for item in judged:
        questions.setdefault((item.dataset, item.question_id), []).append(item)
    made: list[Block] = [Heading("Answers side by side")] if questions else []
    for items in plots.spread(list(questions.values()), MOST_EXAMPLES):
        first = items[0]
        items = [item for item in items if item.variant == first.variant and not is_control(item.method)]
        made += [Heading(first.question, level=3)]
        answers = " / ".join(first.answers) or "(none known)"
        made += [f"True answer: {answers} ({first.dataset}; type: {first.type}; documents: {first.split})"]
        lines = [
            [item.method, item.output.strip() or "(nothing)", f"{100 * item.score.f1:.0f}" if item.score else "–"]
            for item in items
        ]
        made += [Table(("Method", "Answer", "F1"), lines, left=2)]
    return made


def _work(data: ReportData) -> list[Block]:
    made: list[Block] = []
    for title, items, columns, left in (
        ("Stages", data.stages, ("stage", "done", "partial", "failed", "waiting", "cached"), 1),
        ("Failures", data.failures, ("document_id", "stage", "error"), 3),
    ):
        if items:
            header = [column.replace("_", " ").capitalize() for column in columns]
            made += [Heading(title), Table(header, [[str(item[c]) for c in columns] for item in items], left)]
    return made


def _settings(data: ReportData) -> list[Block]:
    config = json.dumps(data.config, indent=2, ensure_ascii=False, default=str)
    made: list[Block] = [Heading("Settings"), Details("Configuration", [Code(config)])]
    if data.versions:
        lines = [[name, version] for name, version in data.versions.items()]
        made += [Details("Versions", [Table(["Library", "Version"], lines, left=2)])]
    return made


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
    """Nothing may be loaded from elsewhere, and no script run but the page's own."""
    script, style = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (SCRIPT, STYLE))
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; base-uri 'none'"
    )
