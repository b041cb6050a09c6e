"""Compare the method with its alternatives: a PEFT loop, a prompt with passages, one document per step.

    python benchmarks/method.py             all sides in turn, each in its own process; medians over the rounds
    python benchmarks/method.py SIDE        one side; prints its figures as a line of JSON

Prints a table and writes build/bench/method.json and build/bench/method.png. Uses more documents on an accelerator.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from method_figures import figures, picture, table

from dyprag.adapters.samples import Sample, document_samples
from dyprag.config import LoraSettings, ParametrizeSettings, PipelineConfig, TranslatorSettings
from dyprag.corpora.documents import Augmentation, Document, QAPair, Retrieved
from dyprag.corpora.reader import load_corpus
from dyprag.model.base import BaseModel, load_model

if TYPE_CHECKING:
    from dyprag.methods.dyprag import DyPRAG
    from dyprag.methods.protocol import Asked, Method

MODEL = os.environ.get("DYPRAG_BENCH_MODEL", "smollm2-135m")
GPU = torch.cuda.is_available()
DOCUMENTS = 64 if GPU else 8
ROUNDS = 3
LORA = LoraSettings(rank=2)  # the paper's
TRAINING = ParametrizeSettings(learning_rate=3e-3, epochs=1, batch_size=1, samples="official", shuffle=False)
Figures = dict[str, float]


def documents() -> list[tuple[Document, Augmentation]]:
    """Documents of the demo corpus with questions about them; the rewrite has the sentences in reverse order."""
    corpus = load_corpus("demo", None, None, None)
    examples = []
    for document in corpus.documents:
        pairs = tuple(
            QAPair(q.question, q.answers[0], f"It is {q.answers[0]}.")
            for q in corpus.questions
            if q.documents == (document.id,)
        )
        rewrite = ". ".join(document.text.rstrip(".").split(". ")[::-1]) + "."
        examples.append((document, Augmentation((rewrite,), pairs)))
    return (examples * 2)[:DOCUMENTS]


def samples(base: BaseModel) -> list[list[Sample]]:
    """The samples of every document in the official layout: six of 60 to 250 tokens."""
    return [document_samples(base, d, a, "short", "official") for d, a in documents()]


def synchronize() -> None:
    """Wait for the accelerator, if there is one."""
    if GPU:
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], times: int = 1) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(times):
        synchronize()
        start = perf_counter()
        work()
        synchronize()
        seconds.append(perf_counter() - start)
    return median(seconds)


def peft_loop() -> Figures:
    """The baseline: PEFT with one unpadded sample per step and one document at a time.

    The base model is in float32 on a CPU and in bfloat16 on an accelerator, as ours is there.
    """
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    from dyprag.adapters.lora import initial_adapters, save_peft

    base = load_model(MODEL, "bfloat16" if GPU else "float32")
    data = samples(base)
    with tempfile.TemporaryDirectory() as folder:  # both sides start from the same adapter
        save_peft(base, initial_adapters(base, LORA.rank, LORA.alpha, LORA.seed), Path(folder), MODEL)
        model: Any = PeftModel.from_pretrained(base.model, folder, is_trainable=True)
    model.train()
    start = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def train(document: list[Sample]) -> list[float]:
        set_peft_model_state_dict(model, start)
        optimizer = torch.optim.AdamW(trainable, lr=TRAINING.learning_rate)
        losses = []
        for sample in document:
            ids = torch.tensor([sample.ids], device=base.device)
            loss = model(input_ids=ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    train(data[0])
    losses: list[list[float]] = []
    seconds = timed(lambda: losses.extend(train(document) for document in data))
    return {"documents_per_second": len(data) / seconds, "final_loss": mean(x[-1] for x in losses), "peak": peak()}


def parametrization() -> Figures:
    """Our training: several documents together, the frozen base in bfloat16, adapters in float32."""
    from dyprag.adapters.parametrize import Parametrized, parametrize

    base = load_model(MODEL)
    data = samples(base)
    list(parametrize(base, data[:2], LORA, TRAINING))
    results: list[Any] = []
    seconds = timed(lambda: results.extend(result for _, result in parametrize(base, data, LORA, TRAINING)))
    tokens = sum(len(s.ids) for document in data for s in document)
    if not all(isinstance(result, Parametrized) for result in results):
        raise RuntimeError("not every document was trained")
    return {
        "documents_per_second": len(data) / seconds, "final_loss": mean(result.losses[-1] for result in results),
        "peak": peak(), "flops": 4 * weights(base) * tokens / seconds,
    }  # fmt: skip


def translator() -> Figures:
    """Translator training with p = 32 and all three losses: steps of the preset's size, and of one sample."""
    from dyprag.adapters.lora import initial_adapters
    from dyprag.translators.align import Pair, alignment_steps, train_translator
    from dyprag.translators.hypernetwork import Translator

    base = load_model(MODEL)
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for document in samples(base)[: None if GPU else 4]:
        adapter = initial_adapters(base, LORA.rank, LORA.alpha, LORA.seed).to("cpu")
        for tensor in adapter.b.values():
            tensor.normal_(0, 1e-2, generator=generator)
        pairs.append(Pair(torch.randn(base.hidden, generator=generator), adapter, document))
    preset = PipelineConfig().resolved().translator

    def run(settings: TranslatorSettings) -> float:
        model = Translator.for_model(base, settings, LORA.rank, LORA.alpha, LORA.seed)
        train_translator(base, model, pairs[:1], settings)
        count = sum(map(len, alignment_steps(pairs, settings)))
        return timed(lambda: train_translator(base, model, pairs, settings)) / count

    single = run(preset.model_copy(update={"batch_size": 1}))
    batched = run(preset.model_copy(update={"batch_size": 32 if GPU else preset.batch_size}))
    tokens = mean(len(s.ids) for pair in pairs for s in pair.samples)
    return {
        "seconds": batched, "single": single, "peak": peak(), "flops": 6 * weights(base) * tokens / batched,
    }  # fmt: skip


def answering() -> Figures:
    """DyPRAG and RAG: time to the first token, answers in batches, and time from embeddings to an injected adapter."""
    from dyprag.adapters.lora import initial_adapters, save_peft
    from dyprag.methods.rag import RAG
    from dyprag.model.prompts import question_prompt

    base = load_model(MODEL)
    dyprag, asked = _translated_and_asked(base)
    first = _first_tokens(base, (RAG(), dyprag), asked)
    ready = _until_injected(base, dyprag, asked[0])
    rates = _rates(base, (RAG(), dyprag), asked)
    with tempfile.TemporaryDirectory() as folder:
        stored_adapter = initial_adapters(base, LORA.rank, LORA.alpha, LORA.seed).to("cpu", getattr(torch, LORA.dtype))
        save_peft(base, stored_adapter, Path(folder), MODEL)
        size = (Path(folder) / "adapter_model.safetensors").stat().st_size
    head = base.model.get_output_embeddings().weight.numel()
    prompt = mean(len(question_prompt(base.tokenizer, item.question)) for item in asked)
    one, many = median(first["dyprag"][1:]), median(rates["dyprag"])
    return {
        "rag_first": median(first["rag"][1:]), "dyprag_first": one, "rag_rate": median(rates["rag"]),
        "dyprag_rate": many, "ready": median(ready[1:]), "bytes": size,
        "first_flops": 2 * ((weights(base) - head) * prompt + head) / one,
        "rate_flops": 2 * ((weights(base) - head) * (prompt + 32) + head * 32) * many,
    }  # fmt: skip


def _translated_and_asked(base: BaseModel) -> "tuple[DyPRAG, list[Asked]]":
    """DyPRAG with a fresh translator over stored embeddings, and sixteen questions with three passages each."""
    from dyprag.adapters.embedding import embed
    from dyprag.methods.dyprag import DyPRAG
    from dyprag.methods.protocol import Asked
    from dyprag.translators.hypernetwork import Translator

    texts = [
        Document(d.id, " ".join((d.text + " " + e.text).split()[:100]), d.title)
        for (d, _), (e, _) in zip(documents(), documents()[1:] + documents()[:1], strict=True)
    ]
    stored = dict(zip((d.key for d in texts), embed(base, [d.passage for d in texts]), strict=True))
    settings = PipelineConfig().resolved()
    translator = Translator.for_model(base, settings.translator, LORA.rank, LORA.alpha, LORA.seed)
    merging = settings.evaluate.dyprag_merge
    asked = [
        Asked(f"Who was the first to write about {texts[n % len(texts)].title}?",
              tuple(Retrieved(texts[(n + i) % len(texts)], 3.0 - i) for i in range(3)))
        for n in range(16)
    ]  # fmt: skip
    return DyPRAG(lambda documents: translator.translate([stored[d.key] for d in documents]), merging), asked


def _first_tokens(base: BaseModel, methods: "Sequence[Method]", asked: "list[Asked]") -> dict[str, list[float]]:
    """Seconds to the first token of one answer, by method; the methods alternate."""
    from dyprag.adapters.generation import Sampling
    from dyprag.methods.protocol import answer_questions

    first: dict[str, list[float]] = {method.name: [] for method in methods}
    for method in [*methods] * 8:
        seconds = timed(lambda m=method: answer_questions(base, m, asked[:1], Sampling(1), 1))  # type: ignore[misc]
        first[method.name].append(seconds)
    return first


@torch.inference_mode()
def _until_injected(base: BaseModel, dyprag: "DyPRAG", item: "Asked") -> list[float]:
    """Seconds from a question's stored embeddings to the injected adapter."""
    from dyprag.adapters.injection import inject

    ready: list[float] = []
    for _ in range(10):
        start = perf_counter()
        with inject(base, dyprag.adapter(item.retrieved)):
            synchronize()
            ready.append(perf_counter() - start)
    return ready


def _rates(base: BaseModel, methods: "Sequence[Method]", asked: "list[Asked]") -> dict[str, list[float]]:
    """Answers of 32 tokens per second in batches, by method; the methods alternate."""
    from dyprag.adapters.generation import Sampling
    from dyprag.methods.protocol import answer_questions

    # every answer must have 32 tokens: disable end tokens, line breaks and the check for repetition
    base.__dict__.update(end_ids=frozenset(), newline_ids=frozenset())
    rates: dict[str, list[float]] = {method.name: [] for method in methods}
    for method in [*methods] * 3:
        answers: list[Any] = []
        with patch("dyprag.methods.protocol.repeats", lambda ids: False):
            seconds = timed(lambda m=method, a=answers: a.extend(answer_questions(base, m, asked, Sampling(32), 16)))  # type: ignore[misc]
        if sum(answer.tokens for answer in answers) < 16 * 30:
            raise RuntimeError("answers ended early")
        rates[method.name].append(len(asked) / seconds)
    return rates


def limits() -> Figures:
    """Floating-point operations per second of a plain matrix product, in bfloat16 and in float32."""
    device, size = ("cuda", 8192) if GPU else ("cpu", 2048)
    speeds = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        x = torch.randn(size, size, device=device, dtype=dtype)
        y = torch.randn(size, size, device=device, dtype=dtype)
        torch.mm(x, y)
        speeds[name] = 2 * size**3 / timed(lambda x=x, y=y: torch.mm(x, y), 5)  # type: ignore[misc]
    return speeds


def weights(base: BaseModel) -> int:
    """The number of weights that each token is multiplied with: all layers and the vocabulary projection."""
    head = base.model.get_output_embeddings().weight.numel()
    return head + sum(p.numel() for p in base.model.get_decoder().layers.parameters())


def peak() -> float:
    """The peak memory of this process in GiB; the accelerator's if there is one."""
    if GPU:
        return torch.cuda.max_memory_reserved() / 2**30
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


SIDES = {side.__name__: side for side in (limits, peft_loop, parametrization, translator, answering)}


def measure(side: str) -> Figures:
    """Run a side in its own process, so that its peak memory is its own."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, __file__, side], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Run every side in turn, `ROUNDS` times; print and write the figures."""
    measured: dict[str, list[Figures]] = {side: [] for side in SIDES}
    for number in range(ROUNDS):
        for side in SIDES:
            print(f"round {number + 1} of {ROUNDS}: {side}", file=sys.stderr)
            measured[side].append(measure(side))
    rows = figures(measured)
    limit = {name: median(round_[name] for round_ in measured["limits"]) / 1e9 for name in ("bfloat16", "float32")}
    device = torch.cuda.get_device_name() if GPU else f"{platform.machine()}, {os.cpu_count()} cores"
    speed = ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in limit.items())
    machine = f"{device}, Python {platform.python_version()}, {MODEL}; plain matrix product: {speed}"
    print(f"{machine}\n\n{table(rows)}")
    target = Path("build/bench")
    target.mkdir(parents=True, exist_ok=True)
    picture(rows, target / "method.png")
    result = {"machine": machine, "figures": rows, "rounds": measured}
    (target / "method.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(SIDES[sys.argv[1]]()))
    else:
        main()
