"""Shared fixtures: a tiny random model with a real architecture and tokenizer, a small corpus, a Prefect server."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import hypothesis
import psutil
import pytest
import torch

from dyprag.flows.own_server import end_own_servers

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.model.base import BaseModel

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # of what tests start, too: this process has torch loaded by now
os.environ["DYPRAG_KEEP"] = "0"  # a question leaves no process behind
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what tests start; two processes test side by side
MARK = "DYPRAG_TESTS"  # in the environment of whatever these tests start, and of what that starts
os.environ[MARK] = str(os.getpid())
torch.set_num_threads(1)

hypothesis.settings.register_profile("dyprag", deadline=None)  # a busy machine is slow, not wrong
hypothesis.settings.load_profile("dyprag")

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text")
TEXTS = {
    "lamp": "The Ostrel lamp was built in 1911 by Greta Olmsted. It stands 24 metres above Brevik Harbour.",
    "bridge": "The Quarn bridge crosses the river Osk. Tomas Reil designed it in 1954 for 300 florins.",
    "book": "Tide Songs is a novel by Mara Vell. It was printed in 1987 by Copper Gull Press in Dunmere.",
}


def make_tiny_model(folder: Path, family: str = "llama", layers: int = 2, hidden: int = 32) -> Path:
    """Save a random model of a family, with a byte-level tokenizer and a chat template, as a Hugging Face folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS.values()] * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"], chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    settings = {
        "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": hidden // 4, "vocab_size": len(fast), "max_position_embeddings": 2048,
        "eos_token_id": fast.eos_token_id, "pad_token_id": fast.pad_token_id, "bos_token_id": None,
    }  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random LLaMA of two layers."""
    return str(make_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def base(tiny_model: str) -> "BaseModel":
    """The tiny model, loaded in float32."""
    from dyprag.model.base import load_model

    return load_model(tiny_model, "float32", "cpu")


@pytest.fixture(scope="module")
def lively(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> "BaseModel":
    """The tiny model with larger weights: fresh ones are so small that what stands before the last token is lost."""
    from dyprag.model.base import load_model

    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("lively") / "tiny")
    base = load_model(str(folder), "float32", "cpu")
    for name, parameter in base.model.model.layers.named_parameters():
        if name.endswith("proj.weight"):
            parameter.mul_(8)
    return base


@pytest.fixture(scope="module")
def folder(base: "BaseModel", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translator of the tiny model, in its folder, that changes what the model says."""
    from dyprag.config import LearnSettings
    from dyprag.translators.protocol import fresh_translator, save_translator

    settings = LearnSettings(rank=2, alpha=2.0, first_layer=0, sources=1, width=16, heads=2, blocks=1)
    prompts = [base.tokenizer(text)["input_ids"] for text in TEXTS.values()]
    translator = fresh_translator(base, settings, prompts)
    with torch.no_grad():
        translator.gains.fill_(50.0)
    folder = tmp_path_factory.mktemp("translator")
    save_translator(translator, folder)
    return folder


IDS = torch.tensor([[5, 9, 33, 70, 12, 8], [7, 7, 21, 90, 3, 40], [250, 14, 60, 61, 62, 100]])


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """The model's logits, [rows, tokens, vocabulary]."""
    return model(input_ids=ids).logits


def bare_model(layers: int, hidden: int, intermediate: int) -> "BaseModel":
    """A random LLaMA of any size in float32, never on disk; its activations are large enough to be seen."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from dyprag.model.base import BaseModel, find_ffn

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=1,
        num_key_value_heads=1, head_dim=8, vocab_size=128, max_position_embeddings=512, initializer_range=0.1,
    )).eval().requires_grad_(False)  # fmt: skip
    return BaseModel(model, SimpleNamespace(pad_token_id=0), "bare", 512, find_ffn(model, "bare"))


def random_adapters(base: "BaseModel", docs: int = 1, rank: int = 2, seed: int = 0) -> "Adapters":
    """Adapters with no zero in them, strong enough to be seen in the logits."""
    from dyprag.adapters.lora import Adapters, initial_adapters

    generator = torch.Generator().manual_seed(seed)
    shapes = initial_adapters(base, rank, 32, 0, docs)
    a, b = (
        {p: 0.1 * torch.randn(t.shape, generator=generator) for p, t in half.items()} for half in (shapes.a, shapes.b)
    )
    return Adapters(a, b, shapes.scale)


def dense_deltas(adapters: "Adapters", projection: str) -> torch.Tensor:
    """scale · B·A of each document and layer, dense, by plain loops; [docs, layers, out, in]."""
    a, b = adapters.a[projection], adapters.b[projection]
    return torch.stack([
        torch.stack([adapters.scale * (b[doc, layer] @ a[doc, layer]) for layer in range(a.shape[1])])
        for doc in range(a.shape[0])
    ])  # fmt: skip


def save_official_translator(path: Path, base: "BaseModel", rank: int) -> torch.nn.ModuleDict:
    """Write a random translator as the official code saves it; gives its networks, by projection and layer."""

    class OfficialNetwork(torch.nn.Module):
        """The parameters of one of the official code's networks, under its names, and its formula."""

        def __init__(self, hidden: int, fan_in: int, fan_out: int, rank: int, width: int) -> None:
            super().__init__()
            self.projector = torch.nn.Module()
            for side, features in (("A", fan_in), ("B", fan_out)):
                pre = torch.nn.Linear(hidden + 1, width, bias=False)
                post = torch.nn.Linear(width, features * rank, bias=False)
                setattr(self.projector, f"pre_{side}_linear", pre)
                setattr(self.projector, f"post_{side}_linear", post)
                hypernet = torch.nn.Module()  # the same layers a second time, as in the official state dict
                hypernet.linear1, hypernet.linear2 = pre, post
                setattr(self.projector, f"{side}_hypernet", hypernet)

        def forward(self, side: str, embedding: torch.Tensor, layer: int, shape: tuple[int, int]) -> torch.Tensor:
            pre, post = getattr(self.projector, f"pre_{side}_linear"), getattr(self.projector, f"post_{side}_linear")
            return post(torch.relu(pre(torch.cat([embedding, torch.tensor([float(layer)])])))).reshape(shape)

    torch.manual_seed(3)
    networks = torch.nn.ModuleDict({
        f"{projection}_{layer}": OfficialNetwork(base.hidden, *base.features(projection), rank, 4)
        for projection in ("down_proj", "up_proj", "gate_proj")
        for layer in range(base.layers)
    })  # fmt: skip
    whole = torch.nn.Module()
    whole.projector = networks
    torch.save({"model_state_dict": whole.state_dict()}, path)
    return networks


def wait_for(what: str, check: Callable[[], bool], seconds: float = 180) -> None:
    """Look again and again, and fail where it has not come true after so many seconds."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.25)


def outcome(state: Any) -> list[dict[str, Any]]:
    """How each stage of a flow ended, failed documents or not."""
    from dataclasses import asdict

    from dyprag.flows.summary import summaries_of

    return [asdict(summary) for summary in summaries_of(state)]


def write_jsonl(path: Path, rows: list[dict]) -> str:
    """Write rows as JSONL; gives the path as text."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def eight_lamps(folder: Path) -> dict[str, str]:
    """Write a corpus of eight documents and questions about four of them; gives the settings that name it."""
    rows = [{"id": f"doc-{n}", "text": f"Lamp {n} was built in {1900 + n} by Greta Olmsted."} for n in range(8)]
    asked = [{"question": f"Who built lamp {n}?", "answer": "Greta", "documents": f"doc-{n}"} for n in range(4)]
    return {
        "documents": write_jsonl(folder / "docs.jsonl", rows),
        "questions": write_jsonl(folder / "asked.jsonl", asked),
    }


@pytest.fixture
def corpus_files(tmp_path: Path) -> tuple[str, str]:
    """Paths of a corpus of three documents and of a question about each."""
    documents = write_jsonl(
        tmp_path / "docs.jsonl", [{"id": i, "title": i.title(), "text": text} for i, text in TEXTS.items()]
    )
    questions = write_jsonl(tmp_path / "questions.jsonl", [
        {"id": "q1", "question": "Who built the Ostrel lamp?", "answer": ["Greta Olmsted"], "documents": ["lamp"]},
        {"id": "q2", "question": "Which river does the Quarn bridge cross?", "answer": "Osk", "documents": ["bridge"]},
        {"id": "q3", "question": "Who wrote Tide Songs?", "answer": "Mara Vell", "documents": ["book"]},
    ])  # fmt: skip
    return documents, questions


@pytest.fixture
def settings(tmp_path: Path, tiny_model: str, corpus_files: tuple[str, str]) -> dict:
    """A configuration for the tiny model and corpus, quick and in float32, as plain values."""
    documents, questions = corpus_files
    return {
        "store": str(tmp_path / "store"),
        "model": {"name": tiny_model, "dtype": "float32", "device": "cpu"},
        "corpus": {"documents": documents, "questions": questions, "held_out": 0.3},
        "augment": {"qa_pairs": 2, "rewrites": 1, "max_new_tokens": 8},
        "parametrize": {"epochs": 1},
        "translator": {"width": 4},
        "evaluate": {"max_new_tokens": 4, "controls": []},
        "run": {"retries": 0},
    }


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """What the project logs; pytest's own caplog is thrown out when Prefect sets up logging."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("dyprag")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_tests() -> Iterator[None]:
    """In the end, no process is left that a test started or that one of those started; it would be killed, and fail the
    last test."""
    yield
    end_own_servers()  # of flows that ran in this process without the fixture below; Prefect ends them later
    _, alive = psutil.wait_procs(started_by_tests(), timeout=10)
    left = []
    for process in alive:
        with suppress(psutil.Error):
            left.append(" ".join(process.cmdline()))
            process.kill()
    assert left == [], "processes that tests have started outlive them"


def started_by_tests() -> list[psutil.Process]:
    """What runs in this environment and is not this process, or one that ends with it by itself."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            ours = process.pid != os.getpid() and process.environ().get(MARK) == os.environ[MARK]
            if ours and "multiprocessing" not in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Prefect server with a database of its own for the whole session; flows send it no heartbeats."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing import utilities
    from prefect_home import prepare

    home = prepare(tmp_path_factory.mktemp("prefect"), "prefect-test.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utilities, "mkdtemp", lambda: str(home))  # where the harness puts its database
        with (
            utilities.prefect_test_harness(server_startup_timeout=120),
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        ):
            yield
