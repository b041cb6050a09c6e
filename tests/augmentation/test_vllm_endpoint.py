"""Augmentation by a real vLLM (`make test-vllm`): structured output, a small context, and a restart in mid-run."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import wait_for
from own_server import free_port
from real_vllm import VLLM, ModelServer, environment, needs_vllm, running

from dyprag.corpora.documents import QAPair
from dyprag.corpora.products import PRODUCTS, Product
from dyprag.corpora.reader import load_corpus
from dyprag.corpora.text.answers import answer_presence
from dyprag.model.files import model_folder
from dyprag.storage.artifacts import Store
from dyprag.storage.journal import responses
from dyprag.storage.tables import read_product

pytestmark = needs_vllm
DOCUMENTS = 4
CONTEXT = 640  # tokens; a request for a document with its complaints about the last answer comes near it
KEY = "sk-of-this-test-alone"


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    port = free_port()
    command = [
        VLLM, "serve", str(model_folder("smollm2-135m")), "--served-model-name", "writer", "--host", "127.0.0.1",
        "--port", str(port), "--enforce-eager", "--max-model-len", str(CONTEXT), "--max-num-seqs", "8",
        "--api-key", KEY,
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with running(command, port, log, HF_HUB_OFFLINE="1", **environment()) as server:
        yield server


def configured(folder: Path, vllm: ModelServer, **api: Any) -> Path:
    """A configuration of the first documents of the demo corpus, augmented by vLLM."""
    path = folder / "config.yaml"
    api = {"model": "writer", "base_url": f"{vllm.url}/v1", "key_env": "WRITERS_KEY", "concurrency": 4} | api
    augment = {"backend": "api", "qa_pairs": 3, "rewrites": 1, "tries": 2, "max_new_tokens": 256, "api": api}
    corpus = {"documents": "demo", "max_documents": DOCUMENTS}
    path.write_text(yaml.safe_dump({"store": str(folder / "store"), "corpus": corpus, "augment": augment}))
    return path


def start(config: Path, command: str) -> subprocess.Popen[str]:
    home = {"PREFECT_HOME": str(config.parent / "prefect"), "WRITERS_KEY": KEY}
    return subprocess.Popen(
        [sys.executable, "-m", "dyprag.cli.main", command, "--config", str(config)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **home}, start_new_session=True,
    )  # fmt: skip


def run(config: Path, command: str) -> str:
    process = start(config, command)
    told, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, told
    return str(told)


def products(store: Path) -> dict[str, Product]:
    """The stored products of each kind and document."""
    return {
        f"{record.kind} of {record.document_id}": read_product(Store(store).folder(record.kind, record.key))
        for record in Store(store).records()
        if record.kind in PRODUCTS
    }


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the products in its store, and what it printed."""

    folder: Path
    products: dict[str, Product]
    printed: str


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, vllm: ModelServer) -> Run:
    """A run whose server is killed after the first products and is started again."""
    folder = tmp_path_factory.mktemp("interrupted")
    config, store = configured(folder, vllm), folder / "store"
    run(config, "ingest")
    process = start(config, "augment")
    wait_for("a product", lambda: len(list(store.glob("*/*/*/record.json"))) > 1, 900)
    vllm.end(signal.SIGKILL)
    time.sleep(5)
    vllm.start()
    vllm.wait()
    printed, _ = process.communicate(timeout=1800)
    assert process.returncode in (0, 2), printed  # 2: documents failed, see `run_on`
    return Run(folder, products(store), printed)


def run_on(printed: str) -> list[str]:
    """The documents whose every answer ran on to the limit, as a small model's may. Any other failure is a fault."""
    failed = re.findall(r"augment: (document .+)", printed)
    assert all("it breaks off" in line for line in failed), printed
    return failed


def test_a_restart_of_the_server_fails_no_document(interrupted: Run):
    print("\n" + interrupted.printed[-1500:])
    failed = run_on(interrupted.printed)
    assert len(failed) < DOCUMENTS
    assert 2 * (DOCUMENTS - len(failed)) <= len(interrupted.products) <= 2 * DOCUMENTS, sorted(interrupted.products)
    assert f"augment: {DOCUMENTS} in all: 0 cached" in interrupted.printed


def test_answers_have_the_requested_structure(interrupted: Run):
    finished = [response for response in responses(Store(interrupted.folder / "store")) if response.finish == "stop"]
    asked = [json.loads(response.text) for response in finished if response.label.startswith("ask")]
    assert asked
    assert all(set(answer) <= {"rewrites", "qa_pairs"} for answer in asked), asked


def test_pairs_are_checked(interrupted: Run):
    texts = {document.id: document.text for document in load_corpus("demo").documents}
    pairs = []
    for name, product in interrupted.products.items():  # those that the model does not write are made by rule
        for accepted in product.accepted:
            if isinstance(accepted.item, QAPair):
                pairs.append(accepted.item)
                assert accepted.item.question.strip(), name
                if accepted.marks.get("by") == "span":
                    assert answer_presence(texts[name.split(" of ")[1]], accepted.item.answer), name
    print(f"\n{len(pairs)} pairs of {3 * DOCUMENTS}")
    assert len(pairs) >= DOCUMENTS - len(run_on(interrupted.printed))


def test_the_key_is_in_no_file(interrupted: Run):
    files = [path for path in interrupted.folder.rglob("*") if path.is_file()]
    assert len(files) > DOCUMENTS
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
