"""Published F1 of the paper and of those who ran it again, to stand beside ours where model and data set are the same.

The figures are in published.csv, each with its source.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published.csv")
# What the papers call a type, where the data set's own files call it otherwise.
_TYPES = {("2wikimultihopqa", "bridge"): "bridge_comparison"}


@dataclass(frozen=True)
class Published:
    """A published figure: token F1 in percent. type: the data set's own name, or "all"."""

    model: str
    dataset: str
    type: str
    method: str
    f1: float
    source: str


def published(model: str, dataset: str) -> list[Published]:
    """The figures of a model and data set, in the file's order; none where nothing is known.

    Args:
        model: a Hugging Face id, a folder or a plain name; case and a leading "Meta-" do not matter.
    """
    wanted = model.rstrip("/").rsplit("/", 1)[-1].casefold().removeprefix("meta-"), dataset.casefold()
    return [figure for figure in _figures() if (figure.model, figure.dataset) == wanted]


@cache
def _figures() -> tuple[Published, ...]:
    with FILE.open(encoding="utf-8", newline="") as lines:
        return tuple(
            Published(row["model"], row["dataset"], _type(row), row["method"], float(row["f1"]), row["source"])
            for row in csv.DictReader(lines)
        )


def _type(row: dict[str, str]) -> str:
    return "all" if row["type"] == "total" else _TYPES.get((row["dataset"], row["type"]), row["type"])
