"""The report's charts, drawn without a display and without pyplot's global state.

Matplotlib is imported when the first chart is drawn, since its import takes about a second.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyprag.methods.spec import specs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which is safe for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
PALE = "#D0D0D0"  # for controls
_LINES = (BLUE, ORANGE, GREEN, VERMILION, "#CC79A7", "#56B4E9", "black")
_NUMBERED = re.compile(r"(|.*?[^\d.+-])([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
THIN_LINES = 12
CHARTS_VERSION = 1  # raise it when a chart is drawn differently
NOTE_BYTES, PNG_END = 500, b"IEND\xaeB`\x82"  # a file's comment is among its first bytes


@dataclass(frozen=True)
class Charts:
    """The charts of a report. Drawing takes up to a second each, and a run writes its report several times.

    folder: where they are written.
    earlier: the folder of an earlier report, whose charts are copied where they show the same data.
    """

    folder: Path
    earlier: Path | None = None

    def write(self, name: str, draw: Callable[..., Figure], *data: Any) -> Path:
        """Draw a chart to a PNG file, unless one of the two folders has it; returns its path.

        Args:
            draw: one of the functions below.
            data: its arguments.
        """
        path = self.folder / name
        shown = hashlib.blake2b(repr((CHARTS_VERSION, draw.__name__, data)).encode(), digest_size=16).hexdigest()
        if _shows(path, shown):
            return path
        new = path.with_name(f".{name}.new")
        if self.earlier and _shows(self.earlier / name, shown):
            shutil.copyfile(self.earlier / name, new)
        else:
            new.write_bytes(picture(draw, *data, note=shown))
        os.replace(new, path)
        return path


def _shows(path: Path, note: str) -> bool:
    """Whether a file is a whole PNG with this comment."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return note.encode() in content[:NOTE_BYTES] and content.endswith(PNG_END)


def picture(draw: Callable[..., Figure], *data: Any, note: str = "") -> bytes:
    """Draw a chart as a PNG; `note` becomes its comment."""
    figure = draw(*data)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Comment": note})  # figures created without pyplot use Agg
    return content.getvalue()


def f1_chart(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw each row's F1 with its interval. PRAG, DyPRAG and the controls have their own colours."""
    figure = _figure(0.42 * len(rows) + 1.0)
    axes = figure.add_subplot()
    values = [row["f1"] for row in rows]
    below = [max(0.0, row["f1"] - row["f1_low"]) for row in rows]
    above = [max(0.0, row["f1_high"] - row["f1"]) for row in rows]
    axes.barh(range(len(rows)), values, xerr=[below, above], color=_colours(rows), capsize=4, height=0.65)
    axes.set_xlim(0, max(row["f1_high"] for row in rows) * 1.12 or 1)
    for index, row in enumerate(rows):
        _write_at(axes, row["f1_high"], index, f"{row['f1']:.1f}")
    _name_bars(axes, rows)
    axes.set_xlabel("token F1, % (whiskers: 95 % interval)")
    return figure


def cost_chart(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw seconds and tokens per answer, and bytes per document, side by side."""
    figure = _figure(0.36 * len(rows) + 1.1)
    time, length, space = figure.subplots(1, 3, sharey=True)
    seconds = [float(row["seconds_per_answer"]) for row in rows]
    tokens = [float(row["tokens"]) for row in rows]
    stored = [float(row["bytes_per_document"] or 0) for row in rows]
    time.set_xlim(0, max(seconds) * 1.35 or 1)
    length.set_xlim(0, max(tokens) * 1.35 or 1)
    if positive := [value for value in stored if value > 0]:
        # Texts are a thousand times smaller than adapters; vanilla stores nothing and has no bar.
        space.set_xscale("log")
        space.set_xlim(min(positive) / 10, max(positive) * 100)
    for axes, values, texts in (
        (time, seconds, [f"{value:.2f}" for value in seconds]),
        (length, tokens, [f"{value:.0f}" for value in tokens]),
        (
            space,
            stored,
            ["" if row["bytes_per_document"] is None else human_bytes(row["bytes_per_document"]) for row in rows],
        ),
    ):
        axes.barh(range(len(rows)), values, color=_colours(rows), height=0.65)
        for index, (value, text) in enumerate(zip(values, texts, strict=True)):
            _write_at(axes, max(value, axes.get_xlim()[0]), index, text)
    _name_bars(time, rows)
    time.set_xlabel("seconds per answer")
    length.set_xlabel("tokens per answer")
    space.set_xlabel("bytes per document" + (" (log axis)" if positive else ""))
    return figure


def axis_of(variants: Sequence[str]) -> tuple[str, dict[str, float]] | None:
    """Return the axis name and each variant's value, if variants differ only in a number (width=2, width=4)."""
    parts = [_NUMBERED.fullmatch(variant) for variant in variants]
    names = {part[1] if part else None for part in parts}
    numbers = [float(part[2]) for part in parts if part]
    if len(variants) < 2 or len(names) > 1 or len(set(numbers)) < len(variants):
        return None
    return (names.pop() or "").rstrip(" =:_") or "variant", dict(zip(variants, numbers, strict=True))


def grid_chart(rows: Sequence[dict[str, Any]], name: str, value_of: Mapping[str, float]) -> Figure:
    """Draw F1 of each method over the variants, with 95 % intervals. `value_of` maps variants to axis values."""
    figure = _figure(3.4)
    axes = figure.add_subplot()
    numbers = sorted(value_of.values())
    for index, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        method_rows = sorted((row for row in rows if row["method"] == method), key=lambda row: value_of[row["variant"]])
        errors = [
            [row["f1"] - row["f1_low"] for row in method_rows],
            [row["f1_high"] - row["f1"] for row in method_rows],
        ]
        axes.errorbar(
            [value_of[row["variant"]] for row in method_rows], [row["f1"] for row in method_rows], yerr=errors,
            label=method, capsize=3, marker="osv^Dx*"[index % 7], color=_LINES[index % len(_LINES)], linewidth=1.4,
        )  # fmt: skip
    if min(numbers) > 0 and max(numbers) >= 8 * min(numbers):  # such as doubled sizes, or learning rates divided by ten
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(numbers, [f"{value:g}" for value in numbers])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(name)
    axes.set_ylabel("token F1, %")
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def translator_chart(curve: Sequence[dict[str, float]]) -> Figure:
    """Draw the translator's losses over its training steps, for either recipe."""
    figure = _figure(3.4)
    axes = figure.add_subplot()
    steps = [point["step"] for point in curve]
    lines = (
        ("total", "black"),
        ("pred", BLUE),
        ("mse", ORANGE),
        ("kl", GREEN),
        ("teacher", ORANGE),
        ("unrelated", GREEN),
    )
    for name, colour in lines:
        values = [point.get(name, 0.0) for point in curve]
        if any(value > 0 for value in values):  # a log axis cannot show a loss of zero
            axes.set_yscale("log", nonpositive="mask")
            label = name if name == "total" else f"L_{name}"
            axes.plot(steps, values, color=colour, label=label, linewidth=1.4, marker=".", markersize=2)
            axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    validations = [(point["step"], point["validation"]) for point in curve if point.get("validation")]
    if validations:
        axes.plot(
            *zip(*validations, strict=True), color=VERMILION, label="total, validation", linewidth=1.4, marker="o"
        )
        axes.legend(frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss (log axis)")
    return figure


def adapter_chart(curves: dict[str, list[float]]) -> Figure:
    """Draw some adapters' losses as thin lines, and the mean over all documents."""
    figure = _figure(3.4)
    axes = figure.add_subplot()
    for losses in spread(list(curves.values()), THIN_LINES):
        axes.plot(range(1, len(losses) + 1), losses, color=GREY, linewidth=0.7, alpha=0.8)
    longest = max(map(len, curves.values()))
    at_step = [[losses[step] for losses in curves.values() if step < len(losses)] for step in range(longest)]
    mean = [sum(values) / len(values) for values in at_step]
    axes.plot(range(1, longest + 1), mean, color=VERMILION, linewidth=2.2, marker=".")
    axes.set_title(f"thick: mean of {len(curves)} documents; thin: single documents", fontsize=10, loc="left")
    axes.set_xlabel("training step of the document's adapter")
    axes.set_ylabel("loss")
    axes.locator_params(axis="x", integer=True)
    return figure


def augmentation_chart(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw histograms over documents: accepted items per product, and tokens (or seconds, without an endpoint)."""
    figure = _figure(2.8)
    items, effort = figure.subplots(1, 2)
    tokens = any(row["tokens_out"] for row in rows)
    effort_values = [row["tokens_in"] + row["tokens_out"] if tokens else row["seconds"] for row in rows]
    counts = [row["accepted"] for row in rows]
    bins = [max(effort_values) * index / 20 for index in range(21)]
    for product, colour in zip(dict.fromkeys(row["product"] for row in rows), (BLUE, ORANGE), strict=False):
        indices = [index for index, row in enumerate(rows) if row["product"] == product]
        style: dict[str, Any] = {"color": colour, "alpha": 0.7, "label": product.replace("_", " ")}
        items.hist([counts[index] for index in indices], [n - 0.5 for n in range(max(counts) + 2)], **style)
        effort.hist([effort_values[index] for index in indices], bins if max(effort_values) else 1, **style)
    items.set_xlabel("accepted items per document")
    effort.set_xlabel("tokens per document, in and out" if tokens else "seconds per document")
    for axes in (items, effort):
        axes.set_ylabel("documents")
        axes.locator_params(axis="y", integer=True)
    items.locator_params(axis="x", integer=True)
    items.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def spread(items: list[Any], most: int) -> list[Any]:
    """Return at most `most` items, evenly spread over the list."""
    if len(items) <= most:
        return items
    return [items[index * len(items) // most] for index in range(most)]


def human_bytes(count: float) -> str:
    """Format a number of bytes: 0 B, 740 kB, 1.5 MB."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while round(value) >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 9.95 else f"{value:.1f} {units[0]}"


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(8, height), dpi=150, layout="constrained", facecolor="white")


def _colours(rows: Sequence[dict[str, Any]]) -> list[str]:
    sources = {"trained": BLUE, "translated": VERMILION}
    colours = {method.name: PALE if method.is_control else sources.get(method.injects, GREY) for method in specs()}
    return [colours.get(row["method"], GREY) for row in rows]


def _name_bars(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    names = [
        row["method"]
        + (f" {row['variant']}" if row["variant"] else "")
        + (f", {row['split']}" if row["split"] != "all" else "")
        for row in rows
    ]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # first row at the top, as in the table


def _write_at(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
