"""The tables of a report, from the rows of `dyprag.evaluation.results.result_rows` and from comparisons.

Controls are listed below the methods, in a group of their own. Columns without any value are left out.
"""

from collections.abc import Callable, Sequence
from typing import Any

from dyprag.evaluation.comparison import Comparison
from dyprag.evaluation.gains import LEVEL, Gain, control_name
from dyprag.evaluation.published import published
from dyprag.evaluation.report import blocks
from dyprag.evaluation.report.blocks import Table
from dyprag.evaluation.report.plots import human_bytes
from dyprag.evaluation.results import ALL, MOST_CUT, Row
from dyprag.evaluation.statistics import Paired
from dyprag.methods import spec

Column = tuple[str, Callable[[Row], str]]
CONTROLS_TITLE = "Controls: adapters that know nothing of the question's documents"
MISSING = "–"


def results_table(rows: Sequence[Row]) -> str:
    """Render the results as Markdown, a table per data set.

    Methods with a translator have separate rows for seen and unseen documents.
    """
    return blocks.markdown([block for d in datasets(rows) for block in _titled(rows, d, results(of(rows, dataset=d)))])


def brief_table(rows: Sequence[Row]) -> str:
    """Render the terminal's columns as Markdown, a table per data set, for narrow views."""
    tables = [block for d in datasets(rows) for block in _titled(rows, d, short(rows, d))]
    return blocks.markdown(tables).replace(CONTROLS_TITLE, "Controls")


def terminal_table(rows: Sequence[Row]) -> str:
    """Render the results as plain text, a table per data set.

    Controls with wrong documents have columns beside their methods. With several data sets or variants, other controls
    are left out.
    """
    parts = []
    for dataset in datasets(rows):
        table = blocks.plain(short(rows, dataset))
        parts.append(f"{dataset_name(rows, dataset)}\n{table}" if len(datasets(rows)) > 1 else table)
    return "\n\n".join(parts)


def short(rows: Sequence[Row], dataset: str) -> Table:
    """Build the table of a data set with the columns of `terminal_table`. `rows` contains all data sets."""
    several = len(datasets(rows)) > 1 or len(names(rows, "variant")) > 1
    lines = shown(of(rows, dataset=dataset))
    shown_rows = [row for row in lines if not (is_control(row) if several else _kind(row) == "wrong")]
    return _table(shown_rows, _TERMINAL)


def results(rows: Sequence[Row]) -> Table:
    """Build the main table of one data set."""
    return _table(shown(rows), _MAIN)


def by_split(rows: Sequence[Row]) -> Table:
    """Build the table of F1 on all, seen and unseen documents of one data set."""
    return _spread(of(rows, type=ALL), "split", (ALL, "seen", "unseen"), "F1 [95 %]")


def by_type(rows: Sequence[Row]) -> Table:
    """Build the table of F1 by question type of one data set, a row per method."""
    return _spread(of(rows, split=ALL), "type", names(rows, "type"), "F1 by type")


def by_variant(rows: Sequence[Row]) -> Table:
    """Build the table of F1 by variant of one data set, without controls."""
    cells = {(row["method"], row["variant"]): row for row in of(rows, type=ALL, split=ALL)}
    methods, variants = names([row for row in rows if not is_control(row)], "method"), names(rows, "variant")
    lines = [[v or "(plain)", *(_f1(cells.get((m, v))) for m in methods)] for v in variants]
    return Table(["Variant, F1 [95 %]", *methods], lines, left=1)


def gains_table(gains: Sequence[Gain]) -> Table:
    """Build the table of each method's gain over vanilla, its best control's gain, and the difference."""
    header = ["Data set", "Variant", "Method", "Best control", "Questions", "Vanilla", "Gain [95 %]", "p",
              "Control's gain", "Over control [95 %]", "p", "Survives"]  # fmt: skip
    lines = []
    for gain in gains:
        control = control_name(gain.control) if gain.control else "(none run)"
        where = "all" if gain.dataset == ALL else gain.dataset
        line = [where, gain.variant, gain.method, control, str(gain.questions), f"{gain.vanilla:.1f}"]
        line += [difference(gain.over_vanilla), _p(gain.gain_p), _number(gain.control_gain, "+.1f")]
        line += [difference(gain.over_control) if gain.over_control else MISSING, _p(gain.control_p)]
        lines.append([*line, _share(gain.surviving)])
    return _without_empty(Table(header, lines, left=4))


def judgements(results: Sequence[dict[str, Any]]) -> Table:
    """Build the table of wins, ties and losses of the first method of each pair, with 95 % intervals."""

    def share(result: dict[str, Any], name: str) -> str:
        part = result[name]
        return f"{100 * part['value']:.1f} [{100 * part['low']:.1f}, {100 * part['high']:.1f}]"

    header = ("Variant", "Method", "Against", "Judge", "Wins %", "Ties %", "Losses %", "Undecided", "Agreement %")
    shares = ("win_share", "tie_share", "loss_share")
    rows = [
        [result["variant"], result["one"], result["other"], result["judge"], *(share(result, name) for name in shares),
         str(result["undecided"]), share(result, "agreement")]
        for result in results
    ]  # fmt: skip
    return _without_empty(Table(header, rows, left=4))


def comparisons_matrix(results: Sequence[Comparison]) -> Table:
    """Build the matrix of F1 differences, row minus column, in points. Significant differences have a star."""
    methods = list(dict.fromkeys(name for result in results for name in (result.one, result.other)))
    cells: dict[tuple[str, str], str] = {}
    for result in results:
        star = "*" if result.p < LEVEL else ""
        cells[result.one, result.other] = f"{result.paired.difference:+.1f}{star}"
        cells[result.other, result.one] = f"{-result.paired.difference:+.1f}{star}"
    return Table(["minus →", *methods], [[m, *(cells.get((m, o), "") for o in methods)] for m in methods], left=1)


def comparisons_list(results: Sequence[Comparison]) -> Table:
    """Build the table of all comparisons with intervals and p-values."""
    header = ["Data set", "Variant", "Method", "Minus", "Questions", "F1 points [95 %]", "p", "p, adjusted"]
    lines = [
        [
            result.dataset,
            result.variant,
            result.one,
            result.other,
            str(result.questions),
            difference(result.paired),
            _p(result.paired.p),
            _p(result.p),
        ]
        for result in results
    ]
    return _without_empty(Table(header, lines, left=4))


def beside_published(rows: Sequence[Row], model: str, dataset: str) -> tuple[Table, list[str]] | None:
    """Build the table of our F1 beside published F1, by method and type.

    Returns:
        The table and its sources in column order; None if nothing is published for the model and data set.
    """
    figures = published(model, dataset)
    if not figures:
        return None
    sources = list(dict.fromkeys(figure.source for figure in figures))
    published_f1 = {(f.method, f.type, f.source): f"{f.f1:.1f}" for f in figures}
    ours = {(row["method"], row["type"]): row for row in of(rows, split=ALL)}
    keys = dict.fromkeys([*(key for key in ours if any((*key, s) in published_f1 for s in sources)),
                          *((f.method, f.type) for f in figures)])  # fmt: skip
    lines = [
        [
            method,
            type_,
            _f1(ours.get((method, type_))),
            *(published_f1.get((method, type_, s), MISSING) for s in sources),
        ]
        for method, type_ in keys
    ]
    header = ["Method", "Type", "Ours, F1 [95 %]", *(f"Source {n + 1}" for n in range(len(sources)))]
    return Table(header, lines, left=2), sources


def of(rows: Sequence[Row], **wanted: str) -> list[Row]:
    """Filter rows by column values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def names(rows: Sequence[Row], column: str) -> list[str]:
    """Return the distinct values of a column, in order of occurrence."""
    return list(dict.fromkeys(row[column] for row in rows))


def datasets(rows: Sequence[Row]) -> list[str]:
    """Return the data sets, with "all" first."""
    return sorted(names(rows, "dataset"), key=lambda name: name != ALL)


def dataset_name(rows: Sequence[Row], dataset: str) -> str:
    """Return a data set's name for headings."""
    return f"Mean over {len(datasets(rows)) - 1} data sets" if dataset == ALL else dataset


def shown(rows: Sequence[Row]) -> list[Row]:
    """Select the rows to show for one data set, controls last.

    Each method and variant has one row, or separate rows for seen and unseen documents if it uses a translator. The key
    `wrong` refers to the row of the method's control with wrong documents; None if it was not run.
    """
    rows = of(rows, type=ALL)
    by_method = {(row["method"], row["variant"], row["split"]): row for row in rows}
    rows = [{**row, "wrong": by_method.get((f"{row['method']}-wrong", row["variant"], row["split"]))} for row in rows]
    lines: list[Row] = []
    for row in of(rows, split=ALL):
        by_split = [
            split_row
            for split_row in of(rows, variant=row["variant"], method=row["method"])
            if split_row["split"] != ALL and _uses_translator(row)
        ]
        lines += by_split or [row]
    return sorted(lines, key=is_control)


def _kind(row: Row) -> str | None:
    return spec.spec_of(row["method"]).kind if spec.is_control(row["method"]) else None


def _uses_translator(row: Row) -> bool:
    return any(method.name == row["method"] and method.uses_translator for method in spec.specs())


def is_control(row: Row) -> bool:
    """Whether a row belongs to a control."""
    return spec.is_control(row["method"])


def difference(comparison: Paired) -> str:
    """Format a difference with its interval."""
    return f"{comparison.difference:+.1f} [{comparison.low:+.1f}, {comparison.high:+.1f}]"


def _titled(rows: Sequence[Row], dataset: str, table: Table) -> list[blocks.Block]:
    return [blocks.Heading(dataset_name(rows, dataset), 3), table] if len(datasets(rows)) > 1 else [table]


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    has_splits = any(row["split"] != ALL for row in rows)
    shown_columns = [(name, write) for name, write in columns if has_splits or name != "Documents"]
    lines = [[write(row) for _, write in shown_columns] for row in rows]
    left = sum(name in ("Method", "Variant", "Documents") for name, _ in shown_columns)
    return _without_empty(
        Table([name for name, _ in shown_columns], lines, left, _control_group([row["method"] for row in rows]))
    )


def _without_empty(table: Table) -> Table:
    """Remove empty columns from a table."""
    columns = [
        column for column in range(len(table.header)) if any(row[column] not in ("", MISSING) for row in table.rows)
    ]
    left = sum(column < table.left for column in columns)
    rows = [[row[column] for column in columns] for row in table.rows]
    return Table([table.header[column] for column in columns], rows, left, table.groups)


def _spread(rows: Sequence[Row], column: str, values: Sequence[str], corner: str) -> Table:
    """Build a table of F1 by method and variant, with a column for each of `values`; controls last."""
    cells = {(row["variant"], row["method"], row[column]): row for row in rows}
    pairs = dict.fromkeys((row["variant"], row["method"]) for row in sorted(rows, key=is_control))
    lines = [[method, variant, *(_f1(cells.get((variant, method, v))) for v in values)] for variant, method in pairs]
    return _without_empty(
        Table([corner, "Variant", *values], lines, left=2, groups=_control_group([m for _, m in pairs]))
    )


def _control_group(methods: Sequence[str]) -> dict[int, str]:
    """Return the group title of the controls, by the index of the first control."""
    first = next((index for index, method in enumerate(methods) if spec.is_control(method)), None)
    return {} if first is None else {first: CONTROLS_TITLE}


def _f1(row: Row | None) -> str:
    return MISSING if row is None else _interval(row, "f1")


def _interval(row: Row, measure: str) -> str:
    value, low, high = row[measure], row[f"{measure}_low"], row[f"{measure}_high"]
    return MISSING if value is None else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.0f} %" if value > 0 else "none"


def _measured(name: str, form: str) -> Callable[[Row], str]:
    return lambda row: _number(row[name], form)


def _wrong(name: str) -> Callable[[Row], str]:
    """Format a value of the method's control with wrong documents, and how many of the questions it could be asked.

    A question whose passages are all documents of the corpus has no wrong document.
    """

    def write(row: Row) -> str:
        if (control := row.get("wrong")) is None:
            return MISSING
        value, asked = _number(control[name], ".1f"), control["questions"]
        return value if asked == row["questions"] or value == MISSING else f"{value} ({asked} of {row['questions']})"

    return write


def _bytes(name: str) -> Callable[[Row], str]:
    return lambda row: MISSING if row[name] is None else human_bytes(row[name])


def _p(value: float | None) -> str:
    return MISSING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name])


def _cut(row: Row) -> str:
    """Format the share of cut outputs only if it is high, to save space in the terminal."""
    return f"{row['cut']:.0f}" if (row["cut"] or 0) > MOST_CUT else MISSING


def _retrievals(row: Row) -> str:
    return f"{row['retrievals']:.1f}" if row["retrievals"] else MISSING


_NAMED: list[Column] = [
    ("Method", _text("method")), ("Variant", _text("variant")), ("Documents", _text("split")),
    ("Questions", _text("questions")), ("F1 [95 %]", lambda row: _interval(row, "f1")),
    ("F1, wrong documents", _wrong("f1")), ("EM", _measured("em", ".1f")),
]  # fmt: skip
_MAIN: list[Column] = [
    *_NAMED, ("Precision", _measured("precision", ".1f")), ("Recall", _measured("recall", ".1f")),
    ("Answer present [95 %]", lambda row: _interval(row, "presence")),
    ("Present, wrong documents", _wrong("presence")),
    ("Gold found", _measured("retrieval_recall", ".1f")),
    ("Believed", _measured("believed", ".1f")), ("Unsupported", _measured("unsupported", ".1f")),
    ("Tokens", _measured("tokens", ".1f")), ("Cut %", _measured("cut", ".1f")),
    ("First token, s", _measured("first_token", ".3f")), ("s/answer", _measured("seconds_per_answer", ".2f")),
    ("Retrievals", _retrievals), ("bytes/document", _bytes("bytes_per_document")), ("Memory", _bytes("memory")),
]  # fmt: skip
_TERMINAL: list[Column] = [
    *_NAMED, ("Present", _measured("presence", ".1f")), ("Present, wrong documents", _wrong("presence")),
    ("Tokens", _measured("tokens", ".1f")), ("Cut %", _cut),
    ("s/answer", _measured("seconds_per_answer", ".2f")), ("bytes/document", _bytes("bytes_per_document")),
]  # fmt: skip
