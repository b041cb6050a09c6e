"""What an evaluation found, question by question, and what it comes to (§4): scores and costs of each method.

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
MOST_CUT = 5.0  # percent of a method's outputs that the limit may cut before a reader is warned
ALL = "all"  # all data sets, all types or all splits together


@dataclass(frozen=True)
class Shown:
    """A passage that was retrieved for a question, as it was found."""

    id: str
    title: str
    text: str
    score: float
    gold: bool


@dataclass(frozen=True)
class Judged:
    """One method's answer to one question, scored.

    variant: which configuration of a grid answered; empty where there is one only. split: whether the translator saw
    the question's documents in training: seen, unseen or mixed. output: the whole, uncut answer. seconds, first_token:
    of this answer, and its part before the first token. retrieval: share of the gold documents among those found; None
    where none are known. score, present: None where the question has no answers (only a judge can say).
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
    unsupported: float | None = None  # share of the answer's words that neither its passages nor the question have
    cut: bool | None = None  # whether the limit of tokens cut the output; None where that was not noted
    believed: tuple[str, ...] = ()  # the true answers, where its documents were altered to say something else


def result_rows(
    judged: Sequence[Judged], sizes: Mapping[str, float], memory: Mapping[str, float] = MappingProxyType({})
) -> list[Row]:
    """A row for each data set, variant, method, question type ("all", and each where a data set has several) and split
    ("all", and "seen" and "unseen" where both occur). Where there are several data sets, rows of the data set "all"
    follow: the mean over the data sets, for the methods that answered in each of them.

    Scores and their intervals are in percent, and None where no question has answers; what was not measured is None.

    Args:
        sizes: bytes that must be stored for a document, by method. Where they differ between the variants of a grid,
            call this for each variant: no row depends on another variant's answers.
        memory: most bytes in use while answering, by method.
    """
    cells = grouped(judged)
    datasets = _names(cells, 0)
    rows = []
    for cell, items in cells.items():
        for type_, split, some in _parts(items, _types(judged, cell[0])):
            rows.append(_row(cell, type_, split, [some], sizes, memory))
    if len(datasets) > 1:
        for variant, method in dict.fromkeys((variant, method) for _, variant, method in cells):
            strata = [cells.get((dataset, variant, method), []) for dataset in datasets]
            if all(strata):
                rows.append(_row((ALL, variant, method), ALL, ALL, strata, sizes, memory))
    return rows


def grouped(judged: Sequence[Judged]) -> dict[Cell, list[Judged]]:
    """The answers by data set, variant and method, each in the order in which they first occur."""
    found: dict[Cell, list[Judged]] = {}
    for item in judged:
        found.setdefault((item.dataset, item.variant, item.method), []).append(item)
    orders = [{name: place for place, name in enumerate(_names(found, part))} for part in range(3)]
    return {
        cell: found[cell] for cell in sorted(found, key=lambda cell: [o[n] for o, n in zip(orders, cell, strict=True)])
    }


def points(item: Judged, measure: Measure) -> float | None:
    """An answer's score in percent; None where the question has no answers."""
    if measure == "f1":
        return None if item.score is None else 100 * item.score.f1
    return None if item.present is None else 100.0 * item.present


def _names(cells: Mapping[Cell, object], part: int) -> list[str]:
    return list(dict.fromkeys(cell[part] for cell in cells))


def _types(judged: Sequence[Judged], dataset: str) -> list[str]:
    types = sorted({item.type for item in judged if item.dataset == dataset})
    return types if len(types) > 1 else []


def _parts(items: Sequence[Judged], types: Sequence[str]) -> Iterator[tuple[str, str, list[Judged]]]:
    """The answers by type and split, all of them first."""
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
        "f1": _of(f1), "f1_low": f1_low, "f1_high": f1_high,
        "precision": _mean(strata, lambda item: None if item.score is None else 100 * item.score.precision),
        "recall": _mean(strata, lambda item: None if item.score is None else 100 * item.score.recall),
        "presence": _of(present), "presence_low": presence_low, "presence_high": presence_high,
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
    """The values that there are, by data set; a data set without any is left out."""
    found = ([v for item in items if (v := value(item)) is not None] for items in strata)
    return [values for values in found if values]


def _of(values: Sequence[Sequence[float]]) -> float | None:
    return fmean(map(fmean, values)) if values else None


def _mean(strata: Sequence[Sequence[Judged]], value: Callable[[Judged], float | None]) -> float | None:
    return _of(_values(strata, value))


def _presence_interval(present: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    if not present:
        return None, None
    if len(present) > 1:
        return interval_over(present)
    low, high = share_interval(sum(value > 0 for value in present[0]), len(present[0]))
    return 100 * low, 100 * high
