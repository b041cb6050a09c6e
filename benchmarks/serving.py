"""The HTTP server under load, beside vLLM where it is installed: speed, waiting times, lost answers and memory.

    python benchmarks/serving.py [REQUESTS]                  without vLLM
    VLLM=build/vllm/bin/vllm python benchmarks/serving.py    with vLLM (`make test-vllm` installs it there)

Runs `dyprag serve`, then vLLM, on loopback, each in its own process and with the same model, number format, prompts and
sixteen clients:

- chat: 64 tokens each;
- passages: a question about one of eight passages, asked in turn, with the passage in the prompt;
- adapters: a question to one of sixteen documents, each with its own adapter, made and loaded before;
- a new chat's first token while a prompt of 2,000 tokens is read, relative to its time alone.

Then REQUESTS (1,000) requests with all methods are sent to `dyprag serve` while its memory is measured. Prints the
figures and writes build/bench/serving.json.
"""

import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from dyprag.config import PipelineConfig
from dyprag.model.base import load_model
from dyprag.model.files import model_folder
from dyprag.model.prompts import question_prompt
from dyprag.translators.lessons.invented import invented_lessons

MODEL, CLIENTS, PASSAGES, DOCUMENTS, EACH, ROUNDS = "smollm2-135m", 16, 8, 16, 48, 5
CHAT, ANSWER, LONG = 64, 32, 2000  # tokens
METHODS = ("vanilla", "rag", "dyprag", "dyprag-combine")
GOALS = {"chat": 1.0, "passages": 1.0, "adapters": 3.0}


@dataclass(frozen=True)
class Question:
    """A question about a passage, as text and as the prompts that `dyprag serve` makes of it."""

    passage: str
    text: str
    with_passage: list[int]
    alone: list[int]


Send = Callable[[httpx.Client], int]  # sends one request; returns the number of tokens of its answer


class Ours:
    """Requests to `dyprag serve`."""

    name = "dyprag serve"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def chat(self, text: str) -> Send:
        """A plain chat."""
        return lambda client: tokens(client.post("/v1/chat/completions", json=chat(text)))

    def passage(self, question: Question) -> Send:
        """A question with its passage in the prompt."""
        body = {**message(question.text), "method": "rag", "documents": [question.passage], "max_tokens": ANSWER}
        return lambda client: tokens(client.post("/v1/chat/completions", json=body))

    def adapter(self, number: int, question: Question) -> Send:
        """A question to a document's adapter."""
        body = {**message(question.text), "model": self.names[number], "max_tokens": ANSWER}
        return lambda client: tokens(client.post("/v1/chat/completions", json=body))


class Vllm(Ours):
    """The same requests to vLLM."""

    name = "vLLM"

    def passage(self, question: Question) -> Send:
        return self._complete(str(model_folder(MODEL)), question.with_passage)

    def adapter(self, number: int, question: Question) -> Send:
        return self._complete(self.names[number], question.alone)

    def _complete(self, model: str, prompt: list[int]) -> Send:
        body = {"model": model, "prompt": prompt, "max_tokens": ANSWER, "temperature": 0, "stop": ["\n"]}
        return lambda client: tokens(client.post("/v1/completions", json=body))


def main(requests: int) -> None:
    """Measure `dyprag serve` and its peer; print and write the figures."""
    base, ask_for = load_model(MODEL), PipelineConfig().resolved().evaluate.ask_for or "plain"
    lessons = invented_lessons("closed", 40, 77, "test")
    questions = [
        Question(
            lesson.document.passage, pair.question,
            question_prompt(base.tokenizer, pair.question, [lesson.document.passage], ask_for=ask_for),
            question_prompt(base.tokenizer, pair.question),
        )
        for lesson in lessons for pair in lesson.pairs[:4]
    ]  # fmt: skip
    dtype = str(base.dtype).removeprefix("torch.")
    del base
    vllm = os.environ.get("VLLM", "")
    with tempfile.TemporaryDirectory() as folder:
        with served([sys.executable, "-m", "dyprag.cli.main", "serve", "--adapters", folder]) as (url, process):
            client = httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_connections=CLIENTS))
            adapters = [made(client, question.passage) for question in questions[: 4 * DOCUMENTS : 4]]
            names, rank = [name for name, _ in adapters], max(rank for _, rank in adapters)
            ours = measured(client, Ours(names), questions)
            endurance_figures = endurance(client, process, questions, requests)
        theirs = measured_vllm(vllm, dtype, folder, names, rank, questions) if vllm else {}
    figures = compared(ours, theirs) + endurance_figures
    target = Path("build/bench/serving.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {dtype}, Python {platform.python_version()}"
    target.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


def measured_vllm(
    program: str, dtype: str, folder: str, names: Sequence[str], rank: int, questions: Sequence[Question]
) -> dict[str, float]:
    """Measure vLLM, which finds the adapters in the folder of `dyprag serve`."""
    command = [
        program, "serve", str(model_folder(MODEL)), "--enforce-eager", "--dtype", dtype, "--max-model-len", "4096",
        "--max-num-seqs", str(CLIENTS), "--enable-lora", "--max-loras", str(DOCUMENTS),
        "--max-lora-rank", str(min(known for known in (8, 16, 32, 64, 128, 256) if known >= rank)),
    ]  # fmt: skip
    environment = {
        "DYPRAG_ADAPTERS": folder, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "PATH": f"{Path(program).resolve().parent}:{os.environ['PATH']}",
    }  # fmt: skip
    with served(command, environment) as (url, _):
        client = httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_connections=CLIENTS))
        return measured(client, Vllm(names), questions)


def measured(client: httpx.Client, server: Ours, questions: Sequence[Question]) -> dict[str, float]:
    """The figures of one server."""
    asked = [(number, questions[4 * number + turn]) for turn in range(4) for number in range(DOCUMENTS)]
    about = [questions[4 * number + turn] for turn in range(4) for number in range(PASSAGES)] * 2
    figures: dict[str, float] = {}
    for name, sends, unit in (
        ("chat", [server.chat(f"Tell me a story. {q.text}") for q in questions[:EACH]], "tokens"),
        ("passages", [server.passage(q) for q in about[:EACH]], "answers"),
        ("adapters", [server.adapter(n, q) for n, q in asked[:EACH]], "answers"),
    ):
        for send in (sends if name == "adapters" else sends[:1])[:DOCUMENTS]:  # loads what is loaded once
            send(client)
        start = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            counts = list(pool.map(lambda send: send(client), sends))
        seconds = time.perf_counter() - start
        figures[name] = (sum(counts) if unit == "tokens" else len(counts)) / seconds
        print(f"{server.name}: {name}: {figures[name]:.2f} {unit}/s, {sum(counts) / len(counts):.1f} tokens each")
    figures |= waiting(client, server)
    return figures


def waiting(client: httpx.Client, server: Ours) -> dict[str, float]:
    """The seconds to a chat's first token, alone and while another client's long prompt is read (medians)."""
    alone, beside = [], []
    with ThreadPoolExecutor(1) as pool:
        for number in range(ROUNDS):
            alone.append(first_token(client, f"{number} is a number. Tell me of it."))
            words = random.Random(number).choices(["lamp", "river", "stone", "letter", "garden", "winter"], k=LONG - 60)
            long = pool.submit(tokens, client.post, {**message(" ".join(words)), "max_tokens": 1})
            time.sleep(0.3)
            if long.done():
                raise RuntimeError("the long prompt was read before another could be sent: raise LONG")
            beside.append(first_token(client, f"{number} is another number. Tell me of it."))
            long.result()
    figures = {"first token alone": statistics.median(alone), "first token beside": statistics.median(beside)}
    print(f"{server.name}: first token {figures['first token alone']:.3f} s alone, "
          f"{figures['first token beside']:.3f} s beside a prompt of {LONG} tokens")  # fmt: skip
    return figures


def first_token(client: httpx.Client, text: str) -> float:
    """The seconds until the first piece of a streamed answer's text."""
    start = time.perf_counter()
    seconds = 0.0
    body = {**chat(text), "max_tokens": 4, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():  # to the end, so that the next request is alone
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                seconds = seconds or time.perf_counter() - start
    return seconds


def compared(ours: dict[str, float], theirs: dict[str, float]) -> list[dict[str, Any]]:
    """Print and return the figures beside vLLM's."""
    figures = []
    for name, goal in GOALS.items():
        unit = "tokens/s" if name == "chat" else "answers/s"
        figures.append(figure(f"{name}, {CLIENTS} clients", ours[name], unit, theirs.get(name), goal))
    for who, its in (("dyprag serve", ours), ("vLLM", theirs)):
        if its:
            name = f"{who}: first token while {LONG} tokens are read, relative to alone"
            figures.append(figure(name, its["first token beside"], "s", its["first token alone"], 2))
    return figures


def endurance(
    client: httpx.Client, process: psutil.Process, questions: Sequence[Question], requests: int
) -> list[dict[str, Any]]:
    """Send many requests with all methods; compare the server's memory after a fifth of them and at the end."""
    bodies = [
        {**message(questions[n % len(questions)].text), "method": METHODS[n % 4],
         "documents": [questions[n % len(questions)].passage]}
        for n in range(requests)
    ]  # fmt: skip
    memory, answered = list[float](), 0
    for start in range(0, requests, requests // 5):
        with ThreadPoolExecutor(CLIENTS) as pool:
            answered += sum(pool.map(lambda body: is_answered(client, body), bodies[start : start + requests // 5]))
        memory.append(process.memory_info().rss / 2**20)
    fifths = ", ".join(f"{each:.0f}" for each in memory)
    return [
        figure("answers lost", requests - answered, "", None, 0),
        figure(f"memory at the end (after each fifth: {fifths})", memory[-1], "MiB", memory[0], 1.1),
    ]


def figure(name: str, value: float, unit: str, baseline: float | None, goal: float) -> dict[str, Any]:
    """Print and return a figure with its baseline and the goal of their ratio."""
    ratio = value / baseline if baseline else None
    comparison = f", {ratio:.2f} x {baseline:.2f}" if ratio and baseline else ""
    print(f"{name}: {value:.2f} {unit}{comparison} (goal {goal})", flush=True)
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "goal": goal}


def message(text: str) -> dict[str, Any]:
    """A request with one message, answered greedily."""
    return {"messages": [{"role": "user", "content": text}], "temperature": 0}


def chat(text: str) -> dict[str, Any]:
    """A plain chat request."""
    return {**message(text), "max_tokens": CHAT}


def tokens(answer: Any, body: dict[str, Any] | None = None) -> int:
    """The tokens of an answer; `answer` is a response, or a function that sends `body`."""
    response = answer("/v1/chat/completions", json=body) if body else answer
    if response.status_code != 200:
        raise RuntimeError(f"{response.status_code}: {response.text[:300]}")
    return int(response.json()["usage"]["completion_tokens"])


def is_answered(client: httpx.Client, body: dict[str, Any]) -> bool:
    """Send a request. Returns whether it was answered."""
    answer = client.post("/v1/chat/completions", json=body)
    return answer.status_code == 200 and bool(answer.json()["choices"])


def made(client: httpx.Client, document: str) -> tuple[str, int]:
    """Send a document to `dyprag serve`. Returns its adapter's name and rank."""
    answer = client.post("/v1/adapters", json={"documents": [document]})
    if answer.status_code not in (200, 201):
        raise RuntimeError(answer.text)
    return str(answer.json()["id"]), int(answer.json()["rank"])


@contextmanager
def served(command: list[str], environment: dict[str, str] | None = None) -> Iterator[tuple[str, psutil.Process]]:
    """Run a server. Yields its URL and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = Path("build/bench") / f"serving-{Path(command[0]).name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1500):
            time.sleep(0.2)
            if process.poll() is not None:
                raise RuntimeError(f"the server ended: {log}")
            try:
                if httpx.get(f"{url}/v1/models").status_code == 200:
                    break
            except httpx.TransportError:
                continue
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
