"""The tables of a report, from the rows of `dyprag.evaluation.results.result_rows` and from what compares them.

Controls stand below the methods, set apart. A column is left out where nothing was measured for it.
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
NOTHING = "–"


def results_table(rows: Sequence[Row]) -> str:
    """The results as Markdown, a table for each data set; methods with a translator have a row for seen and one for
    unseen documents."""
    return blocks.markdown([block for d in datasets(rows) for block in _titled(rows, d, results(of(rows, dataset=d)))])


def brief_table(rows: Sequence[Row]) -> str:
    """The terminal's columns as Markdown, a table for each data set: for a place with little room."""
    made = [block for d in datasets(rows) for block in _titled(rows, d, short(rows, d))]
    return blocks.markdown(made).replace(CONTROLS_TITLE, "Controls")


def terminal_table(rows: Sequence[Row]) -> str:
    """The results as plain text in columns of fixed width, a table for each data set. Controls with wrong documents
    stand beside their methods; where there are several data sets or variants, the other controls are left out."""
    parts = []
    for dataset in datasets(rows):
        table = blocks.plain(short(rows, dataset))
        parts.append(f"{dataset_name(rows, dataset)}\n{table}" if len(datasets(rows)) > 1 else table)
    return "\n\n".join(parts)


def short(rows: Sequence[Row], dataset: str) -> Table:
    """The table of one data set with the columns of `terminal_table`; `rows` are those of all data sets."""
    several = len(datasets(rows)) > 1 or len(names(rows, "variant")) > 1
    lines = shown(of(rows, dataset=dataset))
    kept = [row for row in lines if not (is_control(row) if several else _kind(row) == "wrong")]
    return _table(kept, _TERMINAL)


def results(rows: Sequence[Row]) -> Table:
    """The main table of one data set."""
    return _table(shown(rows), _MAIN)


def by_split(rows: Sequence[Row]) -> Table:
    """F1 on all, seen and unseen documents, of one data set."""
    return _spread(of(rows, type=ALL), "split", (ALL, "seen", "unseen"), "F1 [95 %]")


def by_type(rows: Sequence[Row]) -> Table:
    """F1 by question type, of one data set: a row for each method."""
    return _spread(of(rows, split=ALL), "type", names(rows, "type"), "F1 by type")


def by_variant(rows: Sequence[Row]) -> Table:
    """F1 of the variants side by side, of one data set; without controls."""
    cells = {(row["method"], row["variant"]): row for row in of(rows, type=ALL, split=ALL)}
    methods, variants = names([row for row in rows if not is_control(row)], "method"), names(rows, "variant")
    lines = [[v or "(plain)", *(_f1(cells.get((m, v))) for m in methods)] for v in variants]
    return Table(["Variant, F1 [95 %]", *methods], lines, left=1)


def gains_table(gains: Sequence[Gain]) -> Table:
    """What each method gains over vanilla, what its best control gains, and what is left."""
    header = ["Data set", "Variant", "Method", "Best control", "Questions", "Vanilla", "Gain [95 %]", "p", "Control's",
              "Left [95 %]", "p", "Survives"]  # fmt: skip
    lines = []
    for gain in gains:
        control = control_name(gain.control) if gain.control else "(none run)"
        where = "all" if gain.dataset == ALL else gain.dataset
        line = [where, gain.variant, gain.method, control, str(gain.questions), f"{gain.vanilla:.1f}"]
        line += [difference(gain.over_vanilla), _p(gain.gain_p), _number(gain.control_gain, "+.1f")]
        line += [difference(gain.over_control) if gain.over_control else NOTHING, _p(gain.control_p)]
        lines.append([*line, _share(gain.surviving)])
    return _without_empty(Table(header, lines, left=4))


def judgements(found: Sequence[dict[str, Any]]) -> Table:
    """Wins, ties and losses of the first method of each pair, with their shares' 95 % intervals."""

    def share(one: dict[str, Any], name: str) -> str:
        part = one[name]
        return f"{100 * part['value']:.1f} [{100 * part['low']:.1f}, {100 * part['high']:.1f}]"

    header = ("Variant", "Method", "Against", "Judge", "Wins %", "Ties %", "Losses %", "Undecided", "Agreement %")
    shares = ("win_share", "tie_share", "loss_share")
    rows = [
        [one["variant"], one["one"], one["other"], one["judge"], *(share(one, name) for name in shares),
         str(one["undecided"]), share(one, "agreement")]
        for one in found
    ]  # fmt: skip
    return _without_empty(Table(header, rows, left=4))


def comparisons_matrix(found: Sequence[Comparison]) -> Table:
    """Row less column, in points of F1, of one data set and variant; a star where it is more than noise."""
    methods = list(dict.fromkeys(name for made in found for name in (made.one, made.other)))
    cells: dict[tuple[str, str], str] = {}
    for made in found:
        star = "*" if made.p < LEVEL else ""
        cells[made.one, made.other] = f"{made.paired.difference:+.1f}{star}"
        cells[made.other, made.one] = f"{-made.paired.difference:+.1f}{star}"
    return Table(["less →", *methods], [[m, *(cells.get((m, o), "") for o in methods)] for m in methods], left=1)


def comparisons_list(found: Sequence[Comparison]) -> Table:
    """Every comparison with its interval and p-values."""
    header = ["Data set", "Variant", "Method", "less", "Questions", "F1 points [95 %]", "p", "p, adjusted"]
    lines = [
        [c.dataset, c.variant, c.one, c.other, str(c.questions), difference(c.paired), _p(c.paired.p), _p(c.p)]
        for c in found
    ]
    return _without_empty(Table(header, lines, left=4))


def beside_published(rows: Sequence[Row], model: str, dataset: str) -> tuple[Table, list[str]] | None:
    """Ours and each source's F1 by method and type, with the sources in the order of the columns; None where nothing
    is published for this model and data set."""
    figures = published(model, dataset)
    if not figures:
        return None
    sources = list(dict.fromkeys(figure.source for figure in figures))
    theirs = {(f.method, f.type, f.source): f"{f.f1:.1f}" for f in figures}
    ours = {(row["method"], row["type"]): row for row in of(rows, split=ALL)}
    both = dict.fromkeys([*(key for key in ours if any((*key, s) in theirs for s in sources)),
                          *((f.method, f.type) for f in figures)])  # fmt: skip
    lines = [
        [method, type_, _f1(ours.get((method, type_))), *(theirs.get((method, type_, s), NOTHING) for s in sources)]
        for method, type_ in both
    ]
    header = ["Method", "Type", "Ours, F1 [95 %]", *(f"Source {n + 1}" for n in range(len(sources)))]
    return Table(header, lines, left=2), sources


def of(rows: Sequence[Row], **wanted: str) -> list[Row]:
    """The rows that have all these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def names(rows: Sequence[Row], column: str) -> list[str]:
    """The values of a column in their order."""
    return list(dict.fromkeys(row[column] for row in rows))


def datasets(rows: Sequence[Row]) -> list[str]:
    """The data sets, all of them together first."""
    return sorted(names(rows, "dataset"), key=lambda name: name != ALL)


def dataset_name(rows: Sequence[Row], dataset: str) -> str:
    """A data set in words."""
    return f"Mean over {len(datasets(rows)) - 1} data sets" if dataset == ALL else dataset


def shown(rows: Sequence[Row]) -> list[Row]:
    """A row for each method and variant of one data set, or two where it matters whether the translator knew the
    documents; controls last. Each has, as `wrong`, the row of the same method with wrong documents' adapters (None:
    not run)."""
    rows = of(rows, type=ALL)
    by_method = {(row["method"], row["variant"], row["split"]): row for row in rows}
    rows = [{**row, "wrong": by_method.get((f"{row['method']}-wrong", row["variant"], row["split"]))} for row in rows]
    found: list[Row] = []
    for row in of(rows, split=ALL):
        parted = [
            part
            for part in of(rows, variant=row["variant"], method=row["method"])
            if part["split"] != ALL and _uses_translator(row)
        ]
        found += parted or [row]
    return sorted(found, key=is_control)


def _kind(row: Row) -> str | None:
    return spec.spec_of(row["method"]).kind if spec.is_control(row["method"]) else None


def _uses_translator(row: Row) -> bool:
    return any(one.name == row["method"] and one.uses_translator for one in spec.specs())


def is_control(row: Row) -> bool:
    """Whether a row is that of a control."""
    return spec.is_control(row["method"])


def difference(found: Paired) -> str:
    """A difference with its interval."""
    return f"{found.difference:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def _titled(rows: Sequence[Row], dataset: str, table: Table) -> list[blocks.Block]:
    return [blocks.Heading(dataset_name(rows, dataset), 3), table] if len(datasets(rows)) > 1 else [table]


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    parted = any(row["split"] != ALL for row in rows)
    used = [(name, write) for name, write in columns if parted or name != "Documents"]
    lines = [[write(row) for _, write in used] for row in rows]
    left = sum(name in ("Method", "Variant", "Documents") for name, _ in used)
    return _without_empty(Table([name for name, _ in used], lines, left, _apart([row["method"] for row in rows])))


def _without_empty(table: Table) -> Table:
    """The table without the columns in which nothing stands."""
    kept = [place for place in range(len(table.header)) if any(row[place] not in ("", NOTHING) for row in table.rows)]
    left = sum(place < table.left for place in kept)
    rows = [[row[place] for place in kept] for row in table.rows]
    return Table([table.header[place] for place in kept], rows, left, table.groups)


def _spread(rows: Sequence[Row], column: str, values: Sequence[str], corner: str) -> Table:
    """F1 of each method and variant, a column for each value; controls last."""
    cells = {(row["variant"], row["method"], row[column]): row for row in rows}
    pairs = dict.fromkeys((row["variant"], row["method"]) for row in sorted(rows, key=is_control))
    lines = [[method, variant, *(_f1(cells.get((variant, method, v))) for v in values)] for variant, method in pairs]
    return _without_empty(Table([corner, "Variant", *values], lines, left=2, groups=_apart([m for _, m in pairs])))


def _apart(methods: Sequence[str]) -> dict[int, str]:
    """Where the controls begin, which stand last."""
    first = next((place for place, method in enumerate(methods) if spec.is_control(method)), None)
    return {} if first is None else {first: CONTROLS_TITLE}


def _f1(row: Row | None) -> str:
    return NOTHING if row is None else _interval(row, "f1")


def _interval(row: Row, measure: str) -> str:
    value, low, high = row[measure], row[f"{measure}_low"], row[f"{measure}_high"]
    return NOTHING if value is None else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f} %" if value > 0 else "none"


def _measured(name: str, form: str) -> Callable[[Row], str]:
    return lambda row: _number(row[name], form)


def _wrong(name: str) -> Callable[[Row], str]:
    """A figure of the same method with wrong documents' adapters."""
    return lambda row: NOTHING if row.get("wrong") is None else _number(row["wrong"][name], ".1f")


def _bytes(name: str) -> Callable[[Row], str]:
    return lambda row: NOTHING if row[name] is None else human_bytes(row[name])


def _p(value: float | None) -> str:
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name])


def _cut(row: Row) -> str:
    """Only where it matters: the terminal has little room."""
    return f"{row['cut']:.0f}" if (row["cut"] or 0) > MOST_CUT else NOTHING


def _retrievals(row: Row) -> str:
    return f"{row['retrievals']:.1f}" if row["retrievals"] else NOTHING


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
