"""The report's pages, tables and charts, from synthetic results."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dyprag.evaluation.comparison import comparisons
from dyprag.evaluation.gains import gains
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.report import (
    ReportData,
    augmentation_table,
    browser,
    plots,
    results_table,
    tables,
    terminal_table,
    write_report,
)
from dyprag.evaluation.report.findings import findings, outputs_cut
from dyprag.evaluation.report.plots import Charts, axis_of, human_bytes
from dyprag.evaluation.results import Judged, Shown, result_rows

SIZES = {"vanilla": 0.0, "rag": 740.0, "prag": 1_500_000.0, "dyprag": 740.0}
RIGHT = {"vanilla": 1, "rag": 4, "prag": 3, "dyprag": 2, "prag-wrong": 2}  # of six questions
GOLD = Shown("d1", "Engines", "Ada built it.</script><!--", 2.5, True)


def answer(method: str, number: int, right: bool, **changes: Any) -> Judged:
    output = "Ada. </script><script>alert(1)</script>" if right else "<b>Bob</b> | nobody"
    passages = () if method == "vanilla" else (GOLD, Shown("d2", "", "Ships sail.", 1.0, False))
    values: dict[str, Any] = {
        "dataset": "demo", "variant": "", "method": method, "question_id": f"q{number}", "question": f"Who | {number}?",
        "answers": ("Ada", "Ada L."), "type": ("single", "multihop")[number % 3 == 0],
        "split": ("seen", "unseen")[number % 2], "output": output, "tokens": 5, "seconds": 0.25, "first_token": 0.05,
        "retrievals": len(passages) // 2, "prompt": f"Tell me: {method} {number}", "passages": passages,
        "retrieval": None, "score": score(output, ["Ada", "Ada L."]),
        "present": answer_presence(output, ["Ada", "Ada L."]),
    }  # fmt: skip
    return Judged(**(values | changes))


def run(methods: Sequence[str] = tuple(RIGHT), **changes: Any) -> list[Judged]:
    return [answer(method, n, n < RIGHT[method], **changes) for method in methods for n in range(6)]


JUDGED = run()
ROWS = result_rows(JUDGED, SIZES)
GRID = [*run(variant="width=2"), *run(("vanilla", "dyprag"), variant="width=4")]
SEVERAL = [*run(dataset="popqa"), *run(dataset="hotpotqa")]


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


def augmented(product: str, number: int, **changes: Any) -> dict[str, Any]:
    return {"document_id": f"d{number}", "product": product, "wanted": 3, "accepted": 2 + number % 2, "dropped": 1,
            "rounds": 2, "requests": 4, "retries": 1, "tokens_in": 900, "tokens_out": 350, "cost": 0.001,
            "latency": 2.0, "quality": '{"support": 0.9}', "seconds": 3.5,
            "reasons": '{"it loses 1911": 1, "it is the same as another one": 2}', **changes}  # fmt: skip


AUGMENTED = [augmented(product, number) for product in ("rewrites", "qa_pairs") for number in range(10)]


def test_the_augmentation_table_has_totals_means_and_reasons() -> None:
    lines = augmentation_table(AUGMENTED).splitlines()
    assert lines[0] == "|  | rewrites | qa pairs |"
    for line in ("| Documents | 10 | 10 |", "| Accepted | 25 | 25 |", "| Items requested | 30 | 30 |",
                 "| Requests answered | 40 | 40 |", "| Tokens in | 9,000 | 9,000 |", "| Cost | 0.0100 | 0.0100 |",
                 "| Seconds per request | 0.50 | 0.50 |", "| Mean support | 0.90 | 0.90 |"):  # fmt: skip
        assert line in lines
    assert "| it is the same as another one | 40 |" in lines
    assert "| it loses names or numbers | 20 |" in lines
    local = augmentation_table([augmented("qa_pairs", 1, requests=0, cost=None, tokens_in=0, tokens_out=0)])
    assert "Tokens" not in local


def cells(markdown: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in markdown.splitlines()]


def test_tables_split_only_translator_methods_and_group_controls() -> None:
    lines = cells(results_table(ROWS))[2:]
    assert [line[:2] for line in lines if not line[0].startswith("**")] == [
        ["vanilla", "all"], ["rag", "all"], ["prag", "all"], ["dyprag", "seen"], ["dyprag", "unseen"],
        ["prag-wrong", "all"],
    ]  # fmt: skip
    assert lines[5][0].startswith("**Controls")
    assert "66.7 [33.3, 100.0]" in lines[1]  # rag: 4 of 6
    assert "1.5 MB" in lines[2]
    assert "Documents" not in results_table(result_rows([answer("rag", 1, True)], SIZES))


def test_the_terminal_has_a_table_per_data_set_without_controls_if_several() -> None:
    plain = terminal_table(ROWS).splitlines()
    assert len({len(line) for line in plain}) == 1
    parts = terminal_table(result_rows(SEVERAL, SIZES)).split("\n\n")
    assert [part.splitlines()[0] for part in parts] == ["Mean over 2 data sets", "popqa", "hotpotqa"]
    assert not any("prag-wrong" in part or "Controls" in part for part in parts)
    assert terminal_table([]) == ""


def test_each_score_is_shown_beside_that_with_wrong_documents() -> None:
    (control,) = [row for row in ROWS if (row["method"], row["type"], row["split"]) == ("prag-wrong", "all", "all")]
    for row in tables.shown(ROWS):
        if row["method"] == "prag":
            assert (row["wrong"]["f1"], row["wrong"]["presence"]) == (control["f1"], control["presence"])
        else:
            assert row["wrong"] is None
    header, *lines = terminal_table(ROWS).splitlines()
    assert "F1, wrong documents" in header
    assert "Present, wrong documents" in header
    assert not any(line.startswith("prag-wrong") for line in lines)
    without = [row for row in ROWS if row["method"] != "prag-wrong"]
    assert "wrong documents" not in terminal_table(without)


def test_a_control_that_was_asked_fewer_questions_says_how_many() -> None:
    both = [answer(method, number, True) for method in ("prag", "prag-wrong") for number in range(6)]
    assert " of 6" not in terminal_table(result_rows(both, SIZES))
    header, *lines = cells(results_table(result_rows(both[:-2], SIZES)))
    column = header.index("F1, wrong documents")
    assert [line[column].partition(" ")[2] for line in lines if line[0] == "prag"] == ["(4 of 6)"]


def test_columns_without_values_are_left_out() -> None:
    header = tables.results(ROWS).header
    assert "Gold found" not in header
    assert "Unsupported" not in header
    assert "Believed" not in header
    assert "Gold found" in tables.results(result_rows(run(retrieval=0.5), SIZES)).header
    unknown = tables.results(result_rows(run(score=None, present=None), SIZES))
    assert not {"F1 [95 %]", "EM", "Answer present [95 %]"} & set(unknown.header)


def test_variants_and_types_are_shown_side_by_side() -> None:
    by_variant = tables.by_variant(result_rows(GRID, SIZES))
    assert list(by_variant.header) == ["Variant, F1 [95 %]", "vanilla", "rag", "prag", "dyprag"]
    assert [[row[0], row[3][:4]] for row in by_variant.rows] == [["width=2", "50.0"], ["width=4", "–"]]
    by_type = tables.by_type(ROWS)
    assert list(by_type.header) == ["F1 by type", "all", "multihop", "single"]
    assert [row[2][:4] for row in by_type.rows][:3] == ["50.0", "100.", "50.0"]  # questions 0 and 3


def test_gains_and_pairs_are_tables() -> None:
    table = tables.gains_table(gains(JUDGED))
    lines = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [(line["Method"], line["Best control"], line["Survives"]) for line in lines] == [
        ("prag", "wrong documents", "50 %"), ("dyprag", "(none run)", "–"),
    ]  # fmt: skip
    matrix = tables.comparisons_matrix(comparisons(JUDGED))
    assert matrix.rows[1] == ["rag", "+50.0", "", "+16.7", "+33.3"]
    assert matrix.rows[0][2] == "-50.0"


def test_published_scores_are_shown_for_the_same_model_and_data_set() -> None:
    rows = result_rows(run(dataset="popqa"), SIZES)
    found = tables.beside_published(rows, "meta-llama/Llama-3.2-1B-Instruct", "popqa")
    assert found is not None
    table, sources = found
    line = next(row for row in table.rows if row[:2] == ["prag", "all"])
    assert line[2].startswith("50.0 [")
    assert line[3 + sources.index("PRAG, arXiv 2501.15915, table 1")] == "22.1"
    assert tables.beside_published(rows, "smollm2-135m", "popqa") is None


def test_findings_name_the_best_and_compare_unseen_documents() -> None:
    text = findings(ROWS)
    assert text.startswith("rag has the highest F1: 66.7 [33.3, 100.0] over 6 questions (interval overlaps")
    assert "DyPRAG is 33.3 points above vanilla (33.3 against 0.0, " in text  # only question 1 of 1, 3 and 5
    assert "prag-wrong" not in text
    assert "DyPRAG" not in findings([row for row in ROWS if row["split"] == "all"])
    assert "prag-wrong (a control) has the highest F1" in findings(result_rows(run(("vanilla", "prag-wrong")), SIZES))
    assert "nothing to compare" in findings(result_rows(run(score=None, present=None), SIZES))


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


def test_reports_warn_if_more_than_one_output_in_twenty_was_cut() -> None:
    cut = [answer("rag", n, True, cut=n == 0) for n in range(12)]
    whole = [answer("vanilla", n, True, cut=False) for n in range(12)]
    unknown = [answer("prag", n, True) for n in range(12)]
    rows = result_rows([*cut, *whole, *unknown], SIZES)
    assert outputs_cut(rows).startswith("Outputs were cut at the token limit (rag 8 %),")
    assert "Cut %" in terminal_table(rows)
    assert outputs_cut(result_rows([*whole, *unknown], SIZES)) == ""
    assert "Cut %" not in terminal_table(result_rows([*whole, *unknown], SIZES))


def test_the_report_describes_the_prompts(tmp_path: Path) -> None:
    evaluate = {"passages": 3, "prompt_passages": 1, "passage_order": "best-last", "ask_for": "examples",
                "strength": 1.0, "combine_strength": 0.5, "max_new_tokens": 64}  # fmt: skip
    text = write_report(data(config={"evaluate": evaluate}), tmp_path).markdown_text
    assert "at most 1, best last; two examples show a short answer. Strength of adapters: 1, " in text
    assert "beside passages 0.5. Answers: at most 64 tokens." in text
