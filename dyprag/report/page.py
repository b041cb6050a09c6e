"""The report's two pages, Markdown and HTML, and the results table for a terminal.

The content is put together once, as a list of blocks; each kind of page only decides how a block is written.
"""

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dyprag.report import augmentation, plots

Row = dict[str, Any]
MOST_EXAMPLES = 8
COLUMNS = ["Method", "Documents", "Questions", "F1 [95 %]", "EM", "Precision", "Recall", "s/answer", "bytes/document"]
EXPLANATION = (
    "F1: the words that the answer shares with the true one, after the official extraction of the answer, in percent, "
    "with the 95 % interval of a bootstrap over the questions. EM: share of answers that match exactly. Precision and "
    "recall: the two parts of F1. s/answer: seconds for one answer. bytes/document: what must be stored for each "
    "document to be able to answer."
)
SPLITS = (
    "Seen documents are those that the translator was trained on, unseen those that it was not. Each split has its own "
    "questions, so compare methods within a column of the next table."
)
STYLE = """
:root { color-scheme: light dark; --line: light-dark(#ccc, #555); --soft: light-dark(#f4f4f4, #2a2a2a); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem; text-align: left; overflow-wrap: anywhere; }
th { background: var(--soft); }
th, td:first-child, .number { white-space: nowrap; }
.number { text-align: right; }
img { width: 100%; max-width: 800px; border-radius: 4px; }
pre { background: var(--soft); padding: 1rem; overflow-x: auto; }
"""


@dataclass(frozen=True)
class ReportData:
    """What a report tells; em, f1, precision and recall of the rows are percentages."""

    title: str
    created: str
    model: str
    config: dict[str, Any]
    rows: list[Row]
    examples: list[dict[str, Any]]
    translator_curve: list[dict[str, float]]
    adapter_curves: dict[str, list[float]]
    stages: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    augmentations: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """A written report: its files, the Markdown page's text, and the results table for a terminal."""

    folder: Path
    markdown: Path
    html: Path
    markdown_text: str
    summary: str


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Table:
    """A table whose first `left` columns hold words and the others numbers."""

    header: Sequence[str]
    rows: list[list[str]]
    left: int


@dataclass(frozen=True)
class Picture:
    """A PNG file in the report's folder, with the words for those who cannot see it."""

    file: Path
    words: str


Block = Heading | Table | Picture | str  # a plain text is a paragraph


def write_report(data: ReportData, folder: Path) -> Report:
    """Write report.md, report.html and the pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = _blocks(data, folder)
    text = "\n\n".join(_markdown(block) for block in blocks) + "\n"
    markdown, page = folder / "report.md", folder / "report.html"
    markdown.write_text(text, encoding="utf-8")
    page.write_text(_html_page(data, blocks), encoding="utf-8")
    return Report(folder, markdown, page, text, terminal_table(data.rows))


def results_table(rows: Sequence[Row]) -> str:
    """The results as a Markdown table: methods with a translator have a row for seen and one for unseen documents."""
    return _markdown(_results(rows))


def augmentation_table(rows: Sequence[Row]) -> str:
    """What augmentation brought and took, as Markdown; the rows are those of the catalogue's `augmentations`."""
    return "\n\n".join(_markdown(block) for block in _augmentation(rows))


def terminal_table(rows: Sequence[Row]) -> str:
    """The results as plain text in columns of fixed width."""
    table = _results(rows)
    lines = [list(table.header), *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < table.left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def findings(rows: Sequence[Row]) -> str:
    """In words: the best method, and how PRAG, and DyPRAG on unseen documents, compare with vanilla."""
    overall = [row for row in rows if row["split"] == "all"]
    if not overall:
        return "No question was answered, so there is nothing to compare."
    best = max(overall, key=lambda row: row["f1"])
    text = f"{best['method']} answers best by F1: {_f1(best)} over {best['questions']} questions"
    near = [row["method"] for row in overall if row is not best and _overlap(row, best)]
    sentences = [text + (f" (interval overlaps with that of {', '.join(near)})." if near else ".")]
    for name, method, split, where in (
        ("PRAG (adapters without passages)", "prag", "all", ""),
        ("DyPRAG", "dyprag", "unseen", " on the questions about unseen documents"),
    ):
        row, vanilla = _row(rows, method, split), _row(rows, "vanilla", split)
        if row and vanilla:
            sentences.append(f"{name} stands {_compared(row, vanilla)}{where}.")
    return " ".join(sentences)


def _compared(row: Row, vanilla: Row) -> str:
    difference = round(round(row["f1"], 1) - round(vanilla["f1"], 1), 1)
    side = f"{abs(difference):.1f} points {'above' if difference > 0 else 'below'}" if difference else "level with"
    intervals = "overlapping" if _overlap(row, vanilla) else "separate"
    return f"{side} vanilla ({row['f1']:.1f} against {vanilla['f1']:.1f}, {intervals} intervals)"


def _overlap(one: Row, other: Row) -> bool:
    return bool(one["f1_low"] <= other["f1_high"] and other["f1_low"] <= one["f1_high"])


def _row(rows: Sequence[Row], method: str, split: str) -> Row | None:
    return next((row for row in rows if row["method"] == method and row["split"] == split), None)


def _methods(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def _shown(rows: Sequence[Row]) -> list[Row]:
    """A row for each method, or two where it matters whether the translator knew the documents."""
    shown: list[Row] = []
    for method in _methods(rows):
        splits = ("seen", "unseen") if method.startswith("dyprag") else ()
        parted = [row for split in splits if (row := _row(rows, method, split))]
        whole = _row(rows, method, "all")
        shown += parted or ([whole] if whole else [])
    return shown


def _f1(row: Row) -> str:
    return f"{row['f1']:.1f} [{row['f1_low']:.1f}, {row['f1_high']:.1f}]"


def _results(rows: Sequence[Row]) -> Table:
    lines = [
        [row["method"], row["split"], str(row["questions"]), _f1(row)]
        + [f"{row[measure]:.1f}" for measure in ("em", "precision", "recall")]
        + [f"{row['seconds_per_answer']:.2f}", plots.human_bytes(row["bytes_per_document"])]
        for row in _shown(rows)
    ]
    return Table(COLUMNS, lines, left=2)


def _by_split(rows: Sequence[Row]) -> Table:
    lines = []
    for method in _methods(rows):
        found = [_row(rows, method, split) for split in ("all", "seen", "unseen")]
        lines.append([method, *(_f1(row) if row else "–" for row in found)])
    return Table(("F1 [95 %]", "all", "seen", "unseen"), lines, left=1)


def _blocks(data: ReportData, folder: Path) -> list[Block]:
    blocks: list[Block] = [Heading(data.title, level=1), findings(data.rows)]
    blocks += [f"Base model: {data.model}. Created: {data.created}."]
    if shown := _shown(data.rows):
        blocks += [Heading("Results"), _results(data.rows), EXPLANATION]
        if any(row["split"] != "all" for row in data.rows):
            blocks += [SPLITS, Heading("F1 by split", level=3), _by_split(data.rows)]
        plots.f1_chart(shown, folder / "f1.png")
        plots.cost_chart([row for row in data.rows if row["split"] == "all"] or shown, folder / "cost.png")
        blocks += [Picture(folder / "f1.png", "F1 of each method with its 95 % interval")]
        blocks += [Picture(folder / "cost.png", "Seconds per answer and bytes per document of each method")]
    return blocks + _augmented(data, folder) + _training(data, folder) + _examples(data) + _work(data)


def _augmentation(rows: Sequence[Row]) -> list[Block]:
    blocks: list[Block] = [Table(*augmentation.table(rows), augmentation.LEFT)]
    if dropped := augmentation.reasons(rows):
        blocks += [Table(["Dropped because", "Items"], dropped, left=1)]
    return blocks


def _augmented(data: ReportData, folder: Path) -> list[Block]:
    if not data.augmentations:
        return []
    plots.augmentation_chart(data.augmentations, folder / "augmentation.png")
    words = "Histograms: accepted items, and tokens or seconds, of each document"
    return [Heading("Augmentation"), *_augmentation(data.augmentations), Picture(folder / "augmentation.png", words)]


def _training(data: ReportData, folder: Path) -> list[Block]:
    blocks: list[Block] = []
    if data.translator_curve:
        plots.translator_chart(data.translator_curve, folder / "translator.png")
        blocks += [Picture(folder / "translator.png", "The translator's losses over its training steps")]
    if curves := {name: losses for name, losses in data.adapter_curves.items() if losses}:
        plots.adapter_chart(curves, folder / "adapters.png")
        blocks += [Picture(folder / "adapters.png", "The losses of the documents' adapters over their training steps")]
    return [Heading("Training"), *blocks] if blocks else []


def _examples(data: ReportData) -> list[Block]:
    blocks: list[Block] = [Heading("Answers side by side")] if data.examples else []
    for example in plots.spread(data.examples, MOST_EXAMPLES):
        answers = " / ".join(example["answers"])
        blocks += [Heading(example["question"], level=3)]
        blocks += [f"True answer: {answers} (type: {example['type']}; documents: {example['split']})"]
        lines = [
            [method, given["answer"].strip() or "(nothing)", f"{100 * given['f1']:.0f}"]
            for method, given in example["by_method"].items()
        ]
        blocks += [Table(("Method", "Answer", "F1"), lines, left=2)]
    return blocks


def _work(data: ReportData) -> list[Block]:
    blocks: list[Block] = []
    for title, items, columns, left in (
        ("Stages", data.stages, ("stage", "done", "partial", "failed", "waiting", "cached"), 1),
        ("Failures", data.failures, ("document_id", "stage", "error"), 3),
    ):
        if items:
            header = [column.replace("_", " ").capitalize() for column in columns]
            blocks += [Heading(title), Table(header, [[str(item[c]) for c in columns] for item in items], left)]
    return blocks


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return "#" * level + " " + _escaped(text)
        case Picture(file, words):
            return f"![{words}]({file.name})"
        case Table(header, rows, left):
            rule = [":---" if place < left else "---:" for place in range(len(header))]
            lines = [[_escaped(cell) for cell in header], rule, *([_escaped(cell) for cell in row] for row in rows)]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return _escaped(block)


def _escaped(text: str) -> str:
    """Text on one line that neither ends a table's cell nor starts an HTML tag."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Picture(file, words):
            content = base64.b64encode(file.read_bytes()).decode("ascii")
            return f'<p><img alt="{html.escape(words)}" src="data:image/png;base64,{content}"></p>'
        case Table(header, rows, left):
            body = "\n".join(_html_row(row, "td", left) for row in rows)
            return f'<div class="scroll"><table>\n{_html_row(header, "th", left)}\n{body}\n</table></div>'
    return f"<p>{html.escape(block)}</p>"


def _html_row(cells: Sequence[str], tag: str, left: int) -> str:
    opening = [f"<{tag}>" if place < left else f'<{tag} class="number">' for place in range(len(cells))]
    return "<tr>" + "".join(o + html.escape(c) + f"</{tag}>" for o, c in zip(opening, cells, strict=True)) + "</tr>"


def _html_page(data: ReportData, blocks: Sequence[Block]) -> str:
    config = html.escape(json.dumps(data.config, indent=2, ensure_ascii=False, default=str))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(data.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(map(_html, blocks))
        + f"\n<details><summary>Configuration</summary><pre>{config}</pre></details>\n</body>\n</html>\n"
    )
