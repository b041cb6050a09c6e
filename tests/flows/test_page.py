"""The page of a pipeline or experiment, during the run and at its end."""

from pathlib import Path

import pytest

from dyprag.config import PipelineConfig
from dyprag.evaluation.report import brief_table
from dyprag.flows import page as pages
from dyprag.flows.page import Page, current_page, run_page, show_report
from dyprag.flows.summary import Summary
from dyprag.storage.catalogue import Work

Written = list[tuple[str, str]]  # text and description, each time


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, Written]:
    """Written texts by artifact key."""
    found: dict[str, Written] = {}

    def markdown(key: str, text: str, description: str):  # type: ignore[no-untyped-def]
        found.setdefault(key, []).append((text, description))
        return lambda text, description: found[key].append((text, description))

    monkeypatch.setattr(pages, "markdown", markdown)
    return found


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    return PipelineConfig(store=str(tmp_path))


def row(text: str, name: str) -> list[str]:
    """The cells of a row of the first table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def failed(name: str, reason: str = "it is no use. Mend it.", tries: int = 1) -> Work:
    return Work(name, "", "failed", attempts=tries, error_type="DocumentError", error=reason)


def test_a_page_shows_progress_and_the_result_of_each_stage(config: PipelineConfig, written: dict[str, Written]):
    with run_page(config, "pipeline", ["ingest"]) as page:
        page.begun("ingest", "run-1")
        page.ended(Summary("ingest", done=5, cached=2, failed=1, seconds=3.4), [failed("hol|low_*", tries=3)])
        page.expect(["augment", "parametrize"])
        page.begun("augment", "run-2")
        text, description = written["pipeline"][-1]
        assert description.startswith("Running for 0 s: augment; 1 failed")
        assert row(text, "ingest") == [
            "some failed",
            "3",
            "2",
            "0",
            "1",
            "0",
            "3",
            "[flow run](../../runs/flow-run/run-1)",
        ]
        assert row(text, "augment")[0] == "running"
        assert row(text, "parametrize")[0] == "pending"
        waits = Work("b", "", "waiting", error="the budget is spent.")
        summary = Summary("augment", done=3, partial=1, waiting=2, reason="the budget is spent.")
        page.ended(
            summary,
            [Work("a", "", "partial", error="0 of 1 rewrites"), waits, Work("c", "", "waiting", error=waits.error)],
        )
    text, description = written["pipeline"][-1]
    assert description == "Ended after 0 s; 1 failed"
    assert row(text, "augment") == ["stopped", "3", "0", "1", "0", "2", "0", "[flow run](../../runs/flow-run/run-2)"]
    assert row(text, "parametrize") == ["not run", "", "", "", "", "", "", ""]
    assert r"- **hol\|low\_\***, ingest: it is no use. Mend it. (3 tries)" in text
    assert f"`dyprag run --set store={config.store} --set corpus.documents=demo`" in text
    assert "- **a**, augment, partial: 0 of 1 rewrites" in text
    assert "- **b, c**, augment, waiting: the budget is spent." in text
    assert current_page() is None


def test_an_error_that_ends_the_run_is_shown_on_the_page(config: PipelineConfig, written: dict[str, Written]):
    def broken() -> None:
        with run_page(config, "pipeline", ["ingest", "augment"]) as page:
            page.begun("ingest", "run-1")
            raise ZeroDivisionError("by <zero>")

    with pytest.raises(ZeroDivisionError):
        broken()
    text, description = written["pipeline"][-1]
    assert description == "Ended early after 0 s"
    assert text.startswith(r"> by \<zero\>")
    assert row(text, "ingest")[0] == "failed"
    assert row(text, "augment")[0] == "not run"


def test_a_stopped_run_is_not_shown_as_failed(config: PipelineConfig, written: dict[str, Written]):
    def stopped() -> None:
        with run_page(config, "pipeline", ["ingest"]) as page:
            page.begun("ingest", "run-1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    text, _ = written["pipeline"][-1]
    assert text.startswith("> The run was stopped.")
    assert row(text, "ingest")[0] == "stopped"


def test_a_page_is_limited_in_size(config: PipelineConfig, written: dict[str, Written]):
    with run_page(config, "pipeline", ["augment"]) as page:
        many = [failed(f"document-{number:04}", "far too long. " * 200) for number in range(900)]
        page.ended(Summary("augment", failed=900), many)
        show_report(Path(config.store), "0123456789", "x" * 30_000)
    text, description = written["pipeline"][-1]
    assert text.count("- **document-") == 50
    assert "**900 failed.** The first 50 are shown; `dyprag status` lists all." in text
    assert description == "Ended after 0 s; 900 failed"
    assert len(text) < 45_000
    assert "dyprag report 01234567" in text
    assert "too long to show" in text


def test_progress_of_a_stage_reaches_the_page_from_time_to_time(
    config: PipelineConfig, written: dict[str, Written], monkeypatch: pytest.MonkeyPatch
):
    with run_page(config, "pipeline", ["augment"]) as page:
        page.begun("augment", "run-1")
        count = len(written["pipeline"])
        page.note("augment: 1 of 9 documents")
        assert len(written["pipeline"]) == count  # it was written a moment ago
        monkeypatch.setattr(pages, "NOTED_EVERY", -1.0)
        page.note("augment: 2 of 9 documents, 22 %")
        assert written["pipeline"][-1][1] == "Running for 0 s: augment: 2 of 9 documents, 22 %"


def test_an_experiments_page_shows_its_variants_and_their_failures(config: PipelineConfig, written: dict[str, Written]):
    def variant(name: str, above: Page, failures: int) -> None:
        above.begun(name, "")
        with run_page(config, "pipeline", ["augment"]) as page:
            page.begun("augment", "run-1")
            page.ended(Summary("augment", done=2, failed=failures), [failed("lamp")] * failures)

    with run_page(config, "experiment", ["width 2", "width 4", "width 8"]) as page:
        variant("width 2", page, 0)
        variant("width 4", page, 1)
        page.note("augment: 1 of 2")
        text, description = written["experiment"][-1]
        assert row(text, "width 2")[:4] == ["done", "2", "0", "0"]
        assert row(text, "width 8")[0] == "pending"
        page.begun("width 8", "")
        with pytest.raises(ZeroDivisionError), run_page(config, "pipeline", ["augment"]):
            raise ZeroDivisionError
    text, description = written["experiment"][-1]
    assert description == "Ended after 0 s; 1 failed"
    assert row(text, "width 4")[:5] == ["some failed", "2", "0", "0", "1"]
    assert row(text, "width 8")[0] == "failed"
    assert "- **lamp**, width 4: augment: it is no use. Mend it." in text
    assert len(written["pipeline"]) >= 6  # each variant has its own


def test_the_reports_table_fits_the_page():
    from dyprag.evaluation.results import ALL

    figures = dict.fromkeys(
        ("em", "f1", "f1_low", "f1_high", "precision", "recall", "presence", "presence_low", "presence_high",
         "seconds_per_answer", "bytes_per_document", "tokens", "first_token", "retrieval_recall", "retrievals",
         "unsupported", "memory", "believed", "cut"), 1.0,
    )  # fmt: skip
    rows = [
        {"method": m, "dataset": "demo", "variant": "", "split": ALL, "type": ALL, "questions": 3, **figures}
        for m in ("rag", "prag", "prag-wrong", "zero")
    ]
    table = brief_table(rows)
    assert table.splitlines()[0].count("|") < 12
    assert "F1, wrong documents" in table.splitlines()[0]
    assert "Controls" in table
    assert "adapters that know nothing" not in table
