"""Ablations of the translator: variants trained for a few steps and evaluated during training.

    python benchmarks/ablations.py                train all missing variants, 10 to 20 minutes each
    python benchmarks/ablations.py VARIANT ...    train these variants
    python benchmarks/ablations.py draw           only print the table and draw the picture of existing results

The variants are trained on invented documents of one kind (people, eight facts), so that a few hundred documents show
which parts matter. Every 20 steps, questions about unseen documents are asked without the passage, with the document's
own adapter and with a wrong one: is the answer the likeliest continuation, token by token, and what is its loss? Writes
build/bench/ablations.jsonl, one line per evaluation, and build/bench/ablations.png.
"""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from dyprag.adapters.samples import Sample
from dyprag.adapters.trees import build_tree, recited
from dyprag.config import LearnSettings
from dyprag.evaluation.recall.benchmark import TEST_SEED, questions_of, wrong_lessons
from dyprag.model.base import BaseModel, load_model
from dyprag.model.prompts import training_sample
from dyprag.translators.distil import Learned, calibration_prompts, learn
from dyprag.translators.lessons.invented import invented_lessons
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.names import Split
from dyprag.translators.lessons.wordings import Band
from dyprag.translators.protocol import fresh_translator

LOOK, ASKED, TOGETHER = 20, 64, 16
BANDS: dict[Band, str] = {"closed": "closed vocabularies", "open": "new names and dates"}
FACTS = frozenset("occupation birthplace instrument colour spouse employer born home".split())
COMMON: dict[str, Any] = {
    "closed": 800, "open": 800, "steps": 120, "documents": 8, "questions": 4, "learning_rate": 2e-3,
    "warmup": 10, "decay": 0.3, "unrelated": 0.1,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "attentive": {},
    "hypernetwork": {"kind": "hypernetwork", "width": 32, "learning_rate": 1e-3},
    "slots anywhere": {"spread": False},
    "no pointing": {"copy_tokens": False},
    "a fifth of the documents": {"closed": 80, "open": 80},
    "rank 2": {"rank": 2, "alpha": 2.0},
    "hypernetwork, lr 3e-4": {"kind": "hypernetwork", "width": 32, "learning_rate": 3e-4},
    "teacher": {"lambda_teacher": 1.0},
    "one source": {"sources": 1},
}
FOLDER = Path("build/bench")


class Test:
    """A band's documents, one question about each, and for each a wrong document that lacks the answer."""

    def __init__(self, base: BaseModel, band: Band) -> None:
        self.base = base
        self.lessons = lessons_of(band, ASKED, TEST_SEED, "test")
        self.wrong = wrong_lessons(self.lessons, questions_of(band, self.lessons, None, 1))
        self.rows = [[self._sample(lesson)] for lesson in self.lessons]
        self.readings: list[Any] = []

    def _sample(self, lesson: Lesson) -> Sample:
        return Sample(*training_sample(self.base.tokenizer, lesson.pairs[0].question, lesson.pairs[0].answer))

    @torch.no_grad()
    def look(self, translator: Any) -> dict[str, tuple[float, float]]:
        """The percentage of recited answers and their mean loss, with the own and with a wrong document's adapter."""
        self.readings = self.readings or translator.read(
            self.base, [lesson.document.passage for lesson in self.lessons]
        )
        results = {}
        for name, indices in (("own", list(range(len(self.rows)))), ("wrong", self.wrong)):
            answers: list[tuple[bool, float]] = []
            for first in range(0, len(indices), TOGETHER):
                adapters = translator.translate([self.readings[index] for index in indices[first : first + TOGETHER]])
                tree = build_tree(self.base, self.rows[first : first + TOGETHER])
                answers += recited(self.base, tree, adapters, translator.first_layer)
            results[name] = (
                100 * sum(right for right, _ in answers) / len(answers),
                sum(loss for _, loss in answers) / len(answers),
            )
        return results


def lessons_of(band: Band, count: int, seed: int, split: Split) -> list[Lesson]:
    """Documents about people with questions about FACTS."""
    return invented_lessons(band, count, seed, split, ("person",), FACTS)


def train(base: BaseModel, name: str) -> None:
    """Train one variant and record each evaluation."""
    settings = LearnSettings.model_validate({**COMMON, **VARIANTS[name]})
    lessons = [lesson for band in BANDS for lesson in lessons_of(band, getattr(settings, band), settings.seed, "train")]
    tests = {band: Test(base, band) for band in BANDS}
    translator = fresh_translator(base, settings, calibration_prompts(base, lessons))
    start, losses = perf_counter(), list[float]()

    def on_step(step: int, learned: Learned) -> None:
        losses.append(learned.pred)
        if step % LOOK:
            return
        results = {band: test.look(translator.eval()) for band, test in tests.items()}
        translator.train()
        seconds = round(perf_counter() - start)
        line = {"variant": name, "step": step, "loss": sum(losses[-LOOK:]) / LOOK, "seconds": seconds, **results}
        print(json.dumps(line), file=sys.stderr)
        with (FOLDER / "ablations.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    learn(base, translator, lessons, settings, on_step)


def table(looks: list[dict[str, Any]]) -> str:
    """The last evaluation of each variant: answers recited with the own / a wrong document's adapter, and losses."""
    last = {look["variant"]: look for look in looks}
    heads = [head for text in BANDS.values() for head in (f"{text}: recited, own / wrong", "**less**", "answer's loss")]
    rows = [" | ".join(["| variant", "steps", "loss in training", *heads]) + " |", "|---" * (3 + len(heads)) + "|"]
    for name, look in last.items():
        cells = [name, str(look["step"]), f"{look['loss']:.2f}"]
        for band in BANDS:
            (own, own_loss), (wrong, wrong_loss) = look[band]["own"], look[band]["wrong"]
            cells += [f"{own:.1f} / {wrong:.1f}", f"**{own - wrong:.1f}**", f"{own_loss:.2f} / {wrong_loss:.2f}"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def picture(looks: list[dict[str, Any]], path: Path) -> None:
    """Draw document-specific recall and the reduction of the answer's loss over the training documents, by band."""
    from matplotlib.figure import Figure

    chart = Figure(figsize=(10, 6.4), dpi=130, layout="constrained")
    axes = chart.subplots(len(BANDS), 2, sharex=True)
    for (band, text), (left, right) in zip(BANDS.items(), axes, strict=True):
        for name in dict.fromkeys(look["variant"] for look in looks):
            of_variant = [look for look in looks if look["variant"] == name]
            trained = [0] + [look["step"] * COMMON["documents"] for look in of_variant]
            own, wrong = ([look[band][side] for look in of_variant] for side in ("own", "wrong"))
            left.plot(trained, [0.0] + [x[0] - y[0] for x, y in zip(own, wrong, strict=True)], marker="o", label=name)
            right.plot(trained, [0.0] + [y[1] - x[1] for x, y in zip(own, wrong, strict=True)], marker="o", label=name)
        left.set(ylabel="recited, own less wrong document, %", title=text)
        right.set(ylabel="answer's loss, wrong less own, nats", title=text)
    for plot in axes.flat:
        plot.spines[["top", "right"]].set_visible(False)
    for plot in axes[-1]:
        plot.set_xlabel("training documents (steps of 8)")
    chart.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    chart.savefig(path)


def main() -> None:
    """Train the missing variants of those requested, then print the table and draw the picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "ablations.jsonl"

    def looks() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return list({(look["variant"], look["step"]): look for look in lines}.values())  # drop repeated evaluations

    if sys.argv[1:] != ["draw"]:
        base = load_model("smollm2-135m")
        done = {look["variant"] for look in looks() if look["step"] == COMMON["steps"]}
        for name in sys.argv[1:] or list(VARIANTS):
            if name not in done:
                train(base, name)
    if evaluations := looks():
        print(table(evaluations))
        picture(evaluations, FOLDER / "ablations.png")


if __name__ == "__main__":
    main()
