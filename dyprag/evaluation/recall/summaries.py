"""Summarises the answers of the recall benchmark: shares by band and condition, and changes by an adapter."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from dyprag.evaluation.recall.benchmark import BEFORE_AND_AFTER, GUARDS, Condition, Recalled
from dyprag.evaluation.statistics import Paired, paired


@dataclass(frozen=True)
class Summary:
    """The results of a band, in percent by condition.

    specific, beside: own minus wrong, and beside minus passage, with their 95 % intervals.
    relative: own ÷ passage; None if no question is answered with the passage.
    """

    band: str
    questions: dict[Condition, int]
    presence: dict[Condition, float]
    f1: dict[Condition, float]
    cut: dict[Condition, float]
    specific: Paired | None
    beside: Paired | None
    relative: float | None


def summarise(rows: Iterable[Recalled]) -> list[Summary]:
    """Summarise each band, in the order of the rows, without the bands of `changes`."""
    bands: dict[str, dict[Condition, list[Recalled]]] = {}
    for row in rows:
        if row.asked.band not in GUARDS:
            bands.setdefault(row.asked.band, {}).setdefault(row.condition, []).append(row)
    summaries = []
    for band, by_condition in bands.items():
        present = {condition: [100.0 * row.present for row in answered] for condition, answered in by_condition.items()}
        f1 = {condition: 100 * fmean(row.f1 for row in answered) for condition, answered in by_condition.items()}
        cut = {condition: 100 * fmean(row.cut for row in answered) for condition, answered in by_condition.items()}
        counts = {condition: len(answered) for condition, answered in by_condition.items()}
        presence = {condition: fmean(values) for condition, values in present.items()}
        with_passage = presence.get("passage")
        relative = presence["own"] / with_passage if with_passage and "own" in presence else None
        specific, beside = _difference(present, "own", "wrong"), _difference(present, "beside", "passage")
        summaries.append(Summary(band, counts, presence, f1, cut, specific, beside, relative))
    return summaries


def _difference(values: dict[Condition, list[float]], one: Condition, other: Condition) -> Paired | None:
    return paired(values[one], values[other]) if one in values and other in values else None


@dataclass(frozen=True)
class Change:
    """The effect of an adapter on questions that its document does not answer, in percent of the questions.

    before, after: the conditions that are compared.
    worse: for "common", a right answer became wrong; for "unanswered", the output now contains what the document says
        about something else.
    better: the reverse.
    """

    band: str
    before: Condition
    after: Condition
    questions: int
    changed: float
    worse: float
    better: float


def changes(rows: Iterable[Recalled]) -> list[Change]:
    """Compute the changes for questions that an adapter's document does not answer."""
    cells: dict[tuple[str, Condition], list[Recalled]] = {}
    for row in rows:
        cells.setdefault((row.asked.band, row.condition), []).append(row)
    results = []
    for band in GUARDS:
        for before, after in BEFORE_AND_AFTER:
            pairs = list(zip(cells.get((band, before), ()), cells.get((band, after), ()), strict=False))
            if not pairs:
                continue
            good, bad = (True, False) if band == "common" else (False, True)
            transitions = [(old.present, new.present) for old, new in pairs]
            changed = 100 * fmean(old.answer != new.answer for old, new in pairs)
            worse, better = (100 * transitions.count(turn) / len(pairs) for turn in ((good, bad), (bad, good)))
            results.append(Change(band, before, after, len(pairs), changed, worse, better))
    return results
