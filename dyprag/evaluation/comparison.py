"""Comparisons on the same questions: every pair of methods of a run, and one run with another (§4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from dyprag.evaluation.gains import LEVEL, Scores, datasets_of, scores_of
from dyprag.evaluation.results import ALL, Judged, Measure, grouped, points
from dyprag.evaluation.statistics import Paired, holm, paired
from dyprag.evaluation.strata import paired_over
from dyprag.methods.spec import is_control


@dataclass(frozen=True)
class Comparison:
    """The difference between two methods on the questions that both answered, in points.

    dataset: "all" for the mean over the data sets in which both answered.
    one, other: the methods; the difference is `one` minus `other`.
    p: adjusted (Holm) for all comparisons of the run.
    """

    dataset: str
    variant: str
    one: str
    other: str
    questions: int
    paired: Paired
    p: float


@dataclass(frozen=True)
class Change:
    """The change of a data set, variant and method between two runs, on their common questions.

    only_before, only_after: number of questions that only one of the runs answered.
    right, wrong: number of questions whose output contains the answer only in the newer, or only in the older run.
    f1, presence: differences in points; None if the questions have no answers.
    seconds: difference in seconds per answer.
    The p-values are adjusted (Holm) for all changes between the two runs.
    """

    dataset: str
    variant: str
    method: str
    questions: int
    only_before: int
    only_after: int
    right: int
    wrong: int
    f1: Paired | None
    f1_p: float | None
    presence: Paired | None
    presence_p: float | None
    seconds: Paired
    seconds_p: float

    @property
    def more_than_noise(self) -> bool:
        """Whether F1 or answer presence changed significantly."""
        return any(p is not None and p < LEVEL for p in (self.f1_p, self.presence_p))


def comparisons(judged: Sequence[Judged], measure: Measure = "f1") -> list[Comparison]:
    """Compare every pair of methods, without controls, by variant.

    If both answered in several data sets, the comparison over all of them comes first.
    """
    scores = scores_of(judged, measure)
    results = []
    for variant in dict.fromkeys(variant for _, variant, _ in scores):
        methods = dict.fromkeys(m for _, v, m in scores if v == variant and not is_control(m))
        pairs = list(combinations(methods, 2))
        for pair in pairs:
            by_dataset = [result for d in datasets_of(scores) if (result := _compare(scores, [d], variant, *pair))]
            names = [result.dataset for result in by_dataset]
            overall = _compare(scores, names, variant, *pair) if len(names) > 1 else None
            results += [overall, *by_dataset] if overall else by_dataset
    ps = holm([result.p for result in results])
    return [replace(result, p=p) for result, p in zip(results, ps, strict=True)]


def compare_runs(a: Sequence[Judged], b: Sequence[Judged]) -> list[Change]:
    """Compare run b with run a, for every data set, variant and method that both have."""
    before, after = grouped(a), grouped(b)
    changes = [
        _change({item.question_id: item for item in items}, {item.question_id: item for item in after[cell]})
        for cell, items in before.items()
        if cell in after
    ]
    ps = iter(holm([p for c in changes for p in (c.f1_p, c.presence_p, c.seconds_p) if p is not None]))
    return [
        replace(
            change,
            f1_p=None if change.f1_p is None else next(ps),
            presence_p=None if change.presence_p is None else next(ps),
            seconds_p=next(ps),
        )
        for change in changes
    ]


def changes_in_words(changes: Sequence[Change]) -> str:
    """Describe changes: a line with the number of significant ones, then a line for each."""
    if not changes:
        return "The two runs have no method in common on any data set, so there is nothing to compare."
    real = sum(change.more_than_noise for change in changes)
    lines = [
        f"Of {len(changes)} methods, data sets and variants compared, {real or 'none'} changed by more than noise "
        f"(adjusted p < {LEVEL})."
    ]
    return "\n".join([*lines, *map(_describe, changes)])


def _compare(scores: Scores, datasets: Sequence[str], variant: str, one: str, other: str) -> Comparison | None:
    first, second = ([scores.get((d, variant, method), {}) for d in datasets] for method in (one, other))
    shared = [sorted(m.keys() & t.keys()) for m, t in zip(first, second, strict=True)]
    if not all(shared):
        return None
    result = paired_over(*(
        [[values[q] for q in ids] for values, ids in zip(side, shared, strict=True)] for side in (first, second)
    ))  # fmt: skip
    dataset = datasets[0] if len(datasets) == 1 else ALL
    return Comparison(dataset, variant, one, other, sum(map(len, shared)), result, result.p)


def _change(before: dict[str, Judged], after: dict[str, Judged]) -> Change:
    common = [(before[q], after[q]) for q in sorted(before.keys() & after.keys())]
    first = next(iter(before.values()))
    f1 = _difference(common, lambda item: points(item, "f1"))
    presence = _difference(common, lambda item: points(item, "present"))
    seconds = _difference(common, lambda item: item.seconds) or Paired(0.0, 0.0, 0.0, 1.0)
    return Change(
        first.dataset, first.variant, first.method, len(common), len(before) - len(common), len(after) - len(common),
        right=sum(old.present is False and new.present is True for old, new in common),
        wrong=sum(old.present is True and new.present is False for old, new in common),
        f1=f1, f1_p=f1.p if f1 else None, presence=presence, presence_p=presence.p if presence else None,
        seconds=seconds, seconds_p=seconds.p,
    )  # fmt: skip


def _difference(common: Sequence[tuple[Judged, Judged]], value: Callable[[Judged], float | None]) -> Paired | None:
    """Return the newer run minus the older, for questions that have a value in both."""
    both = [(old, new) for one, two in common if (old := value(one)) is not None and (new := value(two)) is not None]
    return paired([new for _, new in both], [old for old, _ in both]) if both else None


def _describe(change: Change) -> str:
    label = ", ".join(name for name in (change.dataset, change.variant, change.method) if name)
    if not change.questions:
        return f"{label}: no common question ({change.only_before} only before, {change.only_after} only after)."
    clauses = [
        f"{name} {_signed(difference)} (p {p:.2g})"
        for name, difference, p in (
            ("F1", change.f1, change.f1_p),
            ("answer present", change.presence, change.presence_p),
        )
        if difference is not None and p is not None
    ]
    clauses += [f"seconds {_signed(change.seconds, 2)} (p {change.seconds_p:.2g})"]
    clauses += [f"{change.right} became right and {change.wrong} wrong"]
    text = f"{label}: {'; '.join(clauses)}, of {change.questions} questions"
    if change.only_before or change.only_after:
        text += f" ({change.only_before} more only before, {change.only_after} only after)"
    return f"{text}: {'more than noise' if change.more_than_noise else 'within noise'}."


def _signed(comparison: Paired, digits: int = 1) -> str:
    return f"{comparison.difference:+.{digits}f} [{comparison.low:+.{digits}f}, {comparison.high:+.{digits}f}]"
