"""vLLM's plugin: which adapter a name means in each source, which are refused, and what the plugin imports.

That vLLM itself loads them is tested against a real vLLM, see `make test-vllm`.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
from chat_server import DOCUMENTS, serving, tiny_assistant
from conftest import random_adapters

from dyprag.adapters.exchange.export import Index, place, write_adapter, write_index
from dyprag.model.base import BaseModel
from dyprag.model.files import model_fingerprint
from dyprag.serving import vllm
from dyprag.serving.library import AdapterLibrary
from dyprag.storage.artifacts import Record
from dyprag.storage.artifacts import Store as ArtifactStore


def export(base: BaseModel, model: str, folder: Path, name: str = "lamp", seed: int = 0) -> str:
    """Write an export with one adapter. Returns the name of its folder."""
    adapter = random_adapters(base, seed=seed)
    placed = place(folder, name, lambda path: write_adapter(base, adapter, path, model))
    index = Index(model, base.fingerprint)
    index.documents[name], index.questions["Who built it?"] = placed.name, placed.name
    index.adapters[placed.name] = {"rank": placed.rank}
    write_index(folder, index)
    return placed.name


def names(given: str, tmp_path: Path) -> vllm.Names:
    return vllm.Names(vllm.sources(given, tmp_path / "cache"))


def test_an_exports_adapters_have_the_names_of_its_index(base: BaseModel, tiny_model: str, tmp_path: Path):
    folder = tmp_path / "export"
    name = export(base, tiny_model, folder)
    found = names(str(folder), tmp_path)
    for asked in (name, "lamp", "Who built it?"):
        assert found.find(tiny_model, asked) == folder / name
    for unknown in ("", ".", "..", "/etc", f"../export/{name}", f"{folder}/{name}", f"{name}/", "lamps", "index.json"):
        assert found.find(tiny_model, unknown) is None


def test_an_index_that_leads_outside_of_its_folder_is_not_followed(base: BaseModel, tiny_model: str, tmp_path: Path):
    folder, outside = tmp_path / "export", tmp_path / "outside"
    name, elsewhere = export(base, tiny_model, folder), export(base, tiny_model, outside)
    index = json.loads((folder / "index.json").read_text())
    index["documents"]["evil"] = f"../outside/{elsewhere}"
    index["adapters"][f"../outside/{elsewhere}"] = {}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "link").symlink_to(outside / elsewhere)
    found = names(str(folder), tmp_path)
    assert found.find(tiny_model, "evil") is None
    assert found.find(tiny_model, "link") is None
    assert found.find(tiny_model, name) == folder / name


def test_an_adapter_of_another_base_model_is_refused_with_a_warning(
    base: BaseModel, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder, other = tmp_path / "export", tmp_path / "other"
    export(base, tiny_model, folder)
    other.mkdir()
    (other / "config.json").write_text("{}")
    found = names(str(folder), tmp_path)
    for served in (str(other), "someone/else"):
        assert found.find(served, "lamp") is None
    assert "vLLM serves someone/else" in caplog.text


def test_the_served_folder_may_have_another_path_if_its_files_are_the_same(
    base: BaseModel, tiny_model: str, tmp_path: Path
):
    import shutil

    folder = tmp_path / "export"
    name = export(base, tiny_model, folder)
    config = json.loads((folder / name / "adapter_config.json").read_text())
    (folder / name / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/elsewhere"}))
    found = names(str(folder), tmp_path)
    assert base.fingerprint == model_fingerprint(tiny_model)
    assert found.find(tiny_model, "lamp") == folder / name
    copy = shutil.copytree(tiny_model, tmp_path / "copy" / Path(tiny_model).name)
    assert found.find(str(copy), "lamp") == folder / name
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert found.find(str(copy), "lamp") is None


def test_a_stores_adapters_are_named_by_document_and_the_newest_is_taken(
    base: BaseModel, tiny_model: str, tmp_path: Path
):
    from dyprag.adapters.lora import save_peft

    store = ArtifactStore(tmp_path / "store")

    def trained(key: str, document: str, created: float) -> Path:
        record = Record("adapter", key, [], {"model": base.fingerprint}, "d" * 32, document, created=created)
        written = store.write(record, lambda folder: save_peft(base, random_adapters(base), folder, tiny_model))
        return store.folder("adapter", written.key)

    old = trained("a" * 32, "notes/lamp 1.md", 1.0)
    trained("c" * 32, "", 5.0)
    found = names(str(tmp_path / "store"), tmp_path)
    assert found.find(tiny_model, "notes/lamp 1.md") == old
    assert found.find(tiny_model, "") is None
    new = trained("b" * 32, "notes/lamp 1.md", 2.0)
    found = names(str(tmp_path / "store"), tmp_path)
    assert found.find(tiny_model, "notes/lamp 1.md") == new
    assert found.find(tiny_model, f"notes/lamp 1.md@{'a' * 12}") == old
    assert found.find(tiny_model, f"notes/lamp 1.md@{'f' * 12}") is None


@pytest.fixture(scope="module")
def server(tiny_model: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    assistant = tiny_assistant(tiny_model, folder)
    library = AdapterLibrary(assistant.base, assistant.name, tmp_path_factory.mktemp("served"))
    with serving(assistant, library=library, token="secret") as url:
        yield url, library.folder


def test_an_adapter_of_a_server_is_copied_once(server: tuple[str, Path], tiny_model: str, tmp_path: Path):
    url, _ = server
    head = {"Authorization": "Bearer secret"}
    made = httpx.post(f"{url}/v1/adapters", json={"documents": DOCUMENTS[:1]}, headers=head, timeout=60).json()
    found = vllm.Names(vllm.sources(url, tmp_path / "cache", "secret"))
    copy = found.find(tiny_model, made["id"])
    assert copy == tmp_path / "cache" / made["id"]
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (copy / file).read_bytes() == (Path(made["path"]) / file).read_bytes()
    assert [path.name for path in copy.parent.iterdir()] == [made["id"]]
    httpx.delete(f"{url}/v1/adapters/{made['id']}", headers=head)
    assert found.find(tiny_model, made["id"]) == copy, "it has been copied"
    assert found.find(tiny_model, "lamp-000000000000") is None
    assert found.find("someone/else", made["id"]) is None


def test_a_server_that_refuses_or_is_away_gives_no_adapter_and_a_warning(
    server: tuple[str, Path], tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for address in (server[0], "http://127.0.0.1:9"):  # without the token; nobody listens
        found = vllm.Names(vllm.sources(address, tmp_path / "cache"))
        assert found.find(tiny_model, "lamp-000000000000") is None
    assert "401" in caplog.text
    assert caplog.text.count("cannot be read") == 2


def test_files_of_adapters_alone_can_be_fetched(server: tuple[str, Path]):
    url, folder = server
    head = {"Authorization": "Bearer secret"}
    name = httpx.post(f"{url}/v1/adapters", json={"documents": DOCUMENTS[1:2]}, headers=head, timeout=60).json()["id"]
    (folder / name / "secret.txt").write_text("no")
    for path in (f"{name}/files/secret.txt", f"{name}/files/..%2Fsecret", "..%2F/files/adapter_config.json"):
        assert httpx.get(f"{url}/v1/adapters/{path}", headers=head).status_code in (400, 404)
    assert httpx.get(f"{url}/v1/adapters/{name}/files/adapter_config.json").status_code == 401


def test_the_first_source_that_has_a_name_gives_it(base: BaseModel, tiny_model: str, tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    first, _ = export(base, tiny_model, one), export(base, tiny_model, two, seed=1)
    third = export(base, tiny_model, two, "mill", seed=1)
    found = names(f" {one} , {two},", tmp_path)
    assert found.find(tiny_model, "lamp") == one / first
    assert found.find(tiny_model, "mill") == two / third


def test_the_resolver_is_registered_with_what_vllm_expects(
    base: BaseModel, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """vLLM is not installed here: its two modules have the names and signatures of 0.32."""
    registered: dict[str, Any] = {}
    request, resolver = ModuleType("vllm.lora.request"), ModuleType("vllm.lora.resolver")
    request.LoRARequest = SimpleNamespace  # type: ignore[attr-defined]
    resolver.LoRAResolver = object  # type: ignore[attr-defined]
    resolver.LoRAResolverRegistry = SimpleNamespace(register_resolver=registered.__setitem__)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm.lora.request", request)
    monkeypatch.setitem(sys.modules, "vllm.lora.resolver", resolver)
    monkeypatch.delenv(vllm.SOURCES, raising=False)
    vllm.register()
    assert registered == {}
    name = export(base, tiny_model, tmp_path / "export")
    monkeypatch.setenv(vllm.SOURCES, str(tmp_path / "export"))
    vllm.register()
    found = asyncio.run(registered["dyprag"].resolve_lora(tiny_model, "lamp"))
    assert (found.lora_name, found.lora_path) == ("lamp", str(tmp_path / "export" / name))
    assert 0 < found.lora_int_id == vllm.number_of("lamp") < 2**31
    assert asyncio.run(registered["dyprag"].resolve_lora(tiny_model, "nothing")) is None


def test_the_plugin_loads_nothing_that_vllms_environment_may_lack():
    code = (
        "import sys; before = set(sys.modules); import dyprag.serving.vllm, dyprag.model.files;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dyprag']"
