"""Measure how much time it saves to read once what several questions about a document have in common.

    python benchmarks/sharing.py

Sixteen questions about four everyday documents, with the passage and two examples in the prompt: without adapters, and
with each document's adapter. Prints the median seconds of both ways and how many answers are the same, and writes
build/bench/sharing.json.
"""

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import torch

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, stack
from dyprag.adapters.sharing import whole
from dyprag.adapters.stopping import repeats
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Retrieved
from dyprag.evaluation.recall.everyday import everyday_lessons
from dyprag.methods.protocol import Asked, fitting_prompt
from dyprag.model.base import load_model
from dyprag.model.files import learned_folder
from dyprag.translators.protocol import load_translator

MODEL, DOCUMENTS, QUESTIONS, ROUNDS = "smollm2-135m", 4, 4, 3


def main() -> None:
    """Measure both ways in turn."""
    config = PipelineConfig().resolved()
    base = load_model(MODEL)
    translator = load_translator(learned_folder("packaged", MODEL), base)
    lessons = everyday_lessons()[:DOCUMENTS]
    with torch.inference_mode():
        made = [translator.translate(translator.read(base, [lesson.document.passage])) for lesson in lessons]
    adapters, form = stack(made), config.evaluate.form()
    owners = [index for index in range(DOCUMENTS) for _ in range(QUESTIONS)]
    asked = [
        Asked(pair.question, (Retrieved(lesson.document, 1.0),), form=form)
        for lesson in lessons for pair in lesson.pairs[:QUESTIONS]
    ]  # fmt: skip
    sampling = Sampling(config.evaluate.max_new_tokens)
    prompts = [fitting_prompt(base, question, True, sampling.max_new_tokens).ids for question in asked]

    def seconds(inject: Callable[[list[int]], Adapters | None] | None) -> tuple[float, list[str]]:
        start = perf_counter()
        answers = generate(base, prompts, sampling, inject, len(prompts), stop=repeats)
        return perf_counter() - start, [answer.text for answer in answers]

    figures = []
    own = adapters.times(config.evaluate.combine_strength)
    print(f"{base.dtype}, {os.cpu_count()} cores; {len(prompts)} prompts of {sum(map(len, prompts))} tokens\n")
    print("| | read once, s | each by itself, s | ratio | same answers |\n|---|---|---|---|---|")
    for name, inject in (
        ("no adapter", None),
        ("each document's adapter", lambda rows: own.select([owners[row] for row in rows]) if own else None),
    ):
        shared, apart = [], []
        for _ in range(ROUNDS):
            shared.append(seconds(inject))
            with patch("dyprag.adapters.decoding.plan", lambda prompts, _: whole(prompts)):
                apart.append(seconds(inject))
        once, each = (statistics.median(time for time, _ in runs) for runs in (shared, apart))
        same = sum(left == right for left, right in zip(shared[0][1], apart[0][1], strict=True))
        figures.append({"name": name, "shared_s": once, "apart_s": each, "same": same, "questions": len(prompts)})
        print(f"| {name} | {once:.1f} | {each:.1f} | {each / once:.2f} | {same} of {len(prompts)} |", flush=True)
    file = Path("build/bench/sharing.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
