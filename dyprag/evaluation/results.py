"""The results of an evaluation: judged answers, and rows with the scores and costs of each method (§4).

Gains over vanilla and controls are in `gains`, comparisons of methods and of runs in `comparison`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Any, Literal

from dyprag.evaluation.metrics import Score, answer_presence
from dyprag.evaluation.statistics import share_interval
from dyprag.evaluation.strata import interval_over

Row = dict[str, Any]
Cell = tuple[str, str, str]  # data set, variant, method
Measure = Literal["f1", "present"]
MOST_CUT = 5.0  # percent of outputs cut at the token limit above which reports warn
ALL = "all"  # all data sets, question types or splits together


@dataclass(frozen=True)
class Shown:
    """A passage that was retrieved for a question."""

    id: str
    title: str
    text: str
    score: float
    gold: bool


@dataclass(frozen=True)
class Judged:
    """A method's answer to a question, with its scores and costs.

    variant: the configuration of a grid that answered; empty if there is only one.
    split: whether the translator was trained on the question's documents: seen, unseen or mixed.
    output: the whole output.
    seconds, first_token: time for the answer, and until its first token.
    retrieval: the share of gold documents that were retrieved; None if none are known.
    score, present: None if the question has no answers, so that only a judge can score it.
    """

    dataset: str
    variant: str
    method: str
    question_id: str
    question: str
    answers: tuple[str, ...]
    type: str
    split: str
    output: str
    tokens: int
    seconds: float
    first_token: float
    retrievals: int
    prompt: str
    passages: Sequence[Shown]
    retrieval: float | None
    score: Score | None
    present: bool | None
    unsupported: float | None = None  # share of the answer's words in neither passages nor question
    cut: bool | None = None  # whether the output was cut at the token limit; None if unknown
    believed: tuple[str, ...] = ()  # the true answers, if the documents were altered to contradict them


def result_rows(
    judged: Sequence[Judged], sizes: Mapping[str, float], memory: Mapping[str, float] = MappingProxyType({})
) -> list[Row]:
    """Aggregate answers to rows by data set, variant, method, question type and split.

    The type is "all", and each type if a data set has several. The split is "all", and "seen" and "unseen" if both
    occur. With several data sets, rows of the data set "all" follow: the mean over the data sets, for methods that
    answered in each of them. Scores and their intervals are in percent. Values that were not measured are None, and so
    are scores if no question has answers.

    Args:
        sizes: bytes stored per document, by method. If they differ between the variants of a grid, call this function
            for each variant; rows do not depend on other variants.
        memory: peak memory in bytes while answering, by method.
    """
    cells = grouped(judged)
    datasets = _names(cells, 0)
    rows = []
    for cell, items in cells.items():
        for type_, split, part in _parts(items, _types(judged, cell[0])):
            rows.append(_row(cell, type_, split, [part], sizes, memory))
    if len(datasets) > 1:
        for variant, method in dict.fromkeys((variant, method) for _, variant, method in cells):
            strata = [cells.get((dataset, variant, method), []) for dataset in datasets]
            if all(strata):
                rows.append(_row((ALL, variant, method), ALL, ALL, strata, sizes, memory))
    return rows


def grouped(judged: Sequence[Judged]) -> dict[Cell, list[Judged]]:
    """Group answers by data set, variant and method, in order of first occurrence."""
    by_cell: dict[Cell, list[Judged]] = {}
    for item in judged:
        by_cell.setdefault((item.dataset, item.variant, item.method), []).append(item)
    ranks = [{name: rank for rank, name in enumerate(_names(by_cell, part))} for part in range(3)]

    def order(cell: Cell) -> list[int]:
        return [rank[name] for rank, name in zip(ranks, cell, strict=True)]

    return {cell: by_cell[cell] for cell in sorted(by_cell, key=order)}


def points(item: Judged, measure: Measure) -> float | None:
    """Return an answer's score in percent; None if the question has no answers."""
    if measure == "f1":
        return None if item.score is None else 100 * item.score.f1
    return None if item.present is None else 100.0 * item.present


def _names(cells: Mapping[Cell, object], part: int) -> list[str]:
    return list(dict.fromkeys(cell[part] for cell in cells))


def _types(judged: Sequence[Judged], dataset: str) -> list[str]:
    types = sorted({item.type for item in judged if item.dataset == dataset})
    return types if len(types) > 1 else []


def _parts(items: Sequence[Judged], types: Sequence[str]) -> Iterator[tuple[str, str, list[Judged]]]:
    """Iterate over the answers by type and split, beginning with all."""
    for type_ in (ALL, *types):
        of_type = [item for item in items if type_ in (ALL, item.type)]
        if not of_type:
            continue
        yield type_, ALL, of_type
        if {"seen", "unseen"} <= {item.split for item in of_type}:
            for split in ("seen", "unseen"):
                yield type_, split, [item for item in of_type if item.split == split]


def _row(
    cell: Cell, type_: str, split: str, strata: Sequence[Sequence[Judged]], sizes: Mapping[str, float],
    memory: Mapping[str, float],
) -> Row:  # fmt: skip
    dataset, variant, method = cell
    f1 = _values(strata, lambda item: points(item, "f1"))
    present = _values(strata, lambda item: points(item, "present"))
    f1_low, f1_high = interval_over(f1) if f1 else (None, None)
    presence_low, presence_high = _presence_interval(present)
    return {
        "dataset": dataset, "variant": variant, "method": method, "type": type_, "split": split,
        "questions": sum(map(len, strata)),
        "em": _mean(strata, lambda item: None if item.score is None else 100 * item.score.em),
        "f1": _mean_of_means(f1), "f1_low": f1_low, "f1_high": f1_high,
        "precision": _mean(strata, lambda item: None if item.score is None else 100 * item.score.precision),
        "recall": _mean(strata, lambda item: None if item.score is None else 100 * item.score.recall),
        "presence": _mean_of_means(present), "presence_low": presence_low, "presence_high": presence_high,
        "tokens": _mean(strata, lambda item: item.tokens),
        "cut": _mean(strata, lambda item: None if item.cut is None else 100.0 * item.cut),
        "seconds_per_answer": _mean(strata, lambda item: item.seconds),
        "first_token": _mean(strata, lambda item: item.first_token),
        "retrieval_recall": _mean(strata, lambda item: None if item.retrieval is None else 100 * item.retrieval),
        "retrievals": _mean(strata, lambda item: item.retrievals),
        "unsupported": _mean(strata, lambda item: None if item.unsupported is None else 100 * item.unsupported),
        "believed": _mean(strata, _believed), "bytes_per_document": sizes.get(method), "memory": memory.get(method),
    }  # fmt: skip


def _believed(item: Judged) -> float | None:
    return 100.0 * answer_presence(item.output, item.believed) if item.believed else None


def _values(strata: Sequence[Sequence[Judged]], value: Callable[[Judged], float | None]) -> list[list[float]]:
    """Return the available values by data set, without data sets that have none."""
    by_dataset = ([v for item in items if (v := value(item)) is not None] for items in strata)
    return [values for values in by_dataset if values]


def _mean_of_means(values: Sequence[Sequence[float]]) -> float | None:
    return fmean(map(fmean, values)) if values else None


def _mean(strata: Sequence[Sequence[Judged]], value: Callable[[Judged], float | None]) -> float | None:
    return _mean_of_means(_values(strata, value))


def _presence_interval(present: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    if not present:
        return None, None
    if len(present) > 1:
        return interval_over(present)
    low, high = share_interval(sum(value > 0 for value in present[0]), len(present[0]))
    return 100 * low, 100 * high
