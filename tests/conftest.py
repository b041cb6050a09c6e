"""Shared fixtures: a tiny random model with a real architecture and tokenizer, a small corpus, a Prefect server."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

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
    import torch
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


def write_jsonl(path: Path, rows: list[dict]) -> str:
    """Write rows as JSONL; gives the path as text."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


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
        "evaluate": {"max_new_tokens": 4},
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


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One Prefect server with a database of its own for the whole session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
