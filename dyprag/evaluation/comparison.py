"""Pairs: every two methods of a run on the same questions, and one run against another (§4)."""

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
    """One method less another on the questions that both answered, in points; p is adjusted (Holm) for all
    comparisons of the run. dataset: "all" is the mean over the data sets in which both answered."""

    dataset: str
    variant: str
    one: str
    other: str
    questions: int
    paired: Paired
    p: float


@dataclass(frozen=True)
class Change:
    """What changed for a data set, variant and method from one run to the next, on their common questions.

    f1, presence: in points, None where the questions have no answers; seconds: of an answer. The p-values are adjusted
    (Holm) for all changes of the two runs. right, wrong: questions whose output has the answer only now, or had it
    only before. only_before, only_after: questions that only one run answered.
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
        """Whether the answers became better or worse by more than chance explains."""
        return any(p is not None and p < LEVEL for p in (self.f1_p, self.presence_p))


def comparisons(judged: Sequence[Judged], measure: Measure = "f1") -> list[Comparison]:
    """Every pair of methods that are no controls, by variant: over all data sets first, where both answered in
    several, then in each."""
    scores = scores_of(judged, measure)
    found = []
    for variant in dict.fromkeys(variant for _, variant, _ in scores):
        methods = dict.fromkeys(m for _, v, m in scores if v == variant and not is_control(m))
        pairs = list(combinations(methods, 2))
        for pair in pairs:
            each = [made for d in datasets_of(scores) if (made := _compared(scores, [d], variant, *pair))]
            names = [made.dataset for made in each]
            whole = _compared(scores, names, variant, *pair) if len(names) > 1 else None
            found += [whole, *each] if whole else each
    ps = holm([made.p for made in found])
    return [replace(made, p=p) for made, p in zip(found, ps, strict=True)]


def compare_runs(a: Sequence[Judged], b: Sequence[Judged]) -> list[Change]:
    """What changed from run a to run b, by data set, variant and method that both have."""
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
    """A line for each change, and before them how many are more than noise."""
    if not changes:
        return "The two runs have no method in common on any data set, so there is nothing to compare."
    real = sum(change.more_than_noise for change in changes)
    lines = [
        f"Of {len(changes)} methods, data sets and variants compared, {real or 'none'} changed by more than noise "
        f"(adjusted p < {LEVEL})."
    ]
    return "\n".join([*lines, *map(_in_words, changes)])


def _compared(scores: Scores, datasets: Sequence[str], variant: str, one: str, other: str) -> Comparison | None:
    mine, theirs = ([scores.get((d, variant, method), {}) for d in datasets] for method in (one, other))
    shared = [sorted(m.keys() & t.keys()) for m, t in zip(mine, theirs, strict=True)]
    if not all(shared):
        return None
    found = paired_over(*(
        [[values[q] for q in ids] for values, ids in zip(side, shared, strict=True)] for side in (mine, theirs)
    ))  # fmt: skip
    dataset = datasets[0] if len(datasets) == 1 else ALL
    return Comparison(dataset, variant, one, other, sum(map(len, shared)), found, found.p)


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
    """The newer run less the older, where both have a value."""
    both = [(old, new) for one, two in common if (old := value(one)) is not None and (new := value(two)) is not None]
    return paired([new for _, new in both], [old for old, _ in both]) if both else None


def _in_words(change: Change) -> str:
    place = ", ".join(name for name in (change.dataset, change.variant, change.method) if name)
    if not change.questions:
        return f"{place}: no common question ({change.only_before} only before, {change.only_after} only after)."
    parts = [
        f"{name} {_signed(found)} (p {p:.2g})"
        for name, found, p in (("F1", change.f1, change.f1_p), ("answer present", change.presence, change.presence_p))
        if found is not None and p is not None
    ]
    parts += [f"seconds {_signed(change.seconds, 2)} (p {change.seconds_p:.2g})"]
    parts += [f"{change.right} became right and {change.wrong} wrong"]
    text = f"{place}: {'; '.join(parts)}, of {change.questions} questions"
    if change.only_before or change.only_after:
        text += f" ({change.only_before} more only before, {change.only_after} only after)"
    return f"{text}: {'more than noise' if change.more_than_noise else 'within noise'}."


def _signed(found: Paired, digits: int = 1) -> str:
    return f"{found.difference:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
