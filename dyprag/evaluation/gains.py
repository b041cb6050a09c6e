"""Gains: how much of a parametric method's gain over vanilla remains after subtracting its best control's.

What remains is knowledge of the documents; the rest is answer format (see docs/explanation/evaluation.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dyprag.evaluation.results import ALL, Cell, Judged, Measure, grouped, points
from dyprag.evaluation.statistics import Paired, holm
from dyprag.evaluation.strata import mean_over, paired_over
from dyprag.methods.spec import parametric, spec_of

_UNITS: dict[Measure, str] = {"f1": "F1 points", "present": "points of answer presence"}
LEVEL = 0.05  # significance level of adjusted p-values

Scores = Mapping[Cell, Mapping[str, float]]  # by question id, in percent


@dataclass(frozen=True)
class Gain:
    """A method compared with vanilla and with its best control, in points, on the questions that all of them answered.

    dataset: "all" for the mean over `datasets` data sets.
    score, vanilla: the scores of the method and of vanilla, in percent.
    control: the control with the highest score; None if no control was run.
    gain_p, control_p: adjusted (Holm) for all comparisons of the table.
    """

    dataset: str
    variant: str
    method: str
    measure: Measure
    datasets: int
    questions: int
    score: float
    vanilla: float
    over_vanilla: Paired
    gain_p: float
    control: str | None = None
    over_control: Paired | None = None
    control_p: float | None = None

    @property
    def gain(self) -> float:
        """The method's gain over vanilla, in points."""
        return self.over_vanilla.difference

    @property
    def control_gain(self) -> float | None:
        """The best control's gain over vanilla, in points."""
        return None if self.over_control is None else self.gain - self.over_control.difference

    @property
    def surviving(self) -> float | None:
        """The share of the gain that exceeds the best control's; None without a control or a gain."""
        return None if self.over_control is None or self.gain <= 0 else self.over_control.difference / self.gain


def gains(judged: Sequence[Judged], measure: Measure = "f1") -> list[Gain]:
    """Compute the gains of each parametric method that was run together with vanilla, by variant.

    If it was run on several data sets, the gain over all of them comes first.

    Args:
        measure: "f1", or "present" for answer presence in the whole output.
    """
    scores = scores_of(judged, measure)
    results = []
    for variant in dict.fromkeys(variant for _, variant, _ in scores):
        for method in (spec.name for spec in parametric()):
            datasets = [d for d in datasets_of(scores) if _shared(scores, [d], variant, (method, "vanilla"))]
            groups = [datasets, *([d] for d in datasets)] if len(datasets) > 1 else [datasets] if datasets else []
            results += [_gain(scores, group, variant, method, measure) for group in groups]
    return _adjust(results)


def first_line(gains: Sequence[Gain]) -> str:
    """Write the first line of a report: how much of each method's gain over vanilla survives its best control."""
    headlines = _headlines(gains)
    if not headlines:
        return "No method with adapters was run together with vanilla, so the benefit of adapters is unknown."
    scopes = {_scope(gain) for gain in headlines}
    clauses: list[str] = []
    for method in dict.fromkeys(gain.method for gain in headlines):
        method_gains = [gain for gain in headlines if gain.method == method]
        clause = (
            _clause(method_gains[0], first=not clauses) if len(method_gains) == 1 else _range(method_gains, not clauses)
        )
        clauses.append(clause if len(scopes) == 1 else f"{_scope(method_gains[0])} {clause}")
    text = (f"{scopes.pop()}: " if len(scopes) == 1 else "") + "; ".join(clauses) + "."
    uncontrolled = dict.fromkeys(g.method for g in headlines if g.control is None and round(g.gain, 1) > 0)
    unknown = [spec_of(method).title for method in uncontrolled]
    if unknown:
        text += f" No control was run for {' or '.join(unknown)}, so it is unknown how much of that is knowledge."
    return text[0].upper() + text[1:]


def control_name(control: str) -> str:
    """Return a control's name in prose, such as "mean adapter with passages"."""
    spec = spec_of(control)
    return f"{spec.title} with passages" if spec.is_control and spec.shows_passages else spec.title


def scores_of(judged: Sequence[Judged], measure: Measure) -> Scores:
    """Return each cell's scores by question id, without cells that have none."""
    by_cell = {
        cell: {item.question_id: value for item in items if (value := points(item, measure)) is not None}
        for cell, items in grouped(judged).items()
    }
    return {cell: scores for cell, scores in by_cell.items() if scores}


def datasets_of(scores: Mapping[Cell, object]) -> list[str]:
    """Return the data sets, in order of occurrence."""
    return list(dict.fromkeys(dataset for dataset, _, _ in scores))


def _shared(scores: Scores, datasets: Sequence[str], variant: str, methods: Sequence[str]) -> list[list[str]] | None:
    """Return the questions that all methods answered, by data set; None if a data set has none."""
    shared = [
        sorted(set.intersection(*(set(scores.get((dataset, variant, method), {})) for method in methods)))
        for dataset in datasets
    ]
    return shared if all(shared) else None


def _gain(scores: Scores, datasets: Sequence[str], variant: str, method: str, measure: Measure) -> Gain:
    compared = [method, "vanilla"]
    for control in spec_of(method).compared_with:
        if _shared(scores, datasets, variant, [*compared, control]):
            compared.append(control)
    questions = _shared(scores, datasets, variant, compared) or []
    values = {
        name: [[scores[d, variant, name][q] for q in ids] for d, ids in zip(datasets, questions, strict=True)]
        for name in compared
    }
    over_vanilla = paired_over(values[method], values["vanilla"])
    gain = Gain(
        datasets[0] if len(datasets) == 1 else ALL, variant, method, measure, len(datasets), sum(map(len, questions)),
        mean_over(values[method]), mean_over(values["vanilla"]), over_vanilla, over_vanilla.p,
    )  # fmt: skip
    if not compared[2:]:
        return gain
    best = max(compared[2:], key=lambda control: mean_over(values[control]))
    over_control = paired_over(values[method], values[best])
    return replace(gain, control=best, over_control=over_control, control_p=over_control.p)


def _adjust(unadjusted: Sequence[Gain]) -> list[Gain]:
    ps = iter(holm([p for gain in unadjusted for p in (gain.gain_p, gain.control_p) if p is not None]))
    return [
        replace(gain, gain_p=next(ps), control_p=None if gain.control_p is None else next(ps)) for gain in unadjusted
    ]


def _headlines(gains: Sequence[Gain]) -> list[Gain]:
    """Return each method's and variant's main gain: the mean over data sets, or that of the only data set."""
    headlines: dict[tuple[str, str], Gain] = {}
    for gain in gains:
        headlines.setdefault((gain.variant, gain.method), gain)
    return list(headlines.values())


def _scope(gain: Gain) -> str:
    return f"on {gain.dataset}" if gain.datasets == 1 else f"in the mean of {gain.datasets} data sets"


def _clause(gain: Gain, first: bool) -> str:
    """Describe the gain of one method; the first one with units."""
    name, unit = spec_of(gain.method).title, _UNITS[gain.measure]
    amount = f"{gain.gain:.1f} {unit}" if first else f"{gain.gain:.1f}"
    if round(gain.gain, 1) <= 0:
        deficit = f" ({-gain.gain:.1f} {unit} less{_noise(gain.gain_p)})" if round(gain.gain, 1) < 0 else ""
        return f"{name} gains nothing over vanilla{deficit}"
    if gain.gain_p >= LEVEL:
        return f"{name}'s gain over vanilla of {gain.gain:.1f} {unit} is within noise"
    if gain.control is None or gain.over_control is None or gain.control_p is None:
        return f"{name} gains {gain.gain:.1f} {unit} over vanilla"
    start = f"of {name}'s gain over vanilla of {amount}" if first else f"of {name}'s {amount}"
    control, remaining = control_name(gain.control), gain.over_control.difference
    noise = _noise(gain.control_p)
    if round(remaining, 1) <= 0:
        better = f"is {-remaining:.1f} better{noise}" if round(remaining, 1) < 0 else "does as well"
        return f"{start}, nothing survives ({control} {better})"
    share = "all" if remaining >= gain.gain else f"{remaining:.1f} ({100 * remaining / gain.gain:.0f} %)"
    verb = "survives" if share == "all" else "survive"
    return f"{start}, {share} {verb} its best control ({control}){noise}"


def _noise(p: float) -> str:
    return ", which is within noise" if p >= LEVEL else ""


def _range(gains: Sequence[Gain], first: bool) -> str:
    """Describe a method that was run in several variants by its range, without picking the best variant."""
    name, unit = spec_of(gains[0].method).title, _UNITS[gains[0].measure]
    lowest, highest = min(gain.gain for gain in gains), max(gain.gain for gain in gains)
    if first:
        text = f"over {len(gains)} variants {name} gains from {lowest:.1f} to {highest:.1f} {unit} over vanilla"
    else:
        text = f"{name} gains from {lowest:.1f} to {highest:.1f}"
    controlled = [(gain.over_control.difference, gain) for gain in gains if gain.over_control is not None]
    if not controlled:
        return text
    extremes = [extreme(controlled, key=lambda pair: pair[0]) for extreme in (min, max)]
    low, high = (f"{remaining:.1f} ({gain.variant or 'plain'})" for remaining, gain in extremes)
    significant = sum(remaining > 0 and (gain.control_p or 0) < LEVEL for remaining, gain in controlled)
    return f"{text}, and exceeds its best control by {low} to {high}, significantly in {significant or 'none'}"
