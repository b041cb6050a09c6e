"""Fact recall of the packaged translator on unseen documents, without and with the passage in the prompt.

    python benchmarks/recall.py [DATA] [PEOPLE] [TRANSLATOR]

DATA is the folder of the data sets, PEOPLE that of human questions (defaults: data and qa in a folder `shared` next to
the repository, if they exist; without them, only invented and everyday documents are used). TRANSLATOR is a folder
written by `dyprag learn` (default: the packaged one). Prints the tables and the time to make an adapter, and writes
build/bench/recall.json.
"""

import json
import os
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from dyprag.config import PipelineConfig
from dyprag.evaluation.recall.benchmark import (
    BROAD,
    conditions_of,
    recall_bands,
    training_lessons,
)
from dyprag.evaluation.recall.card import changes_table, cut_table, recall_table
from dyprag.evaluation.recall.measure import Asking, Measurer
from dyprag.evaluation.recall.summaries import changes, summarise
from dyprag.model.base import load_model
from dyprag.model.files import learned_folder
from dyprag.translators.protocol import load_translator

MODEL, TOKENS, GOAL, TIMES = "smollm2-135m", 150, 0.25, 15
SHARED = Path(__file__).parents[2] / "shared"
SETTINGS = {
    "recall": {"closed": 15, "open": 15, "popqa": 40, "multihop": 10, "human": 90, "kinds": 30, "questions": 4},
    "learn": {"closed": 64, "open": 64},  # training documents of the controls
}


def main() -> None:
    """Measure recall; print the tables and write the figures."""
    arguments = dict(enumerate(sys.argv))
    data, people = Path(arguments.get(1, SHARED / "data")), Path(arguments.get(2, SHARED / "qa"))
    data_sets = data if data.is_dir() else None
    folder = Path(arguments[3]) if 3 in arguments else learned_folder("packaged", MODEL)
    config = PipelineConfig.model_validate(SETTINGS)
    if people.is_dir():
        config = config.model_copy(update={"recall": config.recall.model_copy(update={"people": str(people)})})
    config = config.resolved()
    base = load_model(MODEL)
    translator = load_translator(folder, base)
    available = ", ".join(str(path) for path in (data, people) if path.is_dir()) or "none, so no real passages"
    print(f"{folder}\n{base.dtype}, {os.cpu_count()} cores; data: {available}\n")
    measurer = Measurer(
        base, translator, training_lessons(config.learn), config.lora, config.parametrize, config.recall, data_sets,
        Asking.of(config.evaluate),
    )  # fmt: skip
    rows = []
    start = perf_counter()
    for band, lessons in recall_bands(config.recall, data_sets).items():
        for condition in [condition for condition in conditions_of(band) if condition in BROAD]:
            condition_start = perf_counter()
            rows += measurer.measure(band, lessons, condition)
            print(f"  {band} {condition}: {perf_counter() - condition_start:.0f} s", file=sys.stderr)
    summaries, changed = summarise(rows), changes(rows)
    print("Answer presence, %\n" + recall_table(summaries))
    print("\nToken F1, %\n" + recall_table(summaries, "f1"))
    print("\n" + cut_table(summaries))
    print("\nQuestions that the document does not answer, %\n" + changes_table(changed))
    print(f"\n{len(rows)} answers in {(perf_counter() - start) / 60:.1f} minutes")
    passage = base.tokenizer.decode(base.tokenizer("The harbour was built in stone. " * TOKENS)["input_ids"][:TOKENS])
    seconds = []
    for _ in range(TIMES):
        translation_start = perf_counter()
        translator.translate(translator.read(base, [passage]))
        seconds.append(perf_counter() - translation_start)
    adapter_seconds = statistics.median(seconds)
    print(f"\nMedian time to make an adapter from {TOKENS} tokens: {adapter_seconds:.3f} s (goal {GOAL} s)")
    file = Path("build/bench/recall.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "translator": str(folder), "adapter_seconds": adapter_seconds,
        "bands": [asdict(summary) for summary in summaries],
        "changes": [asdict(change) for change in changed],
    }  # fmt: skip
    file.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
