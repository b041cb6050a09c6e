"""Answers from documents passed with the question: passages, cached adapters, methods, errors, export."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXTS
from typer.testing import CliRunner

from dyprag.adapters.lora import load_peft, merge
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.errors import ConfigError, DocumentError
from dyprag.serving import assistant as module
from dyprag.serving.assistant import Assistant, load


def values(tiny_model: str, folder: Path) -> dict[str, Any]:
    return {
        "model": {"name": tiny_model, "dtype": "float32", "device": "cpu"},
        "translator": {"learned": str(folder)},
        "evaluate": {"max_new_tokens": 6, "passages": 2},
    }


@pytest.fixture
def assistant(tiny_model: str, folder: Path) -> Assistant:
    return load(config=PipelineConfig.model_validate(values(tiny_model, folder)))


QUESTION = "Who built the Ostrel lamp?"


def test_every_method_answers_from_the_matching_passages(assistant: Assistant):
    replies = assistant.compare(QUESTION, list(TEXTS.values()))
    assert [reply.method for reply in replies] == list(module.served_methods())
    assert replies[0].passages == ()
    for reply in replies[1:]:
        assert reply.passages[0].document.text == TEXTS["lamp"]
        assert len(reply.passages) == 2
    assert len({reply.text for reply in replies}) > 1


def test_a_reply_lists_the_passages_in_the_prompt_and_those_injected(assistant: Assistant):
    replies = {
        reply.method: reply for reply in assistant.compare("Which lamp did Olmsted build?", list(TEXTS.values()))
    }
    found = replies["rag"].passages
    assert [one.document.text for one in found] == [TEXTS["lamp"]]  # no other shares a word with the question
    assert {m: (bool(r.in_prompt), bool(r.injected), r.passages) for m, r in replies.items()} == {
        "vanilla": (False, False, ()), "rag": (True, False, found), "dyprag": (False, True, found),
        "dyprag-combine": (True, True, found),
    }  # fmt: skip


def test_without_a_matching_passage_the_model_answers_alone(assistant: Assistant):
    alone = assistant.ask("Xyzzy?", method="vanilla").text
    for method in ("rag", "dyprag", "dyprag-combine"):
        reply = assistant.ask("Xyzzy?", list(TEXTS.values()), method)
        assert (reply.passages, reply.in_prompt, reply.injected) == ((), (), ())
        assert reply.text == alone


def test_the_adapter_of_the_document_is_injected(assistant: Assistant):
    """The translator's adapter of the passage is injected, and other documents give other answers."""
    passage = Document("lamp", TEXTS["lamp"])
    made = assistant.translator.translate(assistant.translator.read(assistant.base, [passage.passage]))
    for mine, theirs in zip(assistant.adapter([passage]).tensors().values(), made.tensors().values(), strict=True):
        torch.testing.assert_close(mine, theirs)
    texts = [assistant.ask(QUESTION, [text], "dyprag").text for text in TEXTS.values()]
    assert len(set(texts)) > 1


def test_adapters_are_cached_within_a_limit(assistant: Assistant, monkeypatch: pytest.MonkeyPatch):
    passages = [Document(name, text) for name, text in TEXTS.items()]
    first = assistant.adapters(passages[:1])
    size = sum(t.numel() * t.element_size() for t in first.tensors().values())
    reads: list[str] = []
    read = assistant.translator.read
    monkeypatch.setattr(assistant.translator, "read", lambda base, texts: reads.extend(texts) or read(base, texts))
    monkeypatch.setattr(module, "KEPT_BYTES", 2 * size)
    assistant.adapters(passages[:1])
    assert reads == []
    assistant.adapters([passages[1]])
    assistant.adapters([passages[2]])  # evicts the first one, the least recently used
    assistant.adapters(passages[1:])
    assert reads == [TEXTS["bridge"], TEXTS["book"]]
    assistant.adapters(passages[:1])
    assert reads[2:] == [TEXTS["lamp"]]


def test_a_long_document_is_split(assistant: Assistant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PASSAGE_TOKENS", 40)
    passages = assistant.passages([Document("all", " ".join(TEXTS.values())), "A short one."])
    assert [p.id for p in passages][:2] == ["all#1", "all#2"]
    assert passages[-1].text == "A short one."
    for passage in passages:
        assert len(assistant.base.tokenizer(passage.text)["input_ids"]) <= 40


def test_several_documents_are_merged_into_one_adapter(assistant: Assistant):
    documents = list(TEXTS.values())
    whole = assistant.adapter(documents)
    apart = merge(assistant.adapters(assistant.passages(documents)), "mean")
    for projection in whole.a:
        delta = (whole.b[projection] @ whole.a[projection]) * whole.scale
        torch.testing.assert_close(delta, (apart.b[projection] @ apart.a[projection]) * apart.scale)


def test_a_long_text_needs_a_question_to_become_one_adapter(assistant: Assistant, monkeypatch: pytest.MonkeyPatch):
    long = [Document(name, text) for name, text in TEXTS.items()]
    assert [one.score for one in assistant.shared(long)] == [0.0] * len(long)
    monkeypatch.setattr("dyprag.serving.assistant.MOST_SHARED", 2)
    with pytest.raises(DocumentError, match=r"they have 3 passages, and an adapter of more than 2 .* Pass a question"):
        assistant.adapter(long)
    found = assistant.shared(long, QUESTION)
    assert found == assistant.retrieve(QUESTION, long)
    assert 0 < len(found) <= assistant.chosen
    made = assistant.adapter(long, QUESTION)
    alike = merge(assistant.adapters([one.document for one in found]), "mean", [one.score for one in found])
    assert made.rank == alike.rank
    with pytest.raises(DocumentError, match="no passage shares a word with the question"):
        assistant.adapter(long * 2, "Xyzzy?")


def test_a_saved_adapter_loads_in_peft(assistant: Assistant, tmp_path: Path):
    adapter = assistant.adapter([TEXTS["lamp"]])
    assistant.save(adapter, tmp_path / "lamp")
    for mine, theirs in zip(adapter.tensors().values(), load_peft(tmp_path / "lamp").tensors().values(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_one_text_may_be_given_without_a_list(assistant: Assistant):
    text = f"{TEXTS['lamp']} \udfff"  # half an emoji is no reason to fail
    assert [passage.text for passage in assistant.passages(text)] == [f"{TEXTS['lamp']} ?"]
    assert [passage.key for passage in assistant.passages(Document("a", "It is old."))] == [
        passage.key for passage in assistant.passages(["It is old."])
    ]
    with pytest.raises(DocumentError, match="neither a text nor a Document, but NoneType"):
        assistant.passages([None])  # type: ignore[list-item]


def test_invalid_requests_raise_clear_errors(assistant: Assistant, tiny_model: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="Choose one of vanilla"):
        assistant.ask(QUESTION, [], "magic")
    with pytest.raises(DocumentError, match=r"document 2.*no text"):
        assistant.ask(QUESTION, ["A text.", " \n"])
    with pytest.raises(DocumentError, match="there are none"):
        assistant.adapter([])
    with pytest.raises(ConfigError, match="the package has no translator"):
        load(tiny_model)
    with pytest.raises(ConfigError, match="there is no translator in this folder"):
        load(tiny_model, str(tmp_path / "nowhere"))


def test_the_command_answers_from_a_file(tiny_model: str, folder: Path, tmp_path: Path):
    import json

    import yaml

    from dyprag.cli.main import app

    config, notes = tmp_path / "config.yaml", tmp_path / "notes.txt"
    config.write_text(yaml.safe_dump(values(tiny_model, folder)))
    notes.write_text(TEXTS["lamp"])
    command = ["ask", QUESTION, "--document", str(notes), "-c", str(config), "--json"]
    one = json.loads(CliRunner().invoke(app, command).stdout)
    assert one["method"] == "dyprag-combine"
    assert one["passages"] == ["notes\n" + TEXTS["lamp"]]
    every = json.loads(CliRunner().invoke(app, [*command, "--compare"]).stdout)
    assert [row["method"] for row in every] == list(module.served_methods())
    assert every[-1]["answer"] == one["answer"]
    refused = CliRunner().invoke(app, ["ask", QUESTION, "--compare", "-c", str(config)])
    assert refused.exit_code == 1
    missing = CliRunner().invoke(app, ["ask", QUESTION, "-d", str(tmp_path / "none.txt"), "-c", str(config)])
    assert missing.exit_code == 1


def test_the_command_loads_an_assistant_again_if_its_translator_has_changed(
    tiny_model: str, folder: Path, tmp_path: Path
):
    import shutil

    from dyprag.cli.ask import _assistant

    own = shutil.copytree(folder, tmp_path / "translator")
    config = PipelineConfig.model_validate(values(tiny_model, own))
    first = _assistant(config)
    assert _assistant(config) is first
    os.utime(own / "translator.safetensors", (1, 1))
    assert _assistant(config) is not first
    shutil.rmtree(own)
    with pytest.raises(ConfigError, match="there is no translator in this folder"):
        _assistant(config)
