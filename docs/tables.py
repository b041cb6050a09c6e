"""Make the demo's table and picture again, from one run: `make tables`.

The run is that of `make demo`, in a store of its own that is emptied first. What stands between the two markers in the
README and in docs/results/index.md is replaced, and docs/pictures/f1.png with it; nothing else there may quote the
demo's figures.
"""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import torch

from dyprag.config import PipelineConfig
from dyprag.evaluation.report import blocks, tables
from dyprag.model.base import load_model
from dyprag.runtime.threads import usable_cores
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "build" / "tables" / "demo"
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results" / "index.md"
PICTURE = ROOT / "docs" / "pictures" / "f1.png"
BEGIN, END = "<!-- demo: made by `make tables` -->", "<!-- end of demo -->"


def main() -> None:
    """Run the demo, write the table and the picture."""
    shutil.rmtree(STORE, ignore_errors=True)
    began = perf_counter()
    command = [sys.executable, "-m", "dyprag.cli.main", "run", "-c", "examples/demo.yaml", "-s", f"store={STORE}"]
    subprocess.run(command, cwd=ROOT, check=True)
    seconds = perf_counter() - began
    catalogue = Catalogue(Store(STORE))
    rows = catalogue.results()
    table = tables.short(rows, tables.datasets(rows)[0])
    base = load_model(PipelineConfig().model.name)
    dtype = str(base.dtype).removeprefix("torch.")
    machine = f"{usable_cores()} cores, {platform.machine()}, {dtype}, torch {torch.__version__}"
    note = f"One run of {seconds / 60:.1f} minutes ({machine})."
    short = f"{blocks.markdown([table])}\n\n{note}"
    replace_demo(README, short)
    replace_demo(RESULTS, f"{short}\n\n![F1 and its 95 % interval by method](../pictures/f1.png)")
    shutil.copy(catalogue.store.reports / "latest" / "f1.png", PICTURE)
    print(f"\nWritten: {README}, {RESULTS} and {PICTURE}")


def replace_demo(page: Path, content: str) -> None:
    """Put the content between the two markers of a page.

    Raises:
        SystemExit: the markers are not there once each.
    """
    text = page.read_text(encoding="utf-8")
    marked = f"{BEGIN}\n\n{content}\n\n{END}"
    replaced, count = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: marked, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{page}: the lines {BEGIN} and {END} are not there once each.")
    page.write_text(replaced, encoding="utf-8")


if __name__ == "__main__":
    main()
