"""Against a real vLLM (`make test-vllm`): it loads our adapters by name when they are asked, and answers as we do.

The environment variable VLLM names vLLM's program, in whose environment dyprag is installed too.
"""

import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from own_server import free_port
from real_vllm import VLLM, environment, needs_vllm, running

from dyprag.adapters.lora import save_peft
from dyprag.corpora.reader import load_corpus
from dyprag.model.base import load_model
from dyprag.model.files import model_folder
from dyprag.model.prompts import ANSWER_PREFIX, WITHOUT_PASSAGES
from dyprag.serving.assistant import load
from dyprag.storage.artifacts import Record, Store

pytestmark = needs_vllm
MODEL = "smollm2-135m"
DOCUMENTS = load_corpus("demo").documents[:24]
QUESTIONS = [q for q in load_corpus("demo").questions if set(q.documents) & {d.id for d in DOCUMENTS}][:100]
EQUAL = 0.95  # share of answers that are the same to the letter


@dataclass
class Servers:
    ours: str
    vllm: str
    log: Path


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("vllm")
    assistant = load(MODEL)
    store = Store(folder / "store")
    for document in DOCUMENTS[:4]:  # as if trained: what is tested is how they are found and loaded
        record = Record("adapter", document.key, [], {"model": assistant.base.fingerprint}, document.key, document.id)
        adapter = assistant.adapter([document])
        store.write(record, lambda target, adapter=adapter: save_peft(assistant.base, adapter, target, MODEL))
    port, other = free_port(), free_port()
    serve = [sys.executable, "-m", "dyprag.cli.main", "serve", "--port", str(port), "--adapters", str(folder / "made")]
    vllm = [
        VLLM, "serve", str(model_folder(MODEL)), "--host", "127.0.0.1", "--port", str(other), "--enforce-eager",
        "--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "8", "--enable-lora",
        "--max-lora-rank", "64", "--max-loras", "8",
    ]  # fmt: skip
    log = folder / "vllm.log"
    with (
        running([*serve, "--set", "model.dtype=float32"], port, folder / "ours.log") as ours,
        running(
            vllm, other, log, DYPRAG_ADAPTERS=f"{folder / 'store'},{ours.url}",
            DYPRAG_ADAPTERS_CACHE=str(folder / "cache"), VLLM_ALLOW_RUNTIME_LORA_UPDATING="1", **environment(),
        ) as theirs,
    ):  # fmt: skip
        yield Servers(ours.url, theirs.url, log)


def posted(servers: Servers, document: int) -> str:
    """Send a document to our server. Returns its adapter's name."""
    chosen = DOCUMENTS[document]
    body = {"documents": [{"id": chosen.id, "title": chosen.title, "text": chosen.text}], "name": chosen.id}
    answer = httpx.post(f"{servers.ours}/v1/adapters", json=body, timeout=120)
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


def ask_ours(servers: Servers, model: str, question: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 32}
    answer = httpx.post(f"{servers.ours}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def ask_vllm(servers: Servers, model: str, question: str) -> httpx.Response:
    messages = [
        {"role": "user", "content": WITHOUT_PASSAGES.format(question=question)},
        {"role": "assistant", "content": ANSWER_PREFIX},
    ]
    body = {
        "model": model, "messages": messages, "max_tokens": 32, "temperature": 0, "stop": ["\n"],
        "add_generation_prompt": False, "continue_final_message": True,
    }  # fmt: skip
    return httpx.post(f"{servers.vllm}/v1/chat/completions", json=body, timeout=300)


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"]).strip()


def test_a_document_is_asked_through_vllm_right_after_it_was_posted(servers: Servers):
    name = posted(servers, 20)
    began = time.monotonic()
    answer = said(ask_vllm(servers, name, "What is it about?"))
    seconds = time.monotonic() - began
    print(f"\nfirst answer after {seconds:.2f} s: {answer!r}")
    assert answer
    assert name in {model["id"] for model in httpx.get(f"{servers.vllm}/v1/models").json()["data"]}
    assert name in {model["id"] for model in httpx.get(f"{servers.ours}/v1/models").json()["data"]}


def test_the_adapters_of_a_store_appear_by_the_ids_of_their_documents(servers: Servers):
    question = next(q for q in QUESTIONS if DOCUMENTS[0].id in q.documents)
    through_vllm = said(ask_vllm(servers, DOCUMENTS[0].id, question.question))
    assert through_vllm == ask_ours(servers, posted(servers, 0), question.question)
    assert through_vllm != said(ask_vllm(servers, str(model_folder(MODEL)), question.question))


def test_answers_are_the_same_as_ours(servers: Servers):
    names = {document.id: posted(servers, number) for number, document in enumerate(DOCUMENTS)}
    different = []
    for question in QUESTIONS:
        name = names[next(iter(set(question.documents) & set(names)))]
        ours, theirs = ask_ours(servers, name, question.question), said(ask_vllm(servers, name, question.question))
        if ours != theirs:
            different.append((question.question, ours, theirs))
    print(f"\n{len(QUESTIONS) - len(different)} of {len(QUESTIONS)} answers equal")
    for question, ours, theirs in different:
        print(f"{question} | ours: {ours} | vLLM: {theirs}")
    assert len(different) <= (1 - EQUAL) * len(QUESTIONS)


@pytest.mark.parametrize(
    "name", ["nothing", "lamp-000000000000", "../store", "/etc", "..", f"{MODEL}/..", "a@00000000"]
)
def test_unknown_and_foreign_names_are_not_found(servers: Servers, name: str):
    assert ask_vllm(servers, name, "Who?").status_code == 404


def test_first_requests_at_the_same_time_load_an_adapter_once(servers: Servers):
    document = DOCUMENTS[1].id
    question = next(q for q in QUESTIONS if document in q.documents).question
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: said(ask_vllm(servers, document, question)), range(8)))
    assert len(set(answers)) == 1
    loaded = re.findall(rf"Resolved and loaded LoRA adapter '{re.escape(document)}'", servers.log.read_text())
    assert len(loaded) == 1


def test_an_exports_script_serves_its_adapters_without_a_list(tmp_path: Path):
    from dyprag.adapters.exchange.export import Index, name_base_model, place, write_adapter, write_index
    from dyprag.model.files import public_name

    assistant = load(MODEL)
    adapter = assistant.adapter([DOCUMENTS[2]])

    def fill(folder: Path) -> None:
        write_adapter(assistant.base, adapter, folder, MODEL)
        name_base_model(folder, public_name(MODEL))

    placed = place(tmp_path, "doc", fill)
    index = Index(MODEL, load_model(MODEL).fingerprint)
    index.documents[DOCUMENTS[2].id], index.adapters[placed.name] = placed.name, {"rank": placed.rank}
    write_index(tmp_path, index)
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", "512",
               "--max-num-seqs", "2"]  # fmt: skip
    with running(
        [str(tmp_path / "serve.sh"), *options], port, tmp_path / "vllm.log", HF_HUB_OFFLINE="1", **environment()
    ) as served:
        servers = Servers("", served.url, tmp_path / "vllm.log")
        by_folder, by_document = (
            said(ask_vllm(servers, name, "What is it?")) for name in (placed.name, DOCUMENTS[2].id)
        )
        assert by_folder == by_document
        assert "using FilesystemResolver" in servers.log.read_text(), "vLLM's own finds a folder's name without dyprag"
