"""The report's tables, its findings and its warnings, from synthetic results."""

from judged import AUGMENTED, GRID, JUDGED, ROWS, SEVERAL, SIZES, answer, augmented, run

from dyprag.evaluation.comparison import comparisons
from dyprag.evaluation.gains import gains
from dyprag.evaluation.report import augmentation_table, results_table, tables, terminal_table
from dyprag.evaluation.report.findings import findings, outputs_cut
from dyprag.evaluation.results import result_rows


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


def test_reports_warn_if_more_than_one_output_in_twenty_was_cut() -> None:
    cut = [answer("rag", n, True, cut=n == 0) for n in range(12)]
    whole = [answer("vanilla", n, True, cut=False) for n in range(12)]
    unknown = [answer("prag", n, True) for n in range(12)]
    rows = result_rows([*cut, *whole, *unknown], SIZES)
    assert outputs_cut(rows).startswith("Outputs were cut at the token limit (rag 8 %),")
    assert "Cut %" in terminal_table(rows)
    assert outputs_cut(result_rows([*whole, *unknown], SIZES)) == ""
    assert "Cut %" not in terminal_table(result_rows([*whole, *unknown], SIZES))
