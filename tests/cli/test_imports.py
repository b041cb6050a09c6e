"""`dyprag import`: an adapter trained by PEFT is used for its document; adapters other than plain LoRA are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import IDS, TEXTS, logits, random_adapters
from odd_models import TEMPLATES, change_weights, odd_model
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from dyprag.adapters.exchange.foreign import fitted, read_foreign
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import load_peft, save_peft
from dyprag.cli.main import app
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document
from dyprag.errors import ArtifactError
from dyprag.flows.stage import Stage
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue, Work
from dyprag.storage.latest import note_latest
from dyprag.storage.tables import write_corpus
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import corpus_settings
from dyprag.tasks.planning.training import adapter_jobs, translator_jobs

LAMP = Document("lamp", TEXTS["lamp"])


@pytest.fixture(scope="module")
def trained(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny model, trained and saved by PEFT."""
    torch.manual_seed(1)
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = get_peft_model(fresh, LoraConfig(r=2, lora_alpha=32, target_modules=list(PROJECTIONS)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture
def plan(base: BaseModel, settings: dict[str, Any]) -> Plan:
    """The plan of a store with an ingested corpus and an adapter for the lamp."""
    config = PipelineConfig.model_validate(settings).resolved()
    store = Store(config.store)
    corpus = Corpus(tuple(Document(name, text) for name, text in TEXTS.items()))
    plan = Plan(config, corpus)
    store.write(Record("corpus", plan.corpus_key, [], {}), lambda folder: write_corpus(folder, corpus))
    note_latest(store, "corpus", corpus_settings(config), plan.corpus_key)
    record = Record("adapter", plan.adapter_key(LAMP), [], {}, LAMP.key, LAMP.id)
    store.write(record, lambda folder: save_peft(base, random_adapters(base), folder, config.model.name))
    return plan


@pytest.fixture
def run(tmp_path: Path, settings: dict[str, Any], plan: Plan) -> Callable[..., Result]:
    """A function that runs the command on that store."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments), "-c", str(path)])


def of_peft(tiny_model: str, folder: Path) -> torch.Tensor:
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(fresh, str(folder)).eval())


def injected(base: BaseModel, folder: Path) -> torch.Tensor:
    with inject(base, load_peft(folder)):
        return logits(base.model)


def test_an_adapter_trained_by_peft_is_injected_and_can_be_forgotten(
    run: Callable[..., Result], plan: Plan, base: BaseModel, tiny_model: str, trained: Path, tmp_path: Path
):
    store, config = Store(plan.config.store), plan.config
    result = run("import", trained, "--document", "lamp")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("1 adapter imported: lamp.")
    key = Stage(config, "test").plan.adapter_key(LAMP)
    assert key != plan.adapter_key(LAMP)  # answers with the trained adapter are not reused
    torch.testing.assert_close(
        injected(base, store.open("adapter", key)), of_peft(tiny_model, trained), atol=1e-5, rtol=0
    )
    record = store.find("adapter", key)
    assert record is not None
    assert (record.document_key, record.document_id) == (LAMP.key, "lamp")
    assert record.measures["imported_from"] == str(trained)
    assert record.settings["imported"].keys() == {"adapter_config.json", "adapter_model.safetensors"}
    question = ["--question", "Who built the Ostrel lamp?", "--set", "evaluate.passages=1"]
    out = tmp_path / "out"  # the adapter that PRAG injects
    assert run("export", "--peft", out, *question).exit_code == 0
    (name,) = json.loads((out / "index.json").read_text())["adapters"]
    torch.testing.assert_close(injected(base, out / name), of_peft(tiny_model, trained), atol=1e-5, rtol=0)
    answers = {}
    for state in ("imported", "trained"):
        said = run("ask", question[1], "-m", "prag", *question[2:], "--set", "evaluate.max_new_tokens=8", "--json")
        answers[state] = json.loads(said.stdout)["answer"]
        assert json.loads(said.stdout)["retrieved"] == ["lamp"]
        if state == "imported":
            assert "lamp: import undone." in run("import", "--forget", "-d", "lamp").stdout
    assert answers["imported"] != answers["trained"]
    assert Stage(config, "test").plan.adapter_key(LAMP) == plan.adapter_key(LAMP)
    assert "nothing was imported" in run("import", "--forget", "-d", "lamp").stdout


def test_other_commands_work_with_an_import_in_the_store(run: Callable[..., Result], plan: Plan, trained: Path):
    store = Store(plan.config.store)
    catalogue = Catalogue(store)
    catalogue.prepare()
    catalogue.record_work("run", "parametrize", [Work("lamp", "1", "done"), Work("book", "2", "failed", error="why")])
    status = run("status", "--json").stdout
    assert run("import", trained, "--document", "book").exit_code == 0
    sound = json.loads(run("verify", "--json").stdout)
    assert sound == {"sound": {"corpus": 1, "adapter": 2}, "faults": []}
    assert run("status", "--json").stdout == status  # an import is not a run
    assert json.loads(run("gc", "--json").stdout)["artifacts"] == 0
    catalogue.path.unlink()
    assert run("catalogue", "rebuild").exit_code == 0
    assert json.loads(run("verify", "--json").stdout) == sound
    assert len([r for r in store.records() if r.kind == "adapter"]) == 2
    stage = Stage(plan.config, "parametrize")
    jobs, waiting = adapter_jobs(stage)
    assert [(job.document_id, stage.stored("adapter")(job) is not None) for job in jobs] == [
        ("lamp", True), ("book", True),
    ]  # fmt: skip
    assert {work.document_id for work in waiting} == {"bridge"}  # not augmented
    assert translator_jobs(stage) == []  # the translator also needs samples, and there are none


def test_an_import_is_used_only_for_its_rank_and_alpha_and_while_it_is_intact(
    run: Callable[..., Result], plan: Plan, trained: Path
):
    book = next(d for d in plan.documents if d.id == "book")
    assert run("import", trained, "--document", "book").exit_code == 0
    config = plan.config
    other = config.model_copy(update={"lora": config.lora.model_copy(update={"rank": 3})})
    assert book.key in Stage(config, "test").plan.imported
    assert Stage(other, "test").plan.imported == {}
    store = Store(config.store)
    folder = store.folder("adapter", Stage(config, "test").plan.adapter_key(book))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    assert "truncated" in run("verify").output
    assert Stage(config, "test").plan.adapter_key(book) == plan.adapter_key(book)  # no training under its key
    assert run("import", trained, "--document", "book").exit_code == 0
    assert book.key in Stage(config, "test").plan.imported


def test_rank_and_scale_are_converted_to_those_of_the_configuration(
    run: Callable[..., Result], plan: Plan, base: BaseModel, tiny_model: str, trained: Path, tmp_path: Path
):
    result = run("import", trained, "--document", "lamp", "--set", "lora.rank=5", "--set", "lora.alpha=7")
    assert result.exit_code == 0, result.output
    lora = plan.config.lora.model_copy(update={"rank": 5, "alpha": 7.0})
    stage = Stage(plan.config.model_copy(update={"lora": lora}), "test")
    folder = stage.store.open("adapter", stage.plan.adapter_key(LAMP))
    kept = load_peft(folder)
    assert (kept.rank, kept.scale) == (5, pytest.approx(7 / 5))
    torch.testing.assert_close(injected(base, folder), of_peft(tiny_model, trained), atol=1e-5, rtol=0)
    refused = run("import", trained, "--document", "lamp", "--set", "lora.rank=1")
    assert refused.exit_code == 1
    assert "its rank is 2, but lora.rank is 1. Use --set lora.rank=2." in refused.stderr


def test_the_dtype_is_kept_if_nothing_is_converted(base: BaseModel, trained: Path, tmp_path: Path):
    save_peft(base, load_peft(trained).to(torch.bfloat16), tmp_path, "tiny")
    read = read_foreign(tmp_path, base)
    assert {tensor.dtype for tensor in fitted(read, 3, read.scale, "it").tensors().values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in fitted(read, 3, 1.0, "it").tensors().values()} == {torch.float32}


def test_an_exported_folder_is_imported_document_by_document(
    run: Callable[..., Result], plan: Plan, tmp_path: Path, trained: Path
):
    assert run("import", trained, "--document", "book").exit_code == 0
    out = tmp_path / "out"
    assert run("export", "--peft", out).exit_code == 2  # the bridge has none
    index = json.loads((out / "index.json").read_text())
    index["documents"]["gone"] = index["documents"]["lamp"]
    (out / "index.json").write_text(json.dumps(index))
    result = run("import", out)
    assert result.exit_code == 2
    assert "2 adapters imported" in result.stdout
    assert "1 not in the corpus: gone" in result.stderr
    assert run("import", out, "-d", "bridge").exit_code == 1
    index["documents"]["lamp"] = "../elsewhere"
    (out / "index.json").write_text(json.dumps(index))
    assert "it refers to folders outside of the export" in run("import", out).stderr


def names(folder: Path, target: Path, base_model: object) -> Path:
    """A copy of an adapter that names another base model."""
    target.mkdir()
    (target / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes())
    config = json.loads((folder / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base_model}))
    return target


def test_an_adapter_of_another_model_of_equal_size_needs_same_model(
    run: Callable[..., Result], plan: Plan, tiny_model: str, trained: Path, tmp_path: Path
):
    sister = odd_model(tiny_model, tmp_path / "tiny")  # of the same name
    change_weights(sister / "model.safetensors", lambda weights: weights["model.norm.weight"].add_(1))
    for number, other in enumerate((str(sister), "HuggingFaceTB/SmolLM2-135M", "/gone/tiny-instruct")):
        adapter = names(trained, tmp_path / f"adapter {number}", other)
        refused = run("import", adapter, "-d", "lamp")
        assert refused.exit_code == 1
        assert f"it was trained on {other!r}, but this model is {tiny_model!r}" in refused.stderr
        assert "pass --same-model" in refused.stderr
        taken = run("import", adapter, "-d", "lamp", "--same-model")
        assert taken.exit_code == 0, taken.output


def test_the_same_model_is_recognised_under_another_name_or_path(
    run: Callable[..., Result], plan: Plan, tiny_model: str, trained: Path, tmp_path: Path, messages: list[str]
):
    elsewhere = odd_model(tiny_model, tmp_path / "copy", template=TEMPLATES["trims"])
    for number, other in enumerate((str(elsewhere), "some-group/Tiny", "C:\\models\\tiny", "/gone/tiny/")):
        result = run("import", names(trained, tmp_path / f"adapter {number}", other), "-d", "lamp")
        assert result.exit_code == 0, result.output
    assert messages == []
    for number, other in enumerate((None, "", 7)):
        adapter = names(trained, tmp_path / f"unnamed {number}", other)
        assert run("import", adapter, "-d", "lamp").exit_code == 0
        assert f"{adapter} does not say which model it was trained on" in messages[-1]


def test_an_exported_adapter_is_matched_by_its_fingerprint(run: Callable[..., Result], plan: Plan, tmp_path: Path):
    out = tmp_path / "out"
    run("export", "--peft", out, "--base-model", "served-name")
    index = json.loads((out / "index.json").read_text())
    adapter = out / index["documents"]["lamp"]
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "served-name"
    assert run("import", adapter, "-d", "lamp").exit_code == 0
    (out / "index.json").write_text(json.dumps({**index, "fingerprint": "tiny-0123"}))
    assert "it was trained on the model tiny-0123" in run("import", adapter, "-d", "lamp").stderr
    assert run("import", out).exit_code == 1
    assert run("import", out, "--same-model").exit_code == 0


CONFIGS = {
    "type": ({"peft_type": "IA3"}, "its type is 'IA3', not LORA"),
    "dora": ({"use_dora": True}, "use_dora=True"),
    "rslora": ({"use_rslora": True}, "use_rslora=True"),
    "bias": ({"bias": "all"}, "it has biases"),
    "saved modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "ranks": ({"rank_pattern": {"up_proj": 4}}, "rank_pattern"),
    "start": ({"init_lora_weights": "pissa"}, "trained on modified base weights"),
    "attention": ({"target_modules": ["q_proj", "up_proj"]}, "it adapts q_proj, but only gate_proj"),
    "rank": ({"r": 3}, r"has shape \(2, 32\) instead of \(3, 32\)"),
    "no rank": ({"r": True}, "its rank is True"),
    "alpha": ({"lora_alpha": float("nan")}, "its alpha is nan"),
}


@pytest.mark.parametrize(("change", "reason"), CONFIGS.values(), ids=CONFIGS)
def test_adapters_other_than_plain_lora_are_refused(
    base: BaseModel, trained: Path, tmp_path: Path, change: dict[str, Any], reason: str
):
    config = json.loads((trained / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **change}))
    (tmp_path / "adapter_model.safetensors").write_bytes((trained / "adapter_model.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match=reason):
        read_foreign(tmp_path, base)


UP = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
WEIGHTS = {
    "a layer less": (lambda t: t.pop(UP), f"it lacks {UP}"),
    "a layer more": (lambda t: t.update({UP.replace("1", "2"): t[UP].clone()}), "also adapts .*layers.2.mlp.up_proj"),
    "a bias": (lambda t: t.update({UP.replace("A.weight", "B.bias"): torch.ones(3)}), "also adapts .*lora_B.bias"),
    "attention": (lambda t: t.update({UP.replace("mlp.up", "self_attn.q"): torch.ones(2, 3)}), "also adapts .*q_proj"),
    "another width": (lambda t: t.update({UP: torch.ones(2, 33)}), r"has shape \(2, 33\) instead of \(2, 32\)"),
    "not a number": (lambda t: t[UP].fill_(float("nan")), "contains NaN or infinite values"),
    "integers": (lambda t: t.update({UP: t[UP].to(torch.int32)}), "contains NaN or infinite values"),
}


@pytest.mark.parametrize(("change", "reason"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_of_another_model_or_beyond_the_ffn_are_refused(
    base: BaseModel, trained: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any], reason: str
):
    tensors = load_file(trained / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_bytes((trained / "adapter_config.json").read_bytes())
    with pytest.raises(ArtifactError, match=reason):
        read_foreign(tmp_path, base)


def test_a_pickle_and_unreadable_files_are_refused(base: BaseModel, trained: Path, tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"adapter_config\.json cannot be read"):
        read_foreign(tmp_path, base)
    (tmp_path / "adapter_config.json").write_bytes((trained / "adapter_config.json").read_bytes())
    with pytest.raises(ArtifactError, match=r"it has no adapter_model\.safetensors"):
        read_foreign(tmp_path, base)
    (tmp_path / "adapter_model.bin").touch()
    with pytest.raises(ArtifactError, match=r"a pickle \(adapter_model\.bin\), which can run code"):
        read_foreign(tmp_path, base)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors cannot be read"):
        read_foreign(tmp_path, base)


def test_missing_and_unknown_arguments_are_reported_in_one_line(run: Callable[..., Result], trained: Path):
    for arguments, reason in (
        ([], "no adapter folder was given. Run: dyprag import FOLDER"),
        ([trained], "the document it belongs to is not given. Pass --document ID"),
        ([trained, "-d", "lamq"], "Did you mean 'lamp'?"),
        (["--forget"], "it takes a document, not a folder"),
        (["--forget", "-d", "lamq"], "it is not in the ingested corpus"),
    ):
        result = run("import", *arguments)
        assert result.exit_code == 1
        (line,) = result.stderr.strip().splitlines()
        assert reason in line
