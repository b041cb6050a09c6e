"""Fact recall with the packaged translator, beside its controls and ceilings, on documents that it has not seen.

    python benchmarks/recall.py [DATA] [TRANSLATOR]

DATA is the data sets' folder (default: ../shared/data where it exists; without it, invented documents only);
TRANSLATOR a folder that `dyprag learn` wrote (default: the packaged one). Prints the tables and how long an adapter
takes to make, and writes build/bench/recall.json.
"""

import json
import os
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from dyprag.config import PipelineConfig
from dyprag.model_files import learned_folder
from dyprag.models import load_model
from dyprag.recall.benchmark import CONDITIONS, Measurer, recall_bands, summarise, training_lessons
from dyprag.recall.card import recall_table
from dyprag.translation import load_translator

MODEL, TOKENS, GOAL, TIMES = "smollm2-135m", 150, 0.25, 15
SETTINGS = {
    "recall": {"closed": 15, "open": 15, "popqa": 60, "multihop": 10, "questions": 4, "parametrized": 2},
    "learn": {"closed": 64, "open": 64},  # what the controls are made of
}


def main() -> None:
    """Measure and print."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared" / "data"
    where = data if data.is_dir() else None
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else learned_folder("packaged", MODEL)
    config = PipelineConfig.model_validate(SETTINGS).resolved()
    base = load_model(MODEL)
    translator = load_translator(folder, base)
    print(f"{folder}\n{base.dtype}, {os.cpu_count()} cores; data: {where or 'none, so no real passages'}\n")
    measurer = Measurer(
        base, translator, training_lessons(config.learn), config.lora, config.parametrize, config.recall, where
    )
    rows = []
    for band, lessons in recall_bands(config.recall, where).items():
        for condition in CONDITIONS:
            began = perf_counter()
            rows += measurer.measure(band, lessons, condition)
            print(f"  {band} {condition}: {perf_counter() - began:.0f} s", file=sys.stderr)
    summaries = summarise(rows)
    print("Answer presence, %\n" + recall_table(summaries))
    print("\nToken F1, %\n" + recall_table(summaries, "f1"))
    passage = base.tokenizer.decode(base.tokenizer("The harbour was built in stone. " * TOKENS)["input_ids"][:TOKENS])
    seconds = []
    for _ in range(TIMES):
        began = perf_counter()
        translator.translate(translator.read(base, [passage]))
        seconds.append(perf_counter() - began)
    taken = statistics.median(seconds)
    print(f"\nAn adapter from a document of {TOKENS} tokens: {taken:.3f} s in the median (goal {GOAL} s)")
    file = Path("build/bench/recall.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    result = {"translator": str(folder), "adapter_seconds": taken, "bands": [asdict(summary) for summary in summaries]}
    file.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
