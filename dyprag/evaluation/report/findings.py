"""The report's findings in prose, shown after its first line (`dyprag.evaluation.gains.first_line`)."""

from collections.abc import Sequence

from dyprag.evaluation.report.tables import datasets, is_control, of
from dyprag.evaluation.results import ALL, MOST_CUT, Row

MOST_NAMED = 6


def outputs_cut(rows: Sequence[Row]) -> str:
    """Return a warning if too many of a method's outputs were cut at the token limit; empty if not."""
    worst: dict[str, float] = {}
    for row in of(rows, split=ALL, type=ALL):
        worst[row["method"]] = max(worst.get(row["method"], 0.0), row.get("cut") or 0.0)
    named = [f"{method} {share:.0f} %" for method, share in worst.items() if share > MOST_CUT]
    if not named:
        return ""
    return (
        f"Outputs were cut at the token limit ({', '.join(named)}), so later answers are missed. Raise "
        "evaluate.max_new_tokens."
    )


def findings(rows: Sequence[Row]) -> str:
    """Describe the best method and, for a single data set and variant, DyPRAG against vanilla on unseen documents."""
    scored = [row for row in of(rows, type=ALL) if row["f1"] is not None]
    if not scored:
        return "No question with known answers was answered, so there is nothing to compare."
    sentences = [_best(of(scored, split=ALL, dataset=datasets(scored)[0]))]
    unseen = {row["method"]: row for row in of(scored, split="unseen")}
    single = len({(row["dataset"], row["variant"]) for row in scored}) == 1
    if single and {"dyprag", "vanilla"} <= unseen.keys():
        comparison = _compare_with_vanilla(unseen["dyprag"], unseen["vanilla"])
        sentences.append(f"On questions about unseen documents, DyPRAG is {comparison}.")
    return " ".join(sentences)


def _f1(row: Row) -> str:
    return f"{row['f1']:.1f} [{row['f1_low']:.1f}, {row['f1_high']:.1f}]"


def _best(overall: Sequence[Row]) -> str:
    best = max(overall, key=lambda row: row["f1"])
    text = f"{_name(best)} has the highest F1: {_f1(best)} over {best['questions']} questions"
    overlapping = [_name(row) for row in overall if row is not best and not is_control(row) and _overlap(row, best)]
    if len(overlapping) > MOST_NAMED:
        return f"{text} (intervals of {len(overlapping)} other methods overlap with it)."
    return text + (f" (interval overlaps with that of {', '.join(overlapping)})." if overlapping else ".")


def _name(row: Row) -> str:
    notes = [row["variant"]] * bool(row["variant"]) + ["a control"] * is_control(row)
    return row["method"] + (f" ({', '.join(notes)})" if notes else "")


def _compare_with_vanilla(row: Row, vanilla: Row) -> str:
    difference = round(round(row["f1"], 1) - round(vanilla["f1"], 1), 1)
    side = f"{abs(difference):.1f} points {'above' if difference > 0 else 'below'}" if difference else "level with"
    intervals = "overlapping" if _overlap(row, vanilla) else "separate"
    return f"{side} vanilla ({row['f1']:.1f} against {vanilla['f1']:.1f}, {intervals} intervals)"


def _overlap(first: Row, second: Row) -> bool:
    return bool(first["f1_low"] <= second["f1_high"] and second["f1_low"] <= first["f1_high"])
