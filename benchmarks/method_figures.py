"""The figures of method.py, compared with their goals, as a table and as a picture."""

from pathlib import Path
from statistics import median
from typing import Any

import torch

GPU = torch.cuda.is_available()
OFFICIAL_STEP = 66.0  # seconds of one translator step of the official code, measured once on two other CPU cores


def figures(measured: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """The rows of the table, from the figures of all rounds.

    `of_limit` is the rate of floating-point operations, as a share of that of a plain matrix product in the faster
    number format.
    """

    def middle(side: str, name: str) -> float:
        return median(figures_of_round[name] for figures_of_round in measured[side])

    limit = max(middle("limits", "bfloat16"), middle("limits", "float32"))

    def row(name: str, value: float, unit: str, baseline: float | None, goal: str, holds: bool,
            flops: float | None = None, ratio: float | None = None) -> dict[str, Any]:  # fmt: skip
        if baseline and ratio is None:
            ratio = value / baseline
        return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "goal": goal,
                "holds": holds, "of_limit": flops and flops / limit}  # fmt: skip

    ours, loop = "parametrization", "peft_loop"
    rate, loop_rate = middle(ours, "documents_per_second"), middle(loop, "documents_per_second")
    loss, loop_loss = middle(ours, "final_loss"), middle(loop, "final_loss")
    trained, loop_peak = middle(ours, "peak"), middle(loop, "peak")
    times = 20 if GPU else 2.5
    step, step_flops = middle("translator", "seconds"), middle("translator", "flops")
    before, faster = (middle("translator", "single"), 8) if GPU else (OFFICIAL_STEP, 60)
    aligned, ready, size = middle("translator", "peak"), middle("answering", "ready"), middle("answering", "bytes")
    first, rag_first = middle("answering", "dyprag_first"), middle("answering", "rag_first")
    answers, rag_answers = middle("answering", "dyprag_rate"), middle("answering", "rag_rate")
    return [
        row("documents parametrized per second", rate, "/s", loop_rate, f"{times} x a PEFT loop",
            rate >= times * loop_rate, middle(ours, "flops")),
        row("final loss", loss, "", loop_loss, "within 2 % of the loop's", abs(loss / loop_loss - 1) <= 0.02),
        row("peak memory of parametrization", trained, "GiB", loop_peak, "2 GiB", trained <= 2),
        row("translator step, three losses, per sample", step, "s", before,
            f"{faster} x {'steps of one sample' if GPU else 'the official code'}", before >= faster * step, step_flops,
            before / step),
        row("peak memory of translator training, p = 32", aligned, "GiB", None, "3 GiB", aligned <= 3),
        row("DyPRAG's first token", first, "s", rag_first, "0.25 x RAG's time", first <= 0.25 * rag_first,
            middle("answering", "first_flops")),
        row("DyPRAG's answers per second", answers, "/s", rag_answers, "2 x RAG's", answers >= 2 * rag_answers,
            middle("answering", "rate_flops")),
        row("embeddings to injected adapter", ready, "s", None, "0.03 s", ready <= 0.03),
        row("stored adapter", size, "bytes", None, "800,000 bytes", size <= 800_000),
    ]  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

    lines = [
        "| what | ours | instead | ratio | goal | holds | of the machine's limit |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {number(r['value'])} {r['unit']} | {number(r['baseline'])} | {number(r['ratio'])} | "
        f"{r['goal']} | {'yes' if r['holds'] else 'no'} | "
        f"{'' if r['of_limit'] is None else format(r['of_limit'], '.0%')} |"
        for r in rows
    ]
    return "\n".join(lines)


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the speedups over the alternatives as bars."""
    from matplotlib.figure import Figure

    lower_is_better = {"DyPRAG's first token"}
    chosen = [r for r in rows if r["ratio"] and r["name"] != "final loss" and r["unit"] != "GiB"]
    times = [1 / r["ratio"] if r["name"] in lower_is_better else r["ratio"] for r in chosen]
    chart = Figure(figsize=(8, 0.6 * len(chosen) + 1), dpi=150, layout="constrained")
    axes = chart.add_subplot()
    bars = axes.barh([r["name"] for r in chosen], times, color="#0072b2")
    labels = [f"{value:.3g} x  (goal: {r['goal']})" for value, r in zip(times, chosen, strict=True)]
    axes.bar_label(bars, labels, padding=4, fontsize=8)
    axes.set(xscale="log", xlim=(0.5, max(times) * 30), xlabel="speedup over the alternative")
    axes.axvline(1, color="#666666", linewidth=0.8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    chart.savefig(path)
