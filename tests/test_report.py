"""The report's pages, tables and pictures, from made-up results."""

from pathlib import Path
from typing import Any

import pytest

from dyprag.report import ReportData, augmentation_table, results_table, terminal_table, write_report
from dyprag.report.page import findings
from dyprag.report.plots import human_bytes


def row(method: str, split: str, f1: float, stored: int = 0) -> dict[str, Any]:
    numbers = {"questions": 40, "em": 20.0, "f1": f1, "f1_low": f1 - 6.2, "f1_high": f1 + 6.7}
    return {"method": method, "dataset": "demo", "split": split, **numbers, "precision": 30.0, "recall": 50.0,
            "seconds_per_answer": 0.25, "bytes_per_document": stored}  # fmt: skip


ROWS = [
    *(row("vanilla", split, f1) for split, f1 in (("all", 8.1), ("seen", 8.0), ("unseen", 8.4))),
    *(row("rag", split, f1, 740) for split, f1 in (("all", 41.2), ("seen", 41.0), ("unseen", 41.6))),
    *(row("prag", split, f1, 1_500_000) for split, f1 in (("all", 24.3), ("seen", 24.0), ("unseen", 24.9))),
    *(row("dyprag", split, f1, 740) for split, f1 in (("all", 11.0), ("seen", 13.3), ("unseen", 6.9))),
]
EXAMPLE = {
    "question": "Who | what?",
    "answers": ["Ada", "Ada L."],
    "type": "single",
    "split": "unseen",
    "by_method": {"rag": {"answer": "<script>alert(1)</script>|\nAda", "f1": 0.5}, "prag": {"answer": "", "f1": 0.0}},
}


def data(**changes: Any) -> ReportData:
    values: dict[str, Any] = {
        "title": "DyPRAG on demo", "created": "2025-01-02T03:04:05", "model": "smollm2-135m",
        "config": {"store": "artifacts", "corpus": {"held_out": 0.25}}, "rows": ROWS, "examples": [EXAMPLE] * 9,
        "translator_curve": [{"step": s, "pred": 3 / s, "mse": 1 / s, "kl": 0.0, "total": 4 / s,
                              "validation": 5 / s if s % 10 == 0 else None} for s in range(1, 30)],
        "adapter_curves": {f"d{n}": [3.0 / (s + 1) for s in range(5 + n)] for n in range(15)},
        "stages": [{"stage": "augment", "done": 14, "partial": 2, "failed": 1, "waiting": 0, "cached": 3}],
        "failures": [{"document_id": "d|9", "stage": "augment", "error": "too long\nfor the model"}],
        "augmentations": AUGMENTED,
    }  # fmt: skip
    return ReportData(**(values | changes))


def augmented(product: str, number: int, **changes: Any) -> dict[str, Any]:
    return {"document_id": f"d{number}", "product": product, "wanted": 3, "accepted": 2 + number % 2, "dropped": 1,
            "rounds": 2, "requests": 4, "retries": 1, "tokens_in": 900, "tokens_out": 350, "cost": 0.001,
            "latency": 2.0, "quality": '{"support": 0.9}', "seconds": 3.5,
            "reasons": '{"it loses 1911": 1, "it is the same as another one": 2}', **changes}  # fmt: skip


AUGMENTED = [augmented(product, number) for product in ("rewrites", "qa_pairs") for number in range(10)]


def test_what_augmentation_took_is_a_table_with_sums_means_and_reasons() -> None:
    lines = augmentation_table(AUGMENTED).splitlines()
    assert lines[0] == "|  | rewrites | qa pairs |"
    for line in ("| Documents | 10 | 10 |", "| Accepted | 25 | 25 |", "| Items asked for | 30 | 30 |",
                 "| Requests answered | 40 | 40 |", "| Tokens in | 9,000 | 9,000 |", "| Cost | 0.0100 | 0.0100 |",
                 "| Seconds a request | 0.50 | 0.50 |", "| Mean support | 0.90 | 0.90 |"):  # fmt: skip
        assert line in lines
    assert "| it is the same as another one | 40 |" in lines
    assert "| it loses names or numbers | 20 |" in lines
    local = augmentation_table([augmented("qa_pairs", 1, requests=0, cost=None, tokens_in=0, tokens_out=0)])
    assert "Tokens" not in local


def test_tables_part_only_the_translators_methods() -> None:
    lines = results_table(ROWS).splitlines()
    assert [line.split(" | ")[0:2] for line in lines[2:]] == [
        ["| vanilla", "all"], ["| rag", "all"], ["| prag", "all"], ["| dyprag", "seen"], ["| dyprag", "unseen"],
    ]  # fmt: skip
    assert "41.2 [35.0, 47.9]" in lines[3]
    assert "1.5 MB" in lines[4]
    plain = terminal_table(ROWS).splitlines()
    assert len({len(line) for line in plain}) == 1
    assert len(plain) == len(lines)
    assert "| dyprag | all |" in results_table([row("dyprag", "all", 10.0)])


def test_findings_say_above_and_below() -> None:
    text = findings(ROWS)
    assert text.startswith("rag answers best by F1: 41.2 [35.0, 47.9] over 40 questions.")
    assert "PRAG (adapters without passages) stands 16.2 points above vanilla" in text
    assert "DyPRAG stands 1.5 points below vanilla (6.9 against 8.4, overlapping intervals)" in text
    assert "DyPRAG" not in findings([each for each in ROWS if each["split"] == "all"])


def test_pages_are_complete_and_escaped(tmp_path: Path) -> None:
    report = write_report(data(), tmp_path / "new" / "report")
    page, text = report.html.read_text(encoding="utf-8"), report.markdown.read_text(encoding="utf-8")
    assert text == report.markdown_text
    assert report.summary == terminal_table(ROWS)
    assert "<script" not in page + text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("data:image/png;base64,") == 5
    assert "&quot;held_out&quot;: 0.25" in page
    assert "| d\\|9 | augment | too long for the model |" in text
    assert text.count("True answer: Ada / Ada L.") == 8
    for name in ("f1", "cost", "augmentation", "translator", "adapters"):
        assert f"({name}.png)" in text
        assert (report.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("rows", [[], [row("vanilla", "all", 0.0)]])
def test_missing_parts_are_left_out(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    empty: dict[str, Any] = {"examples": [], "translator_curve": [], "adapter_curves": {}, "stages": [], "failures": [],
                             "augmentations": []}  # fmt: skip
    report = write_report(data(rows=rows, **empty), tmp_path)
    for absent in ("Failures", "Augmentation", "Training", "Stages", "side by side", "by split\n", "PRAG (adapters"):
        assert absent not in report.markdown_text
    assert len(list(tmp_path.glob("*.png"))) == (2 if rows else 0)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (740_000, "740 kB"), (1_500_000, "1.5 MB"), (999_999, "1.0 MB"), (12e9, "12 GB")]
)
def test_bytes_are_readable(count: float, text: str) -> None:
    assert human_bytes(count) == text
