"""`dyprag export`: PEFT gives the same results as injection, of documents, questions and files."""

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TEXTS, logits, random_adapters, write_jsonl
from exported import contents, of_peft
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from dyprag.adapters.exchange.export import PEFT_FILES
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters, load_peft, merge, save_peft, stack
from dyprag.cli.main import app
from dyprag.config import LearnSettings, PipelineConfig
from dyprag.corpora.documents import Corpus, Document
from dyprag.model.base import BaseModel
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.latest import note_latest
from dyprag.storage.tables import write_corpus
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import corpus_settings
from dyprag.translators.protocol import fresh_translator, save_translator

QUESTION = "Who built the Ostrel lamp at Brevik Harbour?"
SAME = {"twin": TEXTS["lamp"]}  # the same text under a second id


@pytest.fixture(scope="module")
def translator(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = LearnSettings(rank=2, alpha=2.0, first_layer=0, sources=1, width=16, heads=2, blocks=1)
    made = fresh_translator(base, settings, [base.tokenizer(text)["input_ids"] for text in TEXTS.values()])
    with torch.no_grad():
        made.gains.fill_(50.0)
    folder = tmp_path_factory.mktemp("translator")
    save_translator(made, folder)
    return folder


@pytest.fixture
def given(settings: dict[str, Any], translator: Path) -> dict[str, Any]:
    """The settings, with an imported translator."""
    return {**settings, "translator": {"learned": str(translator)}}


@pytest.fixture
def plan(base: BaseModel, given: dict[str, Any], translator: Path) -> Plan:
    """The plan of a store with a corpus, a translator, and adapters of all documents except the book."""
    config = PipelineConfig.model_validate(given).resolved()
    store = Store(config.store)
    corpus = Corpus(tuple(Document(name, text) for name, text in {**TEXTS, **SAME}.items()))
    plan = Plan(config, corpus)
    store.write(Record("corpus", plan.corpus_key, [], {}), lambda folder: write_corpus(folder, corpus))
    note_latest(store, "corpus", corpus_settings(config), plan.corpus_key)
    for seed, document in enumerate(d for d in plan.documents if d.id != "book"):
        record = Record("adapter", plan.adapter_key(document), [], {}, document.key, document.id)
        adapter = random_adapters(base, seed=seed).to(torch.bfloat16)
        store.write(record, lambda folder, a=adapter: save_peft(base, a, folder, config.model.name))
    record = Record("translator", plan.translator_key([]), [], {})
    store.write(record, lambda folder: save_translator(_load(translator, base), folder))
    return plan


def _load(folder: Path, base: BaseModel) -> Any:
    from dyprag.translators.protocol import load_translator

    return load_translator(folder, base)


@pytest.fixture
def config_file(tmp_path: Path, given: dict[str, Any], plan: Plan) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def dyprag(config: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "-c", str(config)])


def stored(plan: Plan, identity: str) -> Adapters:
    document = next(d for d in plan.documents if d.id == identity)
    return load_peft(Store(plan.config.store).open("adapter", plan.adapter_key(document)))


def test_export_writes_a_folder_per_document_and_skips_existing_ones(
    tmp_path: Path, config_file: Path, plan: Plan, base: BaseModel, tiny_model: str
):
    out = tmp_path / "out"
    result = dyprag(config_file, "export", "--peft", out)
    assert result.exit_code == 2
    assert "1 without an adapter: book" in result.stderr
    assert result.output.startswith(f"2 adapters in {out}, 2 written now")
    index = json.loads((out / "index.json").read_text())
    assert index["documents"].keys() == {"lamp", "twin", "bridge"}
    assert index["documents"]["lamp"] == index["documents"]["twin"] != index["documents"]["bridge"]
    for name in ("lamp", "bridge"):
        folder = index["documents"][name]
        assert re.fullmatch(rf"{name}-[0-9a-f]{{12}}", folder)
        with inject(base, stored(plan, name)):
            torch.testing.assert_close(of_peft(tiny_model, out / folder), logits(base.model), atol=1e-5, rtol=0)
        told = index["adapters"][folder]
        assert (told["method"], told["rank"], told["alpha"], told["made_of"]) == ("prag", 2, 32, [name])
        assert {path.stat().st_mode & 0o777 for path in (out / folder).iterdir()} == {
            0o644
        }  # readable for a server's user
    first = contents(out)
    assert first.keys() == {
        "index.json", "serve.sh", *(f"{folder}/{name}" for folder in index["adapters"] for name in PEFT_FILES),
    }  # fmt: skip
    again = dyprag(config_file, "export", "--peft", out, "--json")
    assert json.loads(again.stdout)["peft"]["written"] == 0
    assert contents(out) == first
    weights = out / index["documents"]["lamp"] / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert json.loads(dyprag(config_file, "export", "--peft", out, "--json").stdout)["peft"]["written"] == 1
    assert {name: data for name, (data, _) in contents(out).items()} == {n: data for n, (data, _) in first.items()}


def test_the_configuration_names_the_base_model_as_other_programs_load_it(
    tmp_path: Path, config_file: Path, plan: Plan, tiny_model: str
):
    def named(folder: Path) -> set[str]:
        paths = folder.glob("*/adapter_config.json")
        return {json.loads(path.read_text())["base_model_name_or_path"] for path in paths}

    out = tmp_path / "out"
    for old in Path(plan.config.store).glob("adapter/*/*/adapter_config.json"):  # as written by version 0.1.0
        config = json.loads(old.read_text())
        assert config["base_model_name_or_path"] == str(Path(tiny_model).resolve())
        old.write_text(old.read_text().replace(config["base_model_name_or_path"], "tiny"))
        record = json.loads((old.parent / "record.json").read_text())
        data = old.read_bytes()
        record["files"][old.name] = {"bytes": len(data), "blake2b": hashlib.blake2b(data, digest_size=16).hexdigest()}
        (old.parent / "record.json").write_text(json.dumps(record))
    assert dyprag(config_file, "export", "--peft", out).exit_code == 2  # one document has no adapter
    assert named(out) == {str(Path(tiny_model).resolve())}
    first = {path.parent.name: path.read_bytes() for path in out.glob("*/adapter_model.safetensors")}
    result = dyprag(config_file, "export", "--peft", out, "--base-model", "served/name", "--json")
    assert json.loads(result.stdout)["peft"]["written"] == 2
    assert named(out) == {"served/name"}
    assert {path.parent.name: path.read_bytes() for path in out.glob("*/adapter_model.safetensors")} == first
    assert "vllm serve served/name " in (out / "serve.sh").read_text()
    dyprag(config_file, "export", "--peft", out, "--document", "lamp")  # the earlier choice applies to the whole folder
    assert named(out) == {"served/name"}
    assert "served/name" in (out / "serve.sh").read_text()
    assert dyprag(config_file, "import", out).exit_code == 0  # whatever base model it names


def test_the_adapter_of_a_question_equals_the_injected_one(
    tmp_path: Path, config_file: Path, plan: Plan, base: BaseModel, tiny_model: str
):
    out = tmp_path / "out"
    result = dyprag(config_file, "export", "--peft", out, "--question", QUESTION, "--set", "evaluate.passages=2",
                    "--set", "evaluate.prag_merge=sum", "--json")  # fmt: skip
    found = json.loads(result.stdout)["peft"]
    (name,) = found["adapters"]
    index = json.loads((out / "index.json").read_text())
    assert index["questions"] == {QUESTION: name}
    told = index["adapters"][name]
    assert told["made_of"][0] == "lamp"
    assert told["rank"] == 2 * len(told["made_of"])
    with inject(base, merge(stack([stored(plan, identity) for identity in told["made_of"]]), "sum")):
        torch.testing.assert_close(of_peft(tiny_model, out / name), logits(base.model), atol=1e-5, rtol=0)


def test_the_translator_makes_missing_adapters_of_documents_and_files(
    tmp_path: Path, config_file: Path, plan: Plan, base: BaseModel, tiny_model: str, translator: Path
):
    out, file = tmp_path / "out", write_jsonl(tmp_path / "notes.jsonl", [{"id": "note", "text": TEXTS["book"]}])
    for choice in (["--document", "book"], ["--file", file]):
        result = dyprag(config_file, "export", "--peft", out, *choice)
        assert result.exit_code == 0, result.output
    index = json.loads((out / "index.json").read_text())
    made = index["documents"]["book"]
    assert index["adapters"][made]["method"] == "dyprag"
    reader = _load(translator, base)
    with torch.inference_mode():
        with inject(base, reader.translate(reader.read(base, [TEXTS["book"]]))):
            ours = logits(base.model)
    torch.testing.assert_close(of_peft(tiny_model, out / made), ours, atol=1e-5, rtol=0)
    of_file = index["files"][file]
    assert of_file.startswith("notes-")
    assert of_file.rpartition("-")[2] == made.rpartition("-")[2]  # the same text, the same weights
    everything = json.loads(dyprag(config_file, "export", "--peft", out, "--method", "dyprag", "--json").stdout)
    assert len(everything["peft"]["adapters"]) == 4  # three texts and the file
    assert everything["missing"] == []
    assert everything["peft"]["written"] == 2


def test_a_file_with_several_passages_is_reported_or_needs_a_choice(
    tmp_path: Path, config_file: Path, plan: Plan, translator: Path
):
    def rows(count: int) -> str:
        texts = [{"id": f"n{n}", "text": f"{TEXTS['book']} It is copy {n}."} for n in range(count)]
        return write_jsonl(tmp_path / f"{count}.jsonl", [*texts, {"id": "hollow", "text": " "}])

    result = dyprag(config_file, "export", "--peft", tmp_path / "out", "--file", rows(3))
    assert result.exit_code == 0, result.output
    assert "3 passages share the adapter, each at 1/3 of its full strength" in result.stdout
    assert "Not read: document 'hollow': it has no text" in result.stderr
    result = dyprag(config_file, "export", "--peft", tmp_path / "out", "--file", rows(9))
    assert result.exit_code == 1
    assert "they have 9 passages" in result.stderr
    assert "Pass --question" in result.stderr
    asked = ("--file", rows(9), "--question", "What is copy 4?")
    told = json.loads(dyprag(config_file, "export", "--peft", tmp_path / "out", *asked, "--json").stdout)
    assert told["share"] is None
    assert "n4" in told["passages"]
    assert len(told["passages"]) < 9


REFUSED = {
    "nowhere": ([], "no output folder was given. Pass --peft DIR"),
    "merged corpus": (
        ["--merged", "out"],
        "a merged model takes exactly one adapter. Pass --document, --question or --file",
    ),
    "two choices": (["--peft", "out", "-d", "lamp", "-q", "Who?"], "--document cannot be combined"),
    "method": (["--peft", "out", "-m", "rag"], "only adapters of prag and dyprag can be exported"),
    "file by prag": (["--peft", "out", "-f", "x.txt", "-m", "prag"], "a file has no trained adapter"),
    "unknown document": (["--peft", "out", "-d", "lamq"], "Did you mean 'lamp'?"),
    "untrained": (
        ["--peft", "out", "-d", "book", "-m", "prag"],
        "document 'book' has no trained adapter yet. Run: dyprag p",
    ),
    "no such file": (["--peft", "out", "-f", "none.txt"], "there is no such file"),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_impossible_exports_fail_with_a_one_line_error(
    tmp_path: Path, config_file: Path, arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = dyprag(config_file, "export", *arguments)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.strip().splitlines()
    assert reason in line
    assert not Path("out").exists()


def test_a_folder_of_another_model_or_an_unwritable_one_is_an_error(tmp_path: Path, config_file: Path):
    out = tmp_path / "out"
    dyprag(config_file, "export", "--peft", out)
    index = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps({**index, "model": "other", "fingerprint": "other-1"}))
    assert "it contains adapters of another model, 'other'" in dyprag(config_file, "export", "--peft", out).stderr
    (out / "index.json").write_text("{")
    assert "it cannot be read" in dyprag(config_file, "export", "--peft", out).stderr
    (tmp_path / "file").touch()
    assert "it cannot be written" in dyprag(config_file, "export", "--peft", tmp_path / "file").stderr


def test_the_vllm_script_needs_no_list_and_says_where_adapters_are(
    tmp_path: Path, config_file: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    dyprag(config_file, "export", "--peft", out)
    vllm = tmp_path / "bin" / "vllm"
    vllm.parent.mkdir()
    vllm.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$PWD"; env | grep -E "VLLM_|DYPRAG_A" | sort\n')
    vllm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{vllm.parent}:/usr/bin:/bin")
    command = [str(out / "serve.sh"), "--port", "8001"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.splitlines()
    assert said == [
        "serve", tiny_model, "--enable-lora", "--max-lora-rank", "8", "--max-loras", "2", "--port", "8001", str(out),
        f"DYPRAG_ADAPTERS={out}", "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1", f"VLLM_LORA_RESOLVER_CACHE_DIR={out}",
    ]  # fmt: skip
    for name in json.loads((out / "index.json").read_text())["adapters"]:  # as vLLM's own resolver compares
        assert json.loads((out / name / "adapter_config.json").read_text())["base_model_name_or_path"] == said[1]


def test_a_merged_model_answers_like_the_injected_adapter(
    tmp_path: Path, config_file: Path, plan: Plan, base: BaseModel
):
    out = tmp_path / "merged"
    result = dyprag(config_file, "export", "--merged", out, "--document", "lamp")
    assert (result.exit_code, result.stdout) == (0, f"Model in {out}.\n")
    with inject(base, stored(plan, "lamp")):
        ours = logits(base.model)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(out).eval()), ours, atol=1e-5, rtol=0)
    assert "(already there)" in dyprag(config_file, "export", "--merged", out, "--document", "lamp").stdout
