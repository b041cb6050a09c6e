"""The HTTP server under load: answers per second with one client and with sixteen, lost answers, and memory.

    python benchmarks/serving.py [REQUESTS]

Runs `dyprag serve` on loopback in its own process, with SmolLM2-135M and the packaged translator. Each request contains
one of 40 invented documents and a question about it. Three loads run with one client and with sixteen: cached adapters
(dyprag), adapters and the passage (dyprag-combine), and 64 tokens of plain chat. Then sixteen clients send REQUESTS
(1,000) requests with all methods while the server's memory is measured. Prints the figures and writes
build/bench/serving.json.
"""

import itertools
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from dyprag.translators.lessons.invented import invented_lessons

CLIENTS, DOCUMENTS, EACH = 16, 40, 48  # the server caches 44 of this translator's adapters
METHODS = ("vanilla", "rag", "dyprag", "dyprag-combine")


def main(requests: int) -> None:
    """Run all loads; print and write the figures."""
    lessons = invented_lessons("closed", DOCUMENTS, 77, "test")
    asked = [(lesson.document.passage, lesson.pairs[0].question) for lesson in lessons]
    figures: list[dict[str, Any]] = []
    with server() as (url, process):
        client = httpx.Client(base_url=url, timeout=120, limits=httpx.Limits(max_connections=CLIENTS))
        start = time.perf_counter()
        for document, question in asked:  # also fills the adapter cache
            send(client, body("dyprag", document, question))
        note(figures, "a new document: adapter and answer", (time.perf_counter() - start) / DOCUMENTS, "s", None, None)
        for name, make in (
            ("dyprag", lambda d, q: body("dyprag", d, q)),
            ("dyprag-combine", lambda d, q: body("dyprag-combine", d, q)),
            ("chat of 64 tokens", lambda d, q: {**chat(f"Tell me a story. {q}"), "max_tokens": 64}),
        ):
            bodies = [make(*pair) for pair in itertools.islice(itertools.cycle(asked), EACH)]
            alone, together = rate(client, bodies[: EACH // 3], 1), rate(client, bodies, CLIENTS)
            note(figures, f"{name}: answers a second, {CLIENTS} clients", together, "/s", alone, 3)
        figures += endurance(client, process, asked, requests)
    target = Path("build/bench/serving.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    target.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


def endurance(client: httpx.Client, process: psutil.Process, asked: list[Any], requests: int) -> list[dict[str, Any]]:
    """Send many requests with all methods; compare the server's memory after a fifth of them and at the end."""
    figures: list[dict[str, Any]] = []
    bodies = [body(METHODS[n % 4], *asked[n % len(asked)]) for n in range(requests)]
    memory, answered = list[float](), 0
    for start in range(0, requests, requests // 5):
        with ThreadPoolExecutor(CLIENTS) as pool:
            answered += sum(pool.map(lambda request: send(client, request), bodies[start : start + requests // 5]))
        memory.append(process.memory_info().rss / 2**20)
    note(figures, "answers lost", requests - answered, "", None, 0)
    fifths = ", ".join(f"{each:.0f}" for each in memory)
    note(figures, f"memory at the end (after each fifth: {fifths})", memory[-1], "MiB", memory[0], 1.1)
    return figures


def body(method: str, document: str, question: str) -> dict[str, Any]:
    """A request with a document."""
    return {**chat(question), "method": method, "documents": [document]}


def chat(text: str) -> dict[str, Any]:
    """A plain chat request."""
    return {"messages": [{"role": "user", "content": text}]}


def send(client: httpx.Client, request: dict[str, Any]) -> bool:
    """Send a request. Returns whether it was answered."""
    answer = client.post("/v1/chat/completions", json=request)
    return answer.status_code == 200 and bool(answer.json()["choices"])


def rate(client: httpx.Client, bodies: list[dict[str, Any]], clients: int) -> float:
    """The answers per second with a number of clients."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answered = sum(pool.map(lambda request: send(client, request), bodies))
    if answered < len(bodies):
        raise RuntimeError(f"{len(bodies) - answered} of {len(bodies)} requests were not answered")
    return answered / (time.perf_counter() - start)


def note(figures: list[dict[str, Any]], name: str, value: float, unit: str, baseline: float | None, goal: Any) -> None:
    """Record and print a figure with its baseline."""
    ratio = value / baseline if baseline else None
    figures.append({"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "goal": goal})
    comparison = f", {ratio:.2f} x one client's {baseline:.2f}" if ratio and unit == "/s" else ""
    print(f"{name}: {value:.2f} {unit}{comparison} (goal {goal})", flush=True)


@contextmanager
def server() -> Iterator[tuple[str, psutil.Process]]:
    """Run `dyprag serve`. Yields its URL and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "dyprag.cli.main", "serve", "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            time.sleep(0.2)
            try:
                if httpx.get(f"{url}/healthz").status_code == 200:
                    break
            except httpx.TransportError:
                continue
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
