"""The on-disk index with a million passages, compared with rank_bm25 in memory with 20,000.

    python benchmarks/retrieval.py [PASSAGES]

The passages have 100 words of a Zipfian vocabulary. They are generated and indexed by a separate process on two cores.
Prints the figures and writes build/bench/retrieval.json.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from dyprag.corpora.documents import Document
from dyprag.corpora.retrieval import BM25Retriever, IndexedBM25, Retriever, build_index

VOCABULARY, WORDS, QUERIES, TERMS, CORES, SMALL = 100_000, 100, 200, 10, 2, 20_000
MEMORY_GOAL, OPEN_GOAL, QUERY_GOAL = 8, 2, 50  # GiB, s, ms
Figure = dict[str, Any]


def texts(words: int, seed: int) -> Iterator[str]:
    """Yield texts of a number of words endlessly; the n-th most frequent word has 1/n of the first one's share."""
    shares = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    vocabulary = np.array([f"w{number}" for number in range(VOCABULARY)], dtype=object)
    rng = np.random.default_rng(seed)
    while True:
        for row in vocabulary[np.searchsorted(shares, rng.random((1000, words)) * shares[-1])]:
            yield " ".join(row)


def passages(count: int) -> Iterator[Document]:
    """Yield the passages of the corpus."""
    for number, text in enumerate(islice(texts(WORDS, 0), count)):
        yield Document(str(number), text, f"Title {number}")


def build(folder: Path, count: int) -> tuple[float, float]:
    """Build the index in its own process. Returns its seconds and peak memory in GiB."""
    start = perf_counter()
    process = subprocess.Popen([sys.executable, __file__, str(count), str(folder)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the index was not built: {process.returncode}")
    return perf_counter() - start, usage.ru_maxrss / 2**20


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Call a function. Returns its seconds and result."""
    start = perf_counter()
    result = work()
    return perf_counter() - start, result


def asked(retriever: Retriever, queries: int) -> list[float]:
    """The milliseconds of each query of ten words, drawn from the passages' distribution."""
    return [
        1000 * timed(lambda query=query: retriever.search(query, 3))[0] for query in islice(texts(TERMS, 1), queries)
    ]


def figure(name: str, value: float, unit: str, goal: float | None = None, baseline: float | None = None) -> Figure:
    """One row of the results. The goal is an upper bound."""
    ratio = None if baseline is None else round(value / baseline, 3)
    return {"name": name, "value": round(value, 3), "unit": unit, "baseline": baseline and round(baseline, 3),
            "ratio": ratio, "goal": goal, "holds": goal is None or value <= goal}  # fmt: skip


def measured(folder: Path, count: int) -> list[Figure]:
    """Build, open and search the index; then do the same in memory with fewer passages."""
    seconds, memory = build(folder, count)
    size = sum(path.stat().st_size for path in folder.iterdir())
    opening, index = timed(lambda: IndexedBM25(folder))
    verifying, _ = timed(index.verify)
    spent = asked(index, QUERIES)
    small = list(passages(min(SMALL, count)))
    making, in_memory = timed(lambda: BM25Retriever(small))
    baseline = asked(in_memory, QUERIES // 10)
    return [
        figure("seconds to index", seconds, "s"),
        figure("passages a second", count / seconds, "/s", None, len(small) / making),
        figure("largest memory of the indexing process", memory, "GiB", MEMORY_GOAL),
        figure("bytes of the index", size, "B"),
        figure("seconds to open", opening, "s", OPEN_GOAL),
        figure("seconds to verify every byte", verifying, "s"),
        figure("a query, median", statistics.median(spent), "ms", QUERY_GOAL, statistics.median(baseline)),
        figure("a query, worst", max(spent), "ms", QUERY_GOAL, max(baseline)),
    ]


def main(count: int) -> None:
    """Run all parts; print and write the figures."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder) / "index", count)
    print(f"{count:,} passages of {WORDS} words; rank_bm25 with {min(SMALL, count):,}; {QUERIES} queries")
    for row in figures:
        baseline = "" if row["baseline"] is None else f", rank_bm25 {row['baseline']:,} ({row['ratio']} x)"
        goal = "" if row["goal"] is None else f"; goal {row['goal']}; holds: {row['holds']}"
        print(f"{row['name']}: {row['value']:,} {row['unit']}{baseline}{goal}")
    target = Path("build/bench/retrieval.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {count:,} passages"
    target.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if len(sys.argv) > 2:  # the process that indexes
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        build_index(Path(sys.argv[2]), passages(number))
    else:
        main(number)
