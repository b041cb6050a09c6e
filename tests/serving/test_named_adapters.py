"""Adapters with names over real HTTP: made once, asked as models, kept within bounds, loaded by PEFT."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from chat_server import ASKED, DOCUMENTS, QUESTION, post, serving, tiny_assistant
from conftest import random_adapters

from dyprag.adapters.injection import inject
from dyprag.serving.assistant import Assistant
from dyprag.serving.library import NOTE, AdapterLibrary, UnknownAdapterError


@pytest.fixture(scope="module")
def assistant(tiny_model: str, folder: Path) -> Assistant:
    return tiny_assistant(tiny_model, folder)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def url(assistant: Assistant, adapters: Path) -> Iterator[str]:
    with serving(assistant, library=AdapterLibrary(assistant.base, assistant.name, adapters)) as url:
        yield url


def make(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/adapters", json={"documents": DOCUMENTS[:1], **body}, timeout=60)


def answer(url: str, model: str, **more: Any) -> dict[str, Any]:
    response = post(url, {"messages": ASKED, "model": model, **more})
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    return result


def error(response: httpx.Response, status: int, param: str | None = None) -> str:
    assert response.status_code == status, response.text
    fault = response.json()["error"]
    assert fault["param"] == param
    return str(fault["message"])


def test_a_document_is_asked_as_a_model_without_sending_it_again(url: str, assistant: Assistant):
    made = make(url, name="The Lamp")
    assert made.status_code == 201
    named = made.json()
    assert named["id"].startswith("the-lamp-")
    assert make(url, documents=["A mill stands in Vade."]).json()["id"].startswith("a-mill-stands-in-vade-")
    titled = {"text": "A mill stands in Vade.", "title": "Mills of Vade"}
    assert make(url, documents=[titled]).json()["id"].startswith("mills-of-vade-")
    assert (named["parent"], named["passages"]) == (assistant.name, [{"id": "document 1", "score": 0.0}])
    asked = answer(url, named["id"])
    assert asked["model"] == named["id"]
    whole = answer(url, "any", documents=DOCUMENTS[:1], method="dyprag")
    assert asked["choices"] == whole["choices"], "one document, closed book: the same adapter, asked alike"
    assert asked["choices"] != answer(url, "any", method="vanilla")["choices"]
    again = make(url, name="The Lamp")
    assert (again.status_code, again.json()) == (200, named)


def test_a_question_chooses_and_weighs_the_passages(url: str, assistant: Assistant):
    named = make(url, documents=DOCUMENTS, question=QUESTION).json()
    assert named["question"] == QUESTION
    assert 1 <= len(named["passages"]) <= 2
    expected = answer(url, "any", documents=DOCUMENTS, method="dyprag")
    assert [p["id"] for p in named["passages"]] == [p["id"] for p in expected["dyprag"]["passages"]]
    assert answer(url, named["id"])["choices"] == expected["choices"]


def test_a_streamed_answer_is_the_same(url: str):
    named = make(url).json()
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    chunks = client.chat.completions.create(model=named["id"], messages=ASKED, stream=True)  # type: ignore[call-overload]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == answer(url, named["id"])["choices"][0]["message"]["content"]


def test_its_folder_loads_in_peft_with_the_same_logits(url: str, assistant: Assistant):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    named = make(url).json()
    config = json.loads((Path(named["path"]) / "adapter_config.json").read_text())
    plain = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"], dtype=torch.float32)
    peft = PeftModel.from_pretrained(plain, named["path"])
    ids = torch.tensor([[5, 9, 33, 70]])
    library = AdapterLibrary(assistant.base, assistant.name, Path(named["path"]).parent)
    with torch.no_grad(), inject(assistant.base, library.adapter(named["id"])):
        ours = assistant.base.model(input_ids=ids).logits
    torch.testing.assert_close(peft(input_ids=ids).logits, ours, atol=1e-4, rtol=1e-4)


def test_adapters_are_listed_as_models_of_their_parent_and_removed(url: str, assistant: Assistant):
    named = make(url, documents=[DOCUMENTS[2]]).json()
    name = named["id"]
    models = {model["id"]: model for model in httpx.get(f"{url}/v1/models").json()["data"]}
    assert models[assistant.name]["parent"] is None
    assert (models[name]["parent"], models[name]["root"]) == (assistant.name, named["path"])
    assert httpx.get(f"{url}/v1/models/{name}").json() == models[name]
    assert httpx.get(f"{url}/v1/adapters/{name}").json() == named
    assert named in httpx.get(f"{url}/v1/adapters").json()["data"]
    assert httpx.delete(f"{url}/v1/adapters/{name}").status_code == 204
    assert not Path(named["path"]).exists()
    assert "POST /v1/adapters" in error(httpx.delete(f"{url}/v1/adapters/{name}"), 404)
    error(httpx.get(f"{url}/v1/adapters/{name}"), 404)
    error(httpx.get(f"{url}/v1/models/{name}"), 404, "model")
    assert name in error(post(url, {"messages": ASKED, "model": name}), 404, "model")


def test_a_request_that_says_two_things_is_refused_by_field(url: str):
    name = make(url).json()["id"]
    error(post(url, {"messages": ASKED, "model": name, "documents": DOCUMENTS}), 400, "documents")
    error(post(url, {"messages": ASKED, "model": name, "method": "rag"}), 400, "method")
    assert answer(url, name, method="dyprag")["dyprag"]["method"] == "dyprag"
    error(make(url, documents=[]), 400, "documents")
    error(make(url, documents=["\x00\x01\x02"]), 400, "documents")
    error(make(url, documents=DOCUMENTS, question="Xyzzy?"), 400, "documents")
    error(make(url, documents=[" ".join(DOCUMENTS) * 40]), 400, "documents")


def test_many_first_requests_for_one_document_make_it_once(assistant: Assistant, tmp_path: Path):
    library = AdapterLibrary(assistant.base, assistant.name, tmp_path)
    with serving(assistant, library=library) as url, ThreadPoolExecutor(8) as pool:
        ready = threading.Barrier(8)

        def together(_: int) -> tuple[int, str]:
            ready.wait()
            made = make(url, documents=["A new lamp hangs in Tarnow."])
            return made.status_code, made.json()["id"]

        answers = list(pool.map(together, range(8)))
        assert sorted(status for status, _ in answers) == [200] * 7 + [201]
        assert len({name for _, name in answers}) == 1
        assert library.counts.made == 1
        metrics = httpx.get(f"{url}/metrics").text
        assert "dyprag_named_adapters_made 1.0" in metrics
        assert "dyprag_named_adapters 1.0" in metrics


def test_vllms_routes_name_folders_of_the_server_only(url: str, adapters: Path, tmp_path: Path):
    named = make(url).json()

    def load(**body: str) -> httpx.Response:
        return httpx.post(f"{url}/v1/load_lora_adapter", json=body)

    assert load(lora_name="lamp", lora_path=named["path"]).text == "Success: LoRA adapter 'lamp' added successfully."
    assert answer(url, "lamp")["choices"] == answer(url, named["id"])["choices"]
    assert load(lora_name="lamp", lora_path=named["id"]).status_code == 200, "its name alone, again"
    elsewhere = shutil.copytree(named["path"], tmp_path / "copy")
    for path in (str(elsewhere), "..", "../../etc", ".", str(adapters), "nowhere"):
        error(load(lora_name="other", lora_path=path), 400, "lora_path")
    (adapters / "link").symlink_to(elsewhere)
    error(load(lora_name="other", lora_path="link"), 400, "lora_path")
    other = make(url, documents=[DOCUMENTS[1]]).json()
    error(load(lora_name="lamp", lora_path=other["id"]), 400, "lora_name")

    def unload(name: str) -> httpx.Response:
        return httpx.post(f"{url}/v1/unload_lora_adapter", json={"lora_name": name})

    assert unload("lamp").status_code == 200
    error(unload("lamp"), 404)
    assert Path(named["path"]).is_dir()


def test_a_server_that_starts_again_finds_its_adapters(assistant: Assistant, tmp_path: Path):
    first = AdapterLibrary(assistant.base, assistant.name, tmp_path)
    adapter = random_adapters(assistant.base)
    named, made = first.add(adapter, "lamp", [("a", 1.5)], "Who?", 1_700_000_000)
    assert made
    shutil.copytree(named.folder, tmp_path / "damaged-000000000000")
    (tmp_path / "damaged-000000000000" / NOTE).write_text("{")
    shutil.copytree(named.folder, tmp_path / "foreign-000000000000")
    note = json.loads((named.folder / NOTE).read_text())
    (tmp_path / "foreign-000000000000" / NOTE).write_text(json.dumps({**note, "fingerprint": "another"}))
    second = AdapterLibrary(assistant.base, assistant.name, tmp_path)
    assert second.all() == [named]
    for mine, theirs in zip(first.adapter(named.name).tensors().values(), adapter.tensors().values(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_adapter_used_longest_ago_makes_room_for_a_new_one(assistant: Assistant, tmp_path: Path):
    library = AdapterLibrary(assistant.base, assistant.name, tmp_path, most=2)
    names = [library.add(random_adapters(assistant.base, seed=n), f"a{n}", [], None, n)[0].name for n in range(2)]
    library.adapter(names[0])
    third = library.add(random_adapters(assistant.base, seed=2), "a2", [], None, 2)[0].name
    assert {named.name for named in library.all()} == {names[0], third}
    assert library.counts.evicted == 1
    assert not (tmp_path / names[1]).exists()
    with pytest.raises(UnknownAdapterError):
        library.adapter(names[1])


def test_a_folder_that_was_removed_meanwhile_is_a_404(assistant: Assistant, tmp_path: Path):
    library = AdapterLibrary(assistant.base, assistant.name, tmp_path)
    with serving(assistant, library=library) as url:
        named = make(url).json()
        shutil.rmtree(named["path"])
        error(post(url, {"messages": ASKED, "model": named["id"]}), 404, "model")
        assert make(url).status_code == 201, "it can be made again"
        assert answer(url, named["id"])


def test_an_exports_folder_is_served_by_its_names(assistant: Assistant, tmp_path: Path):
    from dyprag.adapters.exchange.export import Index, place, write_adapter, write_index

    adapter = random_adapters(assistant.base)
    placed = place(tmp_path, "lamp", lambda folder: write_adapter(assistant.base, adapter, folder, assistant.name))
    index = Index(assistant.name, assistant.base.fingerprint)
    index.documents["lamp"], index.adapters[placed.name] = placed.name, {"rank": placed.rank}
    write_index(tmp_path, index)
    library = AdapterLibrary(assistant.base, assistant.name, tmp_path)
    assert [(named.name, named.made_here) for named in library.all()] == [(placed.name, False)]
    library.remove(placed.name)
    assert (tmp_path / placed.name).is_dir(), "an export is not this server's to remove"


def test_a_temporary_folder_ends_with_the_server(assistant: Assistant):
    library = AdapterLibrary(assistant.base, assistant.name)
    with serving(assistant, library=library) as url:
        assert Path(make(url).json()["path"]).is_dir()
    assert not library.folder.exists()
