"""Augmentation through a faulty endpoint with repeated kills, and by the local model compared with a plain loop.

    python benchmarks/augmentation.py [DOCUMENTS]

The endpoint is the tests' server on loopback, in its own process: 200 ms per answer, 10 % of the requests refused with
429, 5 % of the answers malformed. Prints the figures and writes build/bench/augmentation.json.
"""

import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dyprag.config import PipelineConfig
from dyprag.corpora.reader import load_corpus
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.tables import read_product

ROOT = Path(__file__).resolve().parents[1]
PER_MINUTE, LATENCY, CONCURRENCY, KILLS = 3000, 0.2, 32, 5
MALFORMED = {"not_json": 0.02, "wrong_schema": 0.02, "empty": 0.01}
Figure = dict[str, Any]


@contextmanager
def endpoint(**behaviour: float) -> Iterator[str]:
    """Run the tests' server in a process. Yields its URL."""
    options = [text for name, value in behaviour.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    command = [
        sys.executable,
        str(ROOT / "tests" / "support" / "llm_server.py"),
        "--port",
        "0",
        "--seed",
        "0",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def stats(url: str) -> dict[str, Any]:
    """The server's statistics."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:
        return json.load(answer)


def corpus(folder: Path, documents: int) -> str:
    """Write a corpus of any size: the demo's documents, each with a sentence of its own."""
    texts = load_corpus("demo", None, None, None).documents
    rows = []
    for number in range(documents):
        document = texts[number % len(texts)]
        more = f" Visitor number {number + 1} of Corrin Hall came in {1100 + number}."
        rows.append({"id": f"doc-{number:05d}", "title": document.title, "text": document.text + more})
    path = folder / "documents.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def configuration(folder: Path, documents: str, url: str, verify: bool = True, **api: Any) -> Path:
    """Write a configuration file and return its path.

    Without `verify`, two runs give the same products: a malformed answer to a verification would drop its pair, and
    which answers are malformed is random.
    """
    endpoint_settings = {
        "model": "loopback", "base_url": url, "concurrency": CONCURRENCY, "requests_per_minute": PER_MINUTE,
        "prices": {"loopback": {"input": 0.15, "output": 0.6}}, **api,
    }  # fmt: skip
    path = folder / f"config-{len(list(folder.glob('config-*')))}.yaml"
    path.write_text(yaml.safe_dump({
        "preset": "paper", "store": str(folder / f"store-{path.stem}"), "corpus": {"documents": documents},
        "augment": {"backend": "api", "verify": verify, "tries": 6, "api": endpoint_settings},
    }))  # fmt: skip
    return path


def dyprag(command: str, config: Path) -> subprocess.Popen[bytes]:
    """Start the command line in its own process group."""
    arguments = [sys.executable, "-m", "dyprag.cli.main", command, "--config", str(config)]
    return subprocess.Popen(arguments, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(command: str, config: Path) -> tuple[float, float]:
    """Run a command. Returns its seconds and peak memory in MiB."""
    start = time.perf_counter()
    process = dyprag(command, config)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"dyprag {command} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def products(config: Path) -> dict[str, list[str]]:
    """The accepted items of every product in a store, by key."""
    store = Store(yaml.safe_load(config.read_text())["store"])
    items = {}
    for record in store.records():
        if record.kind in ("rewrites", "qa_pairs"):
            product = read_product(store.folder(record.kind, record.key))
            items[record.key] = [str(item) for item in product.items]
    return items


def steady(folder: Path, documents: int) -> list[Figure]:
    """Augment all documents at the configured rate, compared with one request at a time."""
    with endpoint(latency=LATENCY) as url:
        config = configuration(folder, corpus(folder, 40), url, concurrency=1)
        run("ingest", config)
        run("augment", config)
        seen = stats(url)
        one = seen["total"] / (seen["last"] - seen["first"])
    with endpoint(latency=LATENCY, rate_limited=0.1, **MALFORMED) as url:
        config = configuration(folder, corpus(folder, documents), url)
        run("ingest", config)
        seconds, memory = run("augment", config)
        seen = stats(url)
    store = PipelineConfig.model_validate(yaml.safe_load(config.read_text())).store
    progress = Catalogue(Store(store)).progress()[1]
    sent, rate = seen["total"], seen["total"] / (seen["last"] - seen["first"])
    whole = progress["done"] - progress["partial"]
    print(f"{documents} documents: {progress}; {seconds:.0f} s with the server's start; the endpoint saw {seen}")
    return [
        figure("documents complete", whole, "", documents, whole == documents),
        figure("requests per second", rate, "/s", f">= {0.9 * PER_MINUTE / 60}", rate >= 0.9 * PER_MINUTE / 60, one),
        figure("requests a document", sent / documents, "", "2 without any fault", sent / documents < 2.6),
        figure("good answers asked for again", seen["repeated"], "", 0, seen["repeated"] == 0),
        figure("largest process", memory, "MiB", "< 500", memory < 500),
    ]  # fmt: skip


def killed(folder: Path, documents: int) -> list[Figure]:
    """Kill runs at random moments: the products must be the same, and no answer may be requested twice."""
    texts, rng = corpus(folder, documents), random.Random(0)
    with endpoint(latency=LATENCY, rate_limited=0.1, **MALFORMED) as url:
        whole = configuration(folder, texts, url, verify=False)
        run("ingest", whole)
        run("augment", whole)
    with endpoint(latency=LATENCY, rate_limited=0.1, **MALFORMED) as url:
        config = configuration(folder, texts, url, verify=False)
        run("ingest", config)
        for number in range(KILLS):
            before = stats(url)["total"]
            process = dyprag("augment", config)
            while stats(url)["total"] == before and process.poll() is None:
                time.sleep(0.05)
            time.sleep(rng.uniform(0.1, 2 * documents / (PER_MINUTE / 60) / (KILLS + 1)))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(f"kill {number + 1}: {stats(url)['total'] - before} requests, {len(products(config))} products there")
        run("augment", config)
        again = stats(url)["repeated"]
    same = products(whole) == products(config)
    return [
        figure(f"same products after {KILLS} kills", int(same), "", 1, same),
        figure("good answers asked for again", again, "", f"<= {KILLS * CONCURRENCY}", again <= KILLS * CONCURRENCY),
    ]


def local(documents: int = 4) -> list[Figure]:
    """Tokens per second of the local model, compared with a loop that generates for one prompt at a time."""
    import torch

    from dyprag.adapters.generation import Generation, Sampling, generate
    from dyprag.augmentation import local as writing
    from dyprag.corpora.products import PRODUCTS
    from dyprag.model.base import load_model

    base = load_model("smollm2-135m", "float32", "cpu")
    writer = writing.LocalAugmenter(base, PipelineConfig().resolved().augment)
    texts = load_corpus("demo", None, None, None).documents
    calls: list[tuple[list[list[int]], Sampling]] = []
    spent = {"tokens": 0.0, "seconds": 0.0}

    def counted(model: Any, prompts: list[list[int]], sampling: Sampling, batch_size: int) -> list[Generation]:
        start = time.perf_counter()
        written = generate(model, prompts, sampling, batch_size=batch_size)
        spent["seconds"] += time.perf_counter() - start
        spent["tokens"] += sum(generation.tokens for generation in written)
        calls.append((prompts, sampling))
        return written

    @torch.inference_mode()
    def alone(prompt: list[int], sampling: Sampling) -> int:
        sampled = {"do_sample": True, "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": 1.0}
        ids = torch.tensor([prompt])
        output = base.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=sampling.max_new_tokens,
            eos_token_id=[base.tokenizer.eos_token_id, *base.newline_ids], pad_token_id=base.tokenizer.pad_token_id,
            **(sampled if sampling.temperature else {"do_sample": False}),
        )  # fmt: skip
        return output.shape[1] - len(prompt)

    for product in PRODUCTS:
        writer.write(product, texts[documents : documents + 2])  # warm up
    writing.generate = counted  # type: ignore[assignment]
    start = time.perf_counter()
    for product in PRODUCTS:
        writer.write(product, texts[:documents])
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    tokens = sum(alone(prompt, sampling) for prompts, sampling in calls for prompt in prompts)
    loop = tokens / (time.perf_counter() - start)
    rate = spent["tokens"] / spent["seconds"]
    print(f"local: {seconds / documents:.1f} s per document, including the ranking of its pairs")
    return [
        figure("local model's tokens per second", rate, "/s", ">= 4 x one prompt at a time", rate >= 4 * loop, loop)
    ]


def figure(name: str, value: float, unit: str, goal: float | str, holds: bool, baseline: float | None = None) -> Figure:
    """One row of the results."""
    ratio = None if baseline is None else round(value / baseline, 2)
    return {"name": name, "value": round(value, 3), "unit": unit, "baseline": baseline and round(baseline, 3),
            "ratio": ratio, "goal": goal, "holds": holds}  # fmt: skip


def main(documents: int) -> None:
    """Run all parts; print and write the figures."""
    figures = []
    for side in (steady, killed):
        with tempfile.TemporaryDirectory() as folder:
            figures += side(Path(folder), documents if side is steady else max(1, documents * 3 // 10))
    figures += local()
    for row in figures:
        baseline = "" if row["baseline"] is None else f", one at a time {row['baseline']} ({row['ratio']} x)"
        print(f"{row['name']}: {row['value']:g} {row['unit']}{baseline}; goal {row['goal']}; holds: {row['holds']}")
    target = Path("build/bench/augmentation.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    target.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
