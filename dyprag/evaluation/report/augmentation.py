"""Tables on the results and costs of augmentation, from the rows of the catalogue's view `augmentations`."""

import json
from collections import Counter
from collections.abc import Sequence
from statistics import mean
from typing import Any

Row = dict[str, Any]
LEFT = 1  # number of left-aligned columns


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: a column per product, with totals, means, and mean quality scores of accepted items."""
    columns: dict[str, dict[str, str]] = {}
    for product in dict.fromkeys(row["product"] for row in rows):
        product_rows = [row for row in rows if row["product"] == product]
        requests = _sum(product_rows, "requests")
        costs = [row["cost"] for row in product_rows if row["cost"] is not None]
        endpoint = {
            "Requests answered": f"{requests:,}", "Retries": f"{_sum(product_rows, 'retries'):,}",
            "Tokens in": f"{_sum(product_rows, 'tokens_in'):,}", "Tokens out": f"{_sum(product_rows, 'tokens_out'):,}",
            "Cost": f"{sum(costs):.4f}" if costs else "–",
            "Seconds per request": f"{sum(row['latency'] for row in product_rows) / requests:.2f}",
        } if requests else {}  # fmt: skip
        columns[product.replace("_", " ")] = {
            "Documents": str(len(product_rows)), "Items requested": f"{_sum(product_rows, 'wanted'):,}",
            "Accepted": f"{_sum(product_rows, 'accepted'):,}", "Dropped": f"{_sum(product_rows, 'dropped'):,}",
            "Rounds per document": f"{mean(row['rounds'] for row in product_rows):.2f}", **endpoint,
            **{f"Mean {mark}": f"{value:.2f}" for mark, value in _quality(product_rows).items()},
        }  # fmt: skip
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    return ["", *columns], [[name, *(column.get(name, "–") for column in columns.values())] for name in names]


def reasons(rows: Sequence[Row], most: int = 8) -> list[list[str]]:
    """Return the most common reasons for dropped items, with counts, without details of single documents."""
    counts: Counter[str] = Counter()
    for row in rows:
        for reason, count in json.loads(row["reasons"]).items():
            counts[_general(reason)] += count
    return [[reason, str(count)] for reason, count in counts.most_common(most)]


def _general(reason: str) -> str:
    for start in ("it loses", "it adds"):
        if reason.startswith(start):
            return f"{start} names or numbers"
    return "its answer adds numbers" if reason.startswith("its answer has") else reason.split(" (")[0]


def _quality(rows: Sequence[Row]) -> dict[str, float]:
    marks: dict[str, list[float]] = {}
    for row in rows:
        for mark, value in json.loads(row["quality"]).items():
            marks.setdefault(mark, []).append(value)
    return {mark.replace("_", " "): mean(values) for mark, values in sorted(marks.items())}


def _sum(rows: Sequence[Row], name: str) -> int:
    return sum(row[name] for row in rows)
