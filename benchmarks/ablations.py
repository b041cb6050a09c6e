"""What a translator's parts are worth: variants trained alike for a few steps, asked as they learn.

    python benchmarks/ablations.py DATA [VARIANT ...]     trains them (all by default): 15 to 45 minutes each
    python benchmarks/ablations.py                        draws the table and the picture of what is there

DATA is the data sets' folder (see docs/translator.md). Trained on real passages alone; every 25 steps a slice of
PopQA's paragraphs is asked about without the passage, with the own document's adapter and with a wrong one's: is the
answer the likeliest token by token, and what is its loss. Writes build/bench/ablations.jsonl, a line for each look, and
build/bench/ablations.png.
"""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from dyprag.config import LearnSettings, RecallSettings
from dyprag.distillation import Learned, calibration_prompts, grow, learn, recited
from dyprag.models import BaseModel, load_model
from dyprag.prompts import training_sample
from dyprag.recall.benchmark import questions_of, recall_bands, training_lessons, wrong_lessons
from dyprag.recall.lessons import Lesson
from dyprag.samples import Sample
from dyprag.translation import fresh_translator

LOOK, ASKED, TOGETHER = 25, 80, 16
COMMON: dict[str, Any] = {
    "closed": 0, "open": 0, "real": 1200, "steps": 250, "documents": 8, "questions": 3, "learning_rate": 2e-3,
    "warmup": 20, "decay": 0.5, "unrelated": 0.1,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "attentive": {},
    "hypernetwork": {"kind": "hypernetwork"},
    "no pointing": {"copy_tokens": False},
    "rank 2": {"rank": 2, "alpha": 2.0},
    "hypernetwork, lr 5e-4": {"kind": "hypernetwork", "learning_rate": 5e-4},
    "a third of the documents": {"real": 400},
    "teacher": {"lambda_teacher": 1.0},
    "one source": {"sources": 1},
}
FOLDER = Path("build/bench")


class Test:
    """PopQA's paragraphs, one question about each, and another paragraph for each that does not hold the answer."""

    def __init__(self, base: BaseModel, data: Path) -> None:
        self.base = base
        self.lessons = recall_bands(RecallSettings(closed=1, open=1, popqa=ASKED), data)["popqa"]
        self.wrong = wrong_lessons(self.lessons, questions_of("popqa", self.lessons, data, 1))
        self.rows = [[self._sample(lesson)] for lesson in self.lessons]
        self.readings: list[Any] = []

    def _sample(self, lesson: Lesson) -> Sample:
        return Sample(*training_sample(self.base.tokenizer, lesson.pairs[0].question, lesson.pairs[0].answer))

    @torch.no_grad()
    def look(self, translator: Any) -> dict[str, tuple[float, float]]:
        """Percent recited and mean loss of the answers, with the own document's adapter and with a wrong one's."""
        self.readings = self.readings or translator.read(self.base, [one.document.passage for one in self.lessons])
        found = {}
        for name, places in (("own", list(range(len(self.rows)))), ("wrong", self.wrong)):
            got: list[tuple[bool, float]] = []
            for at in range(0, len(places), TOGETHER):
                adapters = translator.translate([self.readings[place] for place in places[at : at + TOGETHER]])
                tree = grow(self.base, self.rows[at : at + TOGETHER])
                got += recited(self.base, tree, adapters, translator.first_layer)
            found[name] = (100 * sum(right for right, _ in got) / len(got), sum(loss for _, loss in got) / len(got))
        return found


def train(base: BaseModel, name: str, data: Path) -> None:
    """Train one variant and note each look at it."""
    settings = LearnSettings.model_validate({**COMMON, **VARIANTS[name], "data": str(data)})
    lessons, test = training_lessons(settings), Test(base, data)
    translator = fresh_translator(base, settings, calibration_prompts(base, lessons))
    began, losses = perf_counter(), list[float]()

    def on_step(step: int, learned: Learned) -> None:
        losses.append(learned.pred)
        if step % LOOK:
            return
        found = test.look(translator.eval())
        translator.train()
        seconds = round(perf_counter() - began)
        line = {"variant": name, "step": step, "loss": sum(losses[-LOOK:]) / LOOK, "seconds": seconds, **found}
        print(json.dumps(line), file=sys.stderr)
        with (FOLDER / "ablations.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    learn(base, translator, lessons, settings, on_step)


def table(looks: list[dict[str, Any]]) -> str:
    """The last look at each variant."""
    last = {look["variant"]: look for look in looks}
    rows = [
        "| variant | steps | loss in training | recited, own | wrong | own less wrong | answer's loss, own | wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, look in last.items():
        (own, own_loss), (wrong, wrong_loss) = look["own"], look["wrong"]
        rows.append(
            f"| {name} | {look['step']} | {look['loss']:.2f} | {own:.1f} | {wrong:.1f} | **{own - wrong:.1f}** | "
            f"{own_loss:.2f} | {wrong_loss:.2f} |"
        )
    return "\n".join(rows)


def picture(looks: list[dict[str, Any]], path: Path) -> None:
    """Document-specific recall, and how much the own document lowers the answer's loss, against steps."""
    from matplotlib.figure import Figure

    chart = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    left, right = chart.subplots(1, 2)
    for name in dict.fromkeys(look["variant"] for look in looks):
        mine = [look for look in looks if look["variant"] == name]
        steps = [0] + [look["step"] for look in mine]
        left.plot(steps, [0.0] + [look["own"][0] - look["wrong"][0] for look in mine], marker="o", label=name)
        right.plot(steps, [0.0] + [look["wrong"][1] - look["own"][1] for look in mine], marker="o", label=name)
    left.set(xlabel="steps of 8 documents", ylabel="recited, own less wrong document, %", ylim=(0, None))
    right.set(xlabel="steps of 8 documents", ylabel="answer's loss, wrong less own document, nats")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    chart.savefig(path)


def main() -> None:
    """Train the variants named that are not there yet, then print the table and draw the picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "ablations.jsonl"

    def looks() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return list({(look["variant"], look["step"]): look for look in lines}.values())  # one begun twice counts once

    if len(sys.argv) > 1:
        base = load_model("smollm2-135m", "float32")
        done = {look["variant"] for look in looks() if look["step"] == COMMON["steps"]}
        for name in sys.argv[2:] or list(VARIANTS):
            if name not in done:
                train(base, name, Path(sys.argv[1]))
    if found := looks():
        print(table(found))
        picture(found, FOLDER / "ablations.png")


if __name__ == "__main__":
    main()
