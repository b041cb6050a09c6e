"""Training speed on a busy machine, with dyprag's thread settings and with torch's defaults.

    python benchmarks/threads.py [ROUNDS]

Trains adapters with one busy process per core and with none. By default, torch's threads spin while they wait for each
other. Each side runs in a fresh process, in turns. Prints the medians and writes build/bench/threads.json.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import dyprag  # noqa: F401  before torch: it sets how threads wait
from dyprag.adapters.parametrize import parametrize
from dyprag.adapters.samples import Sample
from dyprag.config import LoraSettings, PipelineConfig
from dyprag.model.base import load_model
from dyprag.runtime.threads import usable_cores

MOST_BUSY, MOST_LOST = 2.5, 1.05  # goals: maximum slowdown of busy versus idle, and of idle versus torch's default
SPINS = {"GOMP_SPINCOUNT": "300000"}  # libgomp's default without OMP_WAIT_POLICY
STEPS, FEW, ROWS, TOKENS = 20, 3, 2, 96  # steps measured, fewer for spinning threads on a busy machine; step size


def work(steps: int) -> float:
    """The seconds of a training step of one adapter of the packaged model, after a warm-up step."""
    settings = PipelineConfig().resolved().parametrize
    settings = settings.model_copy(update={"epochs": 1, "batch_size": ROWS})
    base = load_model("smollm2-135m")
    generator = iter(range(1000, 40000))
    samples = [Sample([next(generator) for _ in range(TOKENS)], 1) for _ in range(ROWS * steps)]
    list(parametrize(base, [samples[:ROWS]], LoraSettings(rank=2), settings))
    start = perf_counter()
    list(parametrize(base, [samples], LoraSettings(rank=2), settings))
    return (perf_counter() - start) / steps


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Run a number of busy processes."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measured(environment: dict[str, str], steps: int) -> float:
    """The seconds of a step, measured in a new process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}
    done = subprocess.run(
        [sys.executable, __file__, "--work", str(steps)],
        env=clean | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main(rounds: int) -> None:
    """Measure both sides; print and write the figures."""
    sides: dict[str, dict[str, str]] = {"dyprag": {}, "torch": SPINS}
    seconds: dict[tuple[str, int], list[float]] = {}
    cores = usable_cores()
    for number in range(rounds):
        for count in (0, cores):
            with neighbours(count):
                for side, environment in sides.items():
                    slow = bool(count and environment)  # minutes per step on some machines: measure it only once
                    if not slow or number == 0:
                        step_seconds = measured(environment, FEW if slow else STEPS)
                        seconds.setdefault((side, count), []).append(step_seconds)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    for (side, count), value in median.items():
        spread = f"{min(seconds[side, count]):.3f} to {max(seconds[side, count]):.3f}"
        print(f"{side:7} {count} busy neighbours: {value:6.3f} s a step ({spread})", flush=True)
    busy, idle, alone = median["dyprag", cores], median["dyprag", 0], median["torch", 0]
    figures = [
        {"name": "one busy neighbour a core, beside idle", "value": round(busy, 3), "unit": "s",
         "baseline": round(idle, 3), "ratio": round(busy / idle, 2), "goal": MOST_BUSY,
         "holds": busy <= MOST_BUSY * idle},
        {"name": "idle, beside threads that spin", "value": round(idle, 3), "unit": "s", "baseline": round(alone, 3),
         "ratio": round(idle / alone, 3), "goal": MOST_LOST, "holds": idle <= MOST_LOST * alone},
        {"name": "one busy neighbour a core, beside threads that spin", "value": round(busy, 3), "unit": "s",
         "baseline": round(median["torch", cores], 3), "ratio": round(busy / median["torch", cores], 2), "goal": 1.0,
         "holds": busy <= median["torch", cores]},
    ]  # fmt: skip
    for figure in figures:
        print(f"{figure['name']}: {figure['ratio']} x (goal {figure['goal']}): {'holds' if figure['holds'] else 'NO'}")
    target = Path("build/bench/threads.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"
    target.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        print(work(int(sys.argv[2])))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
