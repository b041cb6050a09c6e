"""Published F1 scores of the paper and its replications, for comparison on the same model and data set.

The scores are in published.csv, each with its source.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published.csv")
# Question types whose name in the papers differs from that in the data set.
_TYPES = {("2wikimultihopqa", "bridge"): "bridge_comparison"}


@dataclass(frozen=True)
class Published:
    """A published score: token F1 in percent.

    type: the question type, as the data set names it, or "all".
    """

    model: str
    dataset: str
    type: str
    method: str
    f1: float
    source: str


def published(model: str, dataset: str) -> list[Published]:
    """Return the published scores of a model and data set, in the file's order.

    Args:
        model: a Hugging Face id, a folder or a plain name. Case and a leading "Meta-" are ignored.
    """
    key = model.rstrip("/").rsplit("/", 1)[-1].casefold().removeprefix("meta-"), dataset.casefold()
    return [figure for figure in _figures() if (figure.model, figure.dataset) == key]


@cache
def _figures() -> tuple[Published, ...]:
    with FILE.open(encoding="utf-8", newline="") as lines:
        return tuple(
            Published(row["model"], row["dataset"], _type(row), row["method"], float(row["f1"]), row["source"])
            for row in csv.DictReader(lines)
        )


def _type(row: dict[str, str]) -> str:
    return "all" if row["type"] == "total" else _TYPES.get((row["dataset"], row["type"]), row["type"])
