"""The report's pages and charts, from synthetic results."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from judged import AUGMENTED, GRID, JUDGED, ROWS, SIZES, answer, run

from dyprag.evaluation.report import ReportData, browser, plots, terminal_table, write_report
from dyprag.evaluation.report.plots import Charts, axis_of, human_bytes
from dyprag.evaluation.results import Judged, result_rows


def data(judged: list[Judged] = JUDGED, **changes: Any) -> ReportData:
    values: dict[str, Any] = {
        "title": "DyPRAG on demo", "created": "2025-01-02T03:04:05", "model": "smollm2-135m",
        "config": {"store": "artifacts", "corpus": {"held_out": 0.25}}, "judged": judged,
        "rows": result_rows(judged, SIZES),
        "translator_curve": [{"step": s, "pred": 3 / s, "mse": 1 / s, "kl": 0.0, "total": 4 / s,
                              "validation": 5 / s if s % 10 == 0 else None} for s in range(1, 30)],
        "adapter_curves": {f"d{n}": [3.0 / (s + 1) for s in range(5 + n)] for n in range(15)},
        "stages": [{"stage": "augment", "done": 14, "partial": 2, "failed": 1, "waiting": 0, "cached": 3}],
        "failures": [{"document_id": "d|9", "stage": "augment", "error": "too long\nfor the model"}],
        "augmentations": AUGMENTED, "versions": {"torch": "2.8.0"}, "notes": ["demo: 3 of 9 left out"],
    }  # fmt: skip
    return ReportData(**(values | changes))


class Page(HTMLParser):
    """Parses a page into elements and the content of its scripts, as a browser would."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scripts += [""] if tag == "script" else []
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, text: str) -> None:
        if self.tags[-1:] == ["script"]:
            self.scripts[-1] += text


def test_pages_are_complete_and_escaped(tmp_path: Path) -> None:
    report = write_report(data(), tmp_path / "new" / "report")
    page, text = report.html.read_text(encoding="utf-8"), report.markdown.read_text(encoding="utf-8")
    assert text == report.markdown_text
    first = text.splitlines()[2]
    assert first.startswith("On demo: PRAG's gain over vanilla of 33.3 F1 points is within noise;")
    assert report.summary == f"{first}\n\n{terminal_table(ROWS)}"
    assert "<script" not in text
    assert "&lt;script>alert(1)" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("data:image/png;base64,") == 5
    assert "&quot;held_out&quot;: 0.25" in page
    assert '"held_out": 0.25' in text
    assert "| torch | 2.8.0 |" in text
    assert "Notes on the data: demo: 3 of 9 left out." in text
    assert "| d\\|9 | augment | too long for the model |" in text
    assert text.count("True answer: Ada / Ada L.") == 6
    for name in ("f1", "cost", "augmentation", "translator", "adapters"):
        assert f"({name}.png)" in text
        assert (report.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_chart_is_drawn_again_only_for_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    real = plots.picture
    monkeypatch.setattr(plots, "picture", lambda draw, *data, note: drawn.append(note) or real(draw, *data, note=note))
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    losses = {"lamp": [3.0, 1.0]}
    first = Charts(tmp_path / "first").write("adapters.png", plots.adapter_chart, losses)
    again = Charts(tmp_path / "first", tmp_path / "absent").write("adapters.png", plots.adapter_chart, losses)
    copied = Charts(tmp_path / "second", tmp_path / "first").write("adapters.png", plots.adapter_chart, losses)
    assert first == again != copied
    assert copied.read_bytes() == first.read_bytes()
    assert len(drawn) == 1
    Charts(tmp_path / "first").write("adapters.png", plots.adapter_chart, {"lamp": [3.0, 2.0]})
    Charts(tmp_path / "first").write("adapters.png", plots.translator_chart, [{"step": 1, "total": 2.0}])
    assert len(drawn) == len(set(drawn)) == 3
    assert copied.read_bytes() != first.read_bytes()
    copied.write_bytes(copied.read_bytes()[:600])  # as a full disk or a kill would have left it
    Charts(tmp_path / "third", tmp_path / "second").write("adapters.png", plots.adapter_chart, losses)
    assert len(drawn) == 4
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["adapters.png"] * 3


def test_the_page_is_self_contained_and_answers_cannot_end_its_data(tmp_path: Path) -> None:
    text = write_report(data(), tmp_path).html.read_text(encoding="utf-8")
    page = Page(text)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    kept, script = page.scripts
    assert json.loads(kept)["passages"][0] == ["d1", "Engines", "Ada built it.</script><!--"]
    assert script.strip() == browser.SCRIPT.strip()
    inside = text.rsplit("<script>", 1)[1].split("</script>")[0]  # the script that the page's policy allows by its hash
    assert f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'" in text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


def test_the_browser_data_contains_every_answer_and_each_passage_once() -> None:
    kept = browser.data(JUDGED)
    assert (len(kept["answers"]), len(kept["questions"]), len(kept["passages"])) == (30, 6, 2)
    question, _, method, output, extracted, f1, em, present, *_, passages, prompt, _ = kept["answers"][6]
    assert kept["methods"][method] == "rag"
    assert kept["questions"][question][1] == "Who | 0?"
    assert output == "Ada. </script><script>alert(1)</script>"
    assert extracted == "Ada"
    assert (f1, em, present) == (100, 100, True)
    assert passages == [[0, 2.5, True], [1, 1.0, False]]
    assert kept["prompts"][prompt] == "Tell me: rag 0"
    assert json.loads(browser.escaped("a</script>\u2028&")) == "a</script>\u2028&"
    assert browser.browser([]) == ""


def test_prompts_are_left_out_if_the_page_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "MOST_PROMPTS", 100)
    kept = browser.data(JUDGED)
    assert kept["prompts"] is None
    assert {row[13] for row in kept["answers"]} == {None}
    assert "Prompts are left out" in browser.SCRIPT


def test_a_grid_over_several_data_sets_has_its_tables_and_lines(tmp_path: Path) -> None:
    judged = [*GRID, *run(variant="width=2", dataset="popqa"), *run(variant="width=4", dataset="popqa")]
    report = write_report(data(judged, model="Llama-3.2-1B-Instruct"), tmp_path)
    text = report.markdown_text
    for part in (
        "## Mean over 2 data sets",
        "## demo",
        "## popqa",
        "### F1 by variant",
        "**Beside published F1, width",
    ):
        assert part in text
    assert {path.name for path in tmp_path.glob("variants*.png")} == {
        "variants-1.png",
        "variants-2.png",
        "variants-3.png",
    }
    assert all((tmp_path / name).exists() for name in re.findall(r"\]\(([\w.-]+\.png)\)", text))


@pytest.mark.parametrize("judged", [[], [answer("vanilla", 1, False)], run(score=None, present=None)])
def test_missing_parts_are_left_out(tmp_path: Path, judged: list[Judged]) -> None:
    empty: dict[str, Any] = {"translator_curve": [], "adapter_curves": {}, "stages": [], "failures": [],
                             "augmentations": [], "versions": {}}  # fmt: skip
    report = write_report(data(judged, **empty), tmp_path)
    absent = ["Failures", "Augmentation", "Training", "Stages", "Versions", "survives the controls", "in pairs"]
    absent += [] if judged else ["side by side", "Cost"]
    for part in absent:
        assert part not in report.markdown_text
    assert (tmp_path / "f1.png").exists() == bool(judged and judged[0].score)


@pytest.mark.parametrize(
    ("variants", "axis"),
    [
        (["width=2", "width=16"], ("width", {"width=2": 2, "width=16": 16})),
        (["0.5", "1e-2"], ("variant", {"0.5": 0.5, "1e-2": 0.01})),
        (["rank 4", "width 8"], None),
        (["paper", "official"], None),
        (["width=2"], None),
        (["", "width=2"], None),
    ],
)
def test_variants_that_differ_in_a_number_have_an_axis(
    variants: list[str], axis: tuple[str, dict[str, float]] | None
) -> None:
    assert axis_of(variants) == axis


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (740_000, "740 kB"), (1_500_000, "1.5 MB"), (999_999, "1.0 MB"), (12e9, "12 GB")]
)
def test_bytes_are_readable(count: float, text: str) -> None:
    assert human_bytes(count) == text


def test_the_report_describes_the_prompts(tmp_path: Path) -> None:
    evaluate = {"passages": 3, "prompt_passages": 1, "passage_order": "best-last", "ask_for": "examples",
                "strength": 1.0, "combine_strength": 0.5, "max_new_tokens": 64}  # fmt: skip
    text = write_report(data(config={"evaluate": evaluate}), tmp_path).markdown_text
    assert "at most 1, best last; two examples show a short answer. Strength of adapters: 1, " in text
    assert "beside passages 0.5. Answers: at most 64 tokens." in text
