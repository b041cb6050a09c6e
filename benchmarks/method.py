"""The method beside what one would use instead: a PEFT loop, a prompt with passages, one document a step.

    python benchmarks/method.py             all sides in turn, each in a process of its own; medians over the rounds
    python benchmarks/method.py SIDE        one side, its figures as a line of JSON

Prints a table; writes build/bench/method.json and build/bench/method.png. On an accelerator it takes more documents.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch

from dyprag.adapters.samples import Sample, document_samples
from dyprag.config import LoraSettings, ParametrizeSettings, PipelineConfig, TranslatorSettings
from dyprag.corpora.documents import Augmentation, Document, QAPair, Retrieved
from dyprag.corpora.reader import load_corpus
from dyprag.model.base import BaseModel, load_model

MODEL = os.environ.get("DYPRAG_BENCH_MODEL", "smollm2-135m")
GPU = torch.cuda.is_available()
DOCUMENTS = 64 if GPU else 8
ROUNDS = 3
LORA = LoraSettings()
TRAINING = ParametrizeSettings(learning_rate=3e-3, epochs=1, batch_size=1, samples="official", shuffle=False)
OFFICIAL_STEP = 66.0  # seconds of one translator step of the official code, measured once on another two CPU cores
Figures = dict[str, float]


def documents() -> list[tuple[Document, Augmentation]]:
    """Documents of the demo corpus with the questions about them; the rewrite is the text in another order."""
    corpus = load_corpus("demo", None, None, None)
    made = []
    for document in corpus.documents:
        pairs = tuple(
            QAPair(q.question, q.answers[0], f"It is {q.answers[0]}.")
            for q in corpus.questions
            if q.documents == (document.id,)
        )
        rewrite = ". ".join(document.text.rstrip(".").split(". ")[::-1]) + "."
        made.append((document, Augmentation((rewrite,), pairs)))
    return (made * 2)[:DOCUMENTS]


def samples(base: BaseModel) -> list[list[Sample]]:
    """Every document's samples in the official layout: six of 60 to 250 tokens."""
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
        began = perf_counter()
        work()
        synchronize()
        seconds.append(perf_counter() - began)
    return median(seconds)


def peft_loop() -> Figures:
    """What one would write in an afternoon: PEFT, one unpadded sample a step, one document at a time. The base model
    is in float32 on a CPU and in bfloat16 on an accelerator, as ours is there."""
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
    """Ours: documents trained together, frozen base in bfloat16, adapters in float32."""
    from dyprag.adapters.parametrize import Parametrized, parametrize

    base = load_model(MODEL)
    data = samples(base)
    list(parametrize(base, data[:2], LORA, TRAINING))
    made: list[Any] = []
    seconds = timed(lambda: made.extend(result for _, result in parametrize(base, data, LORA, TRAINING)))
    tokens = sum(len(s.ids) for document in data for s in document)
    if not all(isinstance(result, Parametrized) for result in made):
        raise RuntimeError("not every document was trained")
    return {
        "documents_per_second": len(data) / seconds, "final_loss": mean(result.losses[-1] for result in made),
        "peak": peak(), "flops": 4 * weights(base) * tokens / seconds,
    }  # fmt: skip


def translator() -> Figures:
    """Translator training, p = 32, all three losses: the preset's steps, and steps of one sample."""
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
        made = Translator.for_model(base, settings, LORA.rank, LORA.alpha, LORA.seed)
        train_translator(base, made, pairs[:1], settings)
        count = sum(map(len, alignment_steps(pairs, settings)))
        return timed(lambda: train_translator(base, made, pairs, settings)) / count

    single = run(preset.model_copy(update={"batch_size": 1}))
    batched = run(preset.model_copy(update={"batch_size": 32 if GPU else preset.batch_size}))
    tokens = mean(len(s.ids) for pair in pairs for s in pair.samples)
    return {
        "seconds": batched, "single": single, "peak": peak(), "flops": 6 * weights(base) * tokens / batched,
    }  # fmt: skip


def answering() -> Figures:
    """DyPRAG beside RAG: the first token, answers in batches, and the way from embeddings to an injected adapter."""
    from dyprag.adapters.embedding import embed
    from dyprag.adapters.generation import Sampling
    from dyprag.adapters.injection import inject
    from dyprag.adapters.lora import initial_adapters, save_peft
    from dyprag.methods.dyprag import DyPRAG
    from dyprag.methods.protocol import Asked, answer_questions
    from dyprag.methods.rag import RAG
    from dyprag.model.prompts import question_prompt
    from dyprag.translators.hypernetwork import Translator

    base = load_model(MODEL)
    texts = [
        Document(d.id, " ".join((d.text + " " + e.text).split()[:100]), d.title)
        for (d, _), (e, _) in zip(documents(), documents()[1:] + documents()[:1], strict=True)
    ]
    stored = dict(zip((d.key for d in texts), embed(base, [d.passage for d in texts]), strict=True))
    settings = PipelineConfig().resolved()
    made = Translator.for_model(base, settings.translator, LORA.rank, LORA.alpha, LORA.seed)
    merging = settings.evaluate.dyprag_merge
    dyprag = DyPRAG(lambda documents: made.translate([stored[d.key] for d in documents]), merging)
    asked = [
        Asked(f"Who was the first to write about {texts[n % len(texts)].title}?",
              tuple(Retrieved(texts[(n + i) % len(texts)], 3.0 - i) for i in range(3)))
        for n in range(16)
    ]  # fmt: skip
    first: dict[str, list[float]] = {"rag": [], "dyprag": []}
    for method in (RAG(), dyprag) * 8:
        seconds = timed(lambda m=method: answer_questions(base, m, asked[:1], Sampling(1), 1))  # type: ignore[misc]
        first[method.name].append(seconds)
    ready: list[float] = []
    with torch.inference_mode():
        for _ in range(10):
            began = perf_counter()
            with inject(base, dyprag.adapter(asked[0].retrieved)):
                synchronize()
                ready.append(perf_counter() - began)
    # every answer is to have all its tokens: nothing ends one but the vocabulary's last token, which never comes
    base.tokenizer.eos_token = base.tokenizer.convert_ids_to_tokens(len(base.tokenizer) - 1)
    base.__dict__["newline_ids"] = ()
    rates: dict[str, list[float]] = {"rag": [], "dyprag": []}
    for method in (RAG(), dyprag) * 3:
        answers: list[Any] = []
        seconds = timed(lambda m=method, a=answers: a.extend(answer_questions(base, m, asked, Sampling(32), 16)))  # type: ignore[misc]
        if sum(answer.tokens for answer in answers) < 16 * 30:
            raise RuntimeError("answers ended early")
        rates[method.name].append(len(asked) / seconds)
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


def limits() -> Figures:
    """Floating-point operations a second of a plain matrix product, in bfloat16 and in float32."""
    device, size = ("cuda", 8192) if GPU else ("cpu", 2048)
    found = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        x = torch.randn(size, size, device=device, dtype=dtype)
        y = torch.randn(size, size, device=device, dtype=dtype)
        torch.mm(x, y)
        found[name] = 2 * size**3 / timed(lambda x=x, y=y: torch.mm(x, y), 5)  # type: ignore[misc]
    return found


def weights(base: BaseModel) -> int:
    """Weights that a token is multiplied with: all but the embedding, which is counted as the vocabulary projection."""
    head = base.model.get_output_embeddings().weight.numel()
    return head + sum(p.numel() for p in base.model.get_decoder().layers.parameters())


def peak() -> float:
    """Largest memory of this process so far, in GiB: the accelerator's where there is one."""
    if GPU:
        return torch.cuda.max_memory_reserved() / 2**30
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


SIDES = {side.__name__: side for side in (limits, peft_loop, parametrization, translator, answering)}


def measure(side: str) -> Figures:
    """Run a side in a process of its own, so that its memory is its own."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, __file__, side], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def figures(found: dict[str, list[Figures]]) -> list[dict[str, Any]]:
    """The table's rows, from every round's figures. `of_limit`: floating-point operations a second that the work needs,
    as a share of what a plain matrix product reaches in the better number format."""

    def middle(side: str, name: str) -> float:
        return median(one[name] for one in found[side])

    limit = max(middle("limits", "bfloat16"), middle("limits", "float32"))

    def row(name: str, value: float, unit: str, baseline: float | None, goal: str, holds: bool,
            flops: float | None = None, ratio: float | None = None) -> dict[str, Any]:  # fmt: skip
        if baseline and ratio is None:
            ratio = value / baseline
        return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "goal": goal,
                "holds": holds, "of_limit": flops and flops / limit}  # fmt: skip

    ours, loop = "parametrization", "peft_loop"
    rate, loop_rate = middle(ours, "documents_per_second"), middle(loop, "documents_per_second")
    loss, loop_loss = middle(ours, "final_loss"), middle(loop, "final_loss")
    trained, loop_peak = middle(ours, "peak"), middle(loop, "peak")
    times = 20 if GPU else 2.5
    step, step_flops = middle("translator", "seconds"), middle("translator", "flops")
    before, faster = (middle("translator", "single"), 8) if GPU else (OFFICIAL_STEP, 60)
    aligned, ready, size = middle("translator", "peak"), middle("answering", "ready"), middle("answering", "bytes")
    first, rag_first = middle("answering", "dyprag_first"), middle("answering", "rag_first")
    answers, rag_answers = middle("answering", "dyprag_rate"), middle("answering", "rag_rate")
    return [
        row("documents parametrized per second", rate, "/s", loop_rate, f"{times} x a PEFT loop",
            rate >= times * loop_rate, middle(ours, "flops")),
        row("final loss", loss, "", loop_loss, "within 2 % of the loop's", abs(loss / loop_loss - 1) <= 0.02),
        row("peak memory of parametrization", trained, "GiB", loop_peak, "2 GiB", trained <= 2),
        row("translator step, three losses, per sample", step, "s", before,
            f"{faster} x {'steps of one sample' if GPU else 'the official code'}", before >= faster * step, step_flops,
            before / step),
        row("peak memory of translator training, p = 32", aligned, "GiB", None, "3 GiB", aligned <= 3),
        row("DyPRAG's first token", first, "s", rag_first, "0.25 x RAG's time", first <= 0.25 * rag_first,
            middle("answering", "first_flops")),
        row("DyPRAG's answers per second", answers, "/s", rag_answers, "2 x RAG's", answers >= 2 * rag_answers,
            middle("answering", "rate_flops")),
        row("embeddings to injected adapter", ready, "s", None, "0.03 s", ready <= 0.03),
        row("stored adapter", size, "bytes", None, "800,000 bytes", size <= 800_000),
    ]  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

    lines = [
        "| what | ours | instead | ratio | goal | holds | of the machine's limit |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {number(r['value'])} {r['unit']} | {number(r['baseline'])} | {number(r['ratio'])} | "
        f"{r['goal']} | {'yes' if r['holds'] else 'no'} | "
        f"{'' if r['of_limit'] is None else format(r['of_limit'], '.0%')} |"
        for r in rows
    ]
    return "\n".join(lines)


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """How many times better than what one would use instead, as bars."""
    from matplotlib.figure import Figure

    lower_is_better = {"DyPRAG's first token"}
    chosen = [r for r in rows if r["ratio"] and r["name"] != "final loss" and r["unit"] != "GiB"]
    times = [1 / r["ratio"] if r["name"] in lower_is_better else r["ratio"] for r in chosen]
    chart = Figure(figsize=(8, 0.6 * len(chosen) + 1), dpi=150, layout="constrained")
    axes = chart.add_subplot()
    bars = axes.barh([r["name"] for r in chosen], times, color="#0072b2")
    labels = [f"{value:.3g} x  (goal: {r['goal']})" for value, r in zip(times, chosen, strict=True)]
    axes.bar_label(bars, labels, padding=4, fontsize=8)
    axes.set(xscale="log", xlim=(0.5, max(times) * 30), xlabel="times as fast as what one would use instead")
    axes.axvline(1, color="#666666", linewidth=0.8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    chart.savefig(path)


def main() -> None:
    """Run every side in turn, `ROUNDS` times; print and write."""
    found: dict[str, list[Figures]] = {side: [] for side in SIDES}
    for number in range(ROUNDS):
        for side in SIDES:
            print(f"round {number + 1} of {ROUNDS}: {side}", file=sys.stderr)
            found[side].append(measure(side))
    rows = figures(found)
    limit = {name: median(one[name] for one in found["limits"]) / 1e9 for name in ("bfloat16", "float32")}
    device = torch.cuda.get_device_name() if GPU else f"{platform.machine()}, {os.cpu_count()} cores"
    speed = ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in limit.items())
    machine = f"{device}, Python {platform.python_version()}, {MODEL}; plain matrix product: {speed}"
    print(f"{machine}\n\n{table(rows)}")
    target = Path("build/bench")
    target.mkdir(parents=True, exist_ok=True)
    picture(rows, target / "method.png")
    result = {"machine": machine, "figures": rows, "rounds": found}
    (target / "method.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(SIDES[sys.argv[1]]()))
    else:
        main()
