"""Models of real sizes on this machine: memory and time of every part of the method, beside the memory's limit.

    python benchmarks/sizes.py                  all parts with both shapes, each in its own process
    python benchmarks/sizes.py SHAPE PART       one part; prints its figures as a line of JSON

The shapes are those of LLaMA-3.2-1B and Qwen2.5-1.5B. The weights are random, which changes neither memory nor time,
and the tokenizer is the embedded model's. Documents are the demo's, with questions about them. The parts are: training
documents with the paper's preset and with rank 16, embedding, a step of the paper's translator with all three losses,
a step of the one that reads tokens, and answers with three translated adapters. Prints a table and writes
build/bench/sizes.json. On a GPU its memory is measured, and the number format is bfloat16.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from method import GPU, peak

from dyprag.adapters.samples import Sample, document_samples
from dyprag.config import LearnSettings, LoraSettings, ParametrizeSettings, PipelineConfig
from dyprag.corpora.documents import Augmentation, Document, QAPair, Retrieved
from dyprag.corpora.reader import load_corpus
from dyprag.model.base import BaseModel, load_model
from dyprag.model.files import cache_folder, model_folder

LIMIT = 16.0  # GiB, of memory or of a GPU's
DOCUMENTS = 16 if GPU else 4
STEPS = 8 if GPU else 2
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.2-1b": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
    },
    "qwen2.5-1.5b": {
        "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936,
    },
}  # fmt: skip
Figures = dict[str, float]


def shaped(shape: str) -> str:
    """The folder of a model with random weights in bfloat16, made if it is missing."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = cache_folder() / "shapes" / shape
    if not (folder / "done").exists():
        settings = {**SHAPES[shape], "max_position_embeddings": 8192, "tie_word_embeddings": True}
        tokenizer = AutoTokenizer.from_pretrained(model_folder("smollm2-135m"))
        config = AutoConfig.for_model(**settings, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
                                      pad_token_id=tokenizer.pad_token_id, dtype="bfloat16")  # fmt: skip
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "done").touch()
    return str(folder)


def documents() -> list[tuple[Document, Augmentation]]:
    """Documents of the demo corpus, each with a rewrite and the questions about it."""
    corpus = load_corpus("demo", None, None, None)
    found = []
    for document in corpus.documents[:DOCUMENTS]:
        asked = [question for question in corpus.questions if question.documents == (document.id,)][:3]
        pairs = tuple(QAPair(q.question, q.answers[0], f"It is {q.answers[0]}.") for q in asked)
        found.append((document, Augmentation((document.text,), pairs)))
    return found


def samples(base: BaseModel) -> list[list[Sample]]:
    """The samples of every document in the official layout."""
    return [
        document_samples(base, document, augmentation, "short", "official") for document, augmentation in documents()
    ]


def trained(base: BaseModel, lora: LoraSettings, settings: ParametrizeSettings) -> Figures:
    """Train the documents; seconds of each."""
    from dyprag.adapters.parametrize import Parametrized, parametrize

    data = samples(base)
    start = perf_counter()
    results = [result for _, result in parametrize(base, data, lora, settings)]
    if not all(isinstance(result, Parametrized) for result in results):
        raise RuntimeError(f"not every document was trained: {results}")
    seconds = perf_counter() - start
    trainings = sum(result.trainings for result in results if isinstance(result, Parametrized))
    return {"documents": len(data), "trainings": trainings, "seconds": seconds / trainings}


def paper(base: BaseModel) -> Figures:
    """The paper's preset for this size: rank 2, one epoch, one sample a step."""
    settings = ParametrizeSettings(learning_rate=3e-4, epochs=1, batch_size=1, samples="official", shuffle=False)
    return trained(base, LoraSettings(rank=2, alpha=32), settings)


def rank16(base: BaseModel) -> Figures:
    """Rank 16, two samples a step."""
    settings = ParametrizeSettings(learning_rate=3e-4, epochs=1, batch_size=2, samples="official")
    return trained(base, LoraSettings(rank=16, alpha=16), settings)


def embedding(base: BaseModel) -> Figures:
    """Embed the documents."""
    from dyprag.adapters.embedding import embed

    texts = [document.passage for document, _ in documents()] * 4
    start = perf_counter()
    embed(base, texts)
    return {"documents": len(texts), "seconds": (perf_counter() - start) / len(texts)}


def aligning(base: BaseModel) -> Figures:
    """Steps of the paper's translator: p = 32, three losses, one sample."""
    from dyprag.adapters.lora import initial_adapters
    from dyprag.translators.align import Pair, alignment_steps, train_translator
    from dyprag.translators.hypernetwork import Translator

    lora = LoraSettings(rank=2, alpha=32)
    adapter = initial_adapters(base, lora.rank, lora.alpha, lora.seed).to("cpu")
    pairs = [Pair(torch.randn(base.hidden), adapter, document[:STEPS]) for document in samples(base)[:1]]
    settings = PipelineConfig().resolved().translator.model_copy(update={"batch_size": 1, "epochs": 1, "validation": 0})
    translator = Translator.for_model(base, settings, lora.rank, lora.alpha, lora.seed)
    start = perf_counter()
    train_translator(base, translator, pairs, settings)
    steps = len(alignment_steps(pairs, settings))
    parameters = sum(parameter.numel() for parameter in translator.parameters())
    return {"steps": steps, "seconds": (perf_counter() - start) / steps, "parameters": parameters}


def attentive(base: BaseModel, steps: int = STEPS) -> tuple[Any, Figures]:
    """A translator that reads tokens, after some steps of four documents."""
    from dyprag.translators.distil import calibration_prompts, learn
    from dyprag.translators.lessons.invented import invented_lessons
    from dyprag.translators.protocol import fresh_translator

    adapted = 4 * max(1, 3 * base.layers // 16)  # the upper three quarters, a multiple of the four sources
    settings = LearnSettings(
        rank=16, alpha=16, first_layer=base.layers - adapted, sources=4, steps=max(1, steps), documents=4, questions=4
    )
    lessons = invented_lessons("closed", 16, 0)
    translator = fresh_translator(base, settings, calibration_prompts(base, lessons))
    start = perf_counter()
    if steps:
        learn(base, translator, lessons, settings)
    parameters = sum(parameter.numel() for parameter in translator.parameters())
    return translator, {
        "steps": steps, "seconds": (perf_counter() - start) / max(1, steps), "parameters": parameters,
    }  # fmt: skip


def distilling(base: BaseModel) -> Figures:
    """Steps of a translator that reads tokens: rank 16, four documents with up to four questions each."""
    return attentive(base)[1]


def answering(base: BaseModel) -> Figures:
    """Answers of 16 tokens beside three passages, with their three adapters translated and merged."""
    from dyprag.adapters.generation import Sampling
    from dyprag.methods.dyprag import DyPRAG
    from dyprag.methods.protocol import Asked, answer_questions

    translator, _ = attentive(base, steps=0)
    found = [document for document, _ in documents()]
    made: list[float] = []

    def translate(chosen: Sequence[Document]) -> Any:
        start = perf_counter()
        adapters = translator.translate(translator.read(base, [document.passage for document in chosen]))
        made.append((perf_counter() - start) / len(chosen))
        return adapters

    method = DyPRAG(translate, "weighted")
    asked = [
        Asked(f"Who was the first to write about {found[n].title}?",
              tuple(Retrieved(found[(n + i) % len(found)], 3.0 - i) for i in range(3)))
        for n in range(len(found))
    ]  # fmt: skip
    with torch.inference_mode():
        answers = [answer for item in asked for answer in answer_questions(base, method, [item], Sampling(16), 1)]
    return {
        "documents": len(asked), "seconds": median(answer.seconds for answer in answers), "adapter": median(made),
        "tokens": median(answer.tokens for answer in answers),
    }  # fmt: skip


PARTS = {part.__name__: part for part in (paper, rank16, embedding, aligning, distilling, answering)}


def measure(shape: str, part: str) -> Figures:
    """Run a part in its own process, so that its peak memory is its own."""
    command = [sys.executable, __file__, shape, part]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    if done.returncode:
        raise RuntimeError(f"{shape}, {part} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure every part; print and write the figures."""
    device = torch.cuda.get_device_name() if GPU else f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"{device}, torch {torch.__version__}; limit {LIMIT:g} GiB\n")
    print("| shape | part | s a document or step | peak memory, GiB | within the limit |\n|---|---|---|---|---|")
    rows = []
    for shape in SHAPES:
        shaped(shape)
        for part in PARTS:
            try:
                figures = measure(shape, part)
            except RuntimeError as error:  # also what the system killed for its memory; the other parts go on
                print(f"| {shape} | {part} | – | – | **failed** |\n{error}", flush=True)
                continue
            rows.append({"shape": shape, "part": part, **figures})
            fits = "yes" if figures["peak"] <= LIMIT else "**no**"
            print(f"| {shape} | {part} | {figures['seconds']:.2f} | {figures['peak']:.1f} | {fits} |", flush=True)
    target = Path("build/bench")
    target.mkdir(parents=True, exist_ok=True)
    (target / "sizes.json").write_text(json.dumps({"machine": device, "limit": LIMIT, "figures": rows}, indent=1))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        base = load_model(shaped(sys.argv[1]), "bfloat16" if GPU else "auto")
        loaded = peak()
        print(json.dumps({**PARTS[sys.argv[2]](base), "loaded": loaded, "dtype": str(base.dtype), "peak": peak()}))
    else:
        main()
