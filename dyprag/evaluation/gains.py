"""How much of a parametric method's gain over vanilla its controls do not bring as well: what it has carried of the
documents, rather than of the answers' form (METHOD: most of the published recipe's gain is format).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dyprag.evaluation.results import ALL, Cell, Judged, Measure, grouped, points
from dyprag.evaluation.statistics import Paired, holm
from dyprag.evaluation.strata import mean_over, paired_over
from dyprag.methods.spec import parametric, spec_of

_UNITS: dict[Measure, str] = {"f1": "F1 points", "present": "points of answer presence"}
LEVEL = 0.05  # of an adjusted p-value, below which a difference is more than noise

Scores = Mapping[Cell, Mapping[str, float]]  # by question id, in percent


@dataclass(frozen=True)
class Gain:
    """A method against vanilla and against its best control, in points, on the questions that they all answered.

    dataset: "all" is the mean over `datasets` data sets. score, vanilla: of the two methods, in percent. control: the
    control with the highest score; None where none was run. gain_p, control_p: adjusted (Holm) for all comparisons of
    the table.
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
        """Points above vanilla."""
        return self.over_vanilla.difference

    @property
    def control_gain(self) -> float | None:
        """The best control's points above vanilla."""
        return None if self.over_control is None else self.gain - self.over_control.difference

    @property
    def surviving(self) -> float | None:
        """The share of the gain that the best control does not bring; None without a control or a gain."""
        return None if self.over_control is None or self.gain <= 0 else self.over_control.difference / self.gain


def gains(judged: Sequence[Judged], measure: Measure = "f1") -> list[Gain]:
    """Each parametric method that was run beside vanilla, by variant: over all data sets first, where it was run on
    several, then on each.

    Args:
        measure: "f1", or "present": whether the answer occurs in the whole output.
    """
    scores = scores_of(judged, measure)
    found = []
    for variant in dict.fromkeys(variant for _, variant, _ in scores):
        for method in (spec.name for spec in parametric()):
            datasets = [d for d in datasets_of(scores) if _shared(scores, [d], variant, (method, "vanilla"))]
            groups = [datasets, *([d] for d in datasets)] if len(datasets) > 1 else [datasets] if datasets else []
            found += [_gain(scores, group, variant, method, measure) for group in groups]
    return _adjusted(found)


def first_line(gains: Sequence[Gain]) -> str:
    """The first line of every report: what of each method's gain over vanilla survives its best control."""
    heads = _headlines(gains)
    if not heads:
        return "No method with adapters was run beside vanilla, so what adapters bring is not known."
    places = {_place(gain) for gain in heads}
    clauses: list[str] = []
    for method in dict.fromkeys(gain.method for gain in heads):
        mine = [gain for gain in heads if gain.method == method]
        clause = _clause(mine[0], first=not clauses) if len(mine) == 1 else _range(mine, not clauses)
        clauses.append(clause if len(places) == 1 else f"{_place(mine[0])} {clause}")
    text = (f"{places.pop()}: " if len(places) == 1 else "") + "; ".join(clauses) + "."
    alone = dict.fromkeys(g.method for g in heads if g.control is None and round(g.gain, 1) > 0)
    unknown = [spec_of(method).title for method in alone]
    if unknown:
        text += f" No control was run for {' or '.join(unknown)}, so how much of that is knowledge is not known."
    return text[0].upper() + text[1:]


def control_name(control: str) -> str:
    """A control in words: mean adapter, and mean adapter with passages."""
    spec = spec_of(control)
    return f"{spec.title} with passages" if spec.is_control and spec.shows_passages else spec.title


def scores_of(judged: Sequence[Judged], measure: Measure) -> Scores:
    """Each cell's scores by question; cells without any are left out."""
    found = {
        cell: {item.question_id: value for item in items if (value := points(item, measure)) is not None}
        for cell, items in grouped(judged).items()
    }
    return {cell: scores for cell, scores in found.items() if scores}


def datasets_of(scores: Mapping[Cell, object]) -> list[str]:
    """The data sets in their order."""
    return list(dict.fromkeys(dataset for dataset, _, _ in scores))


def _shared(scores: Scores, datasets: Sequence[str], variant: str, methods: Sequence[str]) -> list[list[str]] | None:
    """By data set, the questions that all the methods answered; None where there is none in one of the data sets."""
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


def _adjusted(found: Sequence[Gain]) -> list[Gain]:
    ps = iter(holm([p for gain in found for p in (gain.gain_p, gain.control_p) if p is not None]))
    return [replace(gain, gain_p=next(ps), control_p=None if gain.control_p is None else next(ps)) for gain in found]


def _headlines(gains: Sequence[Gain]) -> list[Gain]:
    """Of each method and variant what is said of it first: the mean over data sets, or the one data set."""
    heads: dict[tuple[str, str], Gain] = {}
    for gain in gains:
        heads.setdefault((gain.variant, gain.method), gain)
    return list(heads.values())


def _place(gain: Gain) -> str:
    return f"on {gain.dataset}" if gain.datasets == 1 else f"in the mean of {gain.datasets} data sets"


def _clause(gain: Gain, first: bool) -> str:
    """What is to say of one method; the first one in full."""
    name, unit = spec_of(gain.method).title, _UNITS[gain.measure]
    amount = f"{gain.gain:.1f} {unit}" if first else f"{gain.gain:.1f}"
    if round(gain.gain, 1) <= 0:
        less = f" ({-gain.gain:.1f} {unit} less{_noise(gain.gain_p)})" if round(gain.gain, 1) < 0 else ""
        return f"{name} gains nothing over vanilla{less}"
    if gain.gain_p >= LEVEL:
        return f"{name}'s gain over vanilla of {gain.gain:.1f} {unit} is within noise"
    if gain.control is None or gain.over_control is None or gain.control_p is None:
        return f"{name} gains {gain.gain:.1f} {unit} over vanilla"
    start = f"of {name}'s gain over vanilla of {amount}" if first else f"of {name}'s {amount}"
    control, left = control_name(gain.control), gain.over_control.difference
    noise = _noise(gain.control_p)
    if round(left, 1) <= 0:
        better = f"is {-left:.1f} better{noise}" if round(left, 1) < 0 else "does as well"
        return f"{start}, nothing survives ({control} {better})"
    share = "all" if left >= gain.gain else f"{left:.1f} ({100 * left / gain.gain:.0f} %)"
    verb = "survives" if share == "all" else "survive"
    return f"{start}, {share} {verb} its best control ({control}){noise}"


def _noise(p: float) -> str:
    return ", which is within noise" if p >= LEVEL else ""


def _range(gains: Sequence[Gain], first: bool) -> str:
    """What is to say of a method that was run in several variants: its least and its most, none chosen as the best."""
    name, unit = spec_of(gains[0].method).title, _UNITS[gains[0].measure]
    least, most = min(gain.gain for gain in gains), max(gain.gain for gain in gains)
    if first:
        text = f"over {len(gains)} variants {name} gains from {least:.1f} to {most:.1f} {unit} over vanilla"
    else:
        text = f"{name} gains from {least:.1f} to {most:.1f}"
    held = [(gain.over_control.difference, gain) for gain in gains if gain.over_control is not None]
    if not held:
        return text
    ends = [end(held, key=lambda pair: pair[0]) for end in (min, max)]
    low, high = (f"{left:.1f} ({gain.variant or 'plain'})" for left, gain in ends)
    sure = sum(left > 0 and (gain.control_p or 0) < LEVEL for left, gain in held)
    return f"{text}, and stands from {low} to {high} above its best control, by more than noise in {sure or 'none'}"
