"""A store remembers its corpus, with its settings, under any form of its location."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TEXTS, write_jsonl
from typer.testing import CliRunner

from dyprag.cli.main import app, read_config
from dyprag.config import PipelineConfig
from dyprag.errors import StoreError
from dyprag.flows.stage import Stage
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.latest import all_latest, note_latest, resolved_location
from dyprag.storage.tables import write_corpus
from dyprag.tasks.corpora import corpus_of, stored_corpora, with_stored_corpus
from dyprag.tasks.ingest import read_location
from dyprag.tasks.planning.keys import CORPUS_LAYOUT
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import corpus_settings, find_latest, note_latest_of_location


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a corpus, its questions, another corpus, and a link to the directory."""
    (tmp_path / "work").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    for name, texts in (("docs", list(TEXTS)), ("more", ["lamp"])):
        (tmp_path / "work" / name).mkdir()
        for key in texts:
            (tmp_path / "work" / name / f"{key}.txt").write_text(TEXTS[key])
    questions = [{"question": "Who built the Ostrel lamp?", "answer": "Greta Olmsted"}]
    write_jsonl(tmp_path / "work" / "questions.jsonl", questions)
    return tmp_path / "work"


def config(*changes: str, model: str = "") -> PipelineConfig:
    """A configuration as the command line reads it."""
    return read_config(None, ["store=store", *([f"model.name={model}"] if model else []), *changes])


def ingest(given: PipelineConfig, earlier: bool = False) -> str:
    """Store and record a corpus as the flow does, or as version 0.1.0 did. Returns its key."""
    store, corpus = Store(given.store), read_location(given)
    plan = Plan(given, corpus)
    record = Record("corpus", plan.corpus_key, [], {})
    store.write(record, lambda folder: write_corpus(folder, corpus))
    if earlier:
        noted = given.corpus.model_dump(mode="json", exclude={"held_out"}, exclude_none=True)
        note_latest(store, "corpus", {**noted, "layout": CORPUS_LAYOUT}, plan.corpus_key)
    else:
        note_latest_of_location(store, "corpus", corpus_settings(given), plan.corpus_key)
    return plan.corpus_key


def taken(given: PipelineConfig, ingests: bool = False) -> tuple[str, str | None]:
    """The documents and questions that a command uses, shortened."""
    corpus = with_stored_corpus(given, ingests)[0].corpus
    return Path(corpus.documents).name, corpus.questions and Path(corpus.questions).name


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    "name", ["docs", "./docs", "docs/", "docs/../docs", "{place}/docs", "{place}/docs/", "{link}/docs", "~/docs", "file://{place}/docs"]
)  # fmt: skip
def test_a_corpus_is_found_by_any_form_of_its_location(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, earlier: bool
):
    monkeypatch.setenv("HOME", str(place))
    key = ingest(config("corpus.documents=docs"), earlier)
    named = name.format(place=place, link=place.parent / "link")
    found = with_stored_corpus(config(f"corpus.documents={named}"))[0]
    assert corpus_of(found, Store("store"))[0] == key
    other = with_stored_corpus(config("corpus.documents=more"))[0]
    with pytest.raises(StoreError, match=r"corpus more has not been ingested .* It has: docs"):
        corpus_of(other, Store("store"))


def test_the_same_relative_path_in_another_folder_is_another_corpus(place: Path, monkeypatch: pytest.MonkeyPatch):
    ingest(config("corpus.documents=docs"))
    monkeypatch.chdir(place / "more")
    settings = corpus_settings(config("corpus.documents=docs"))
    assert find_latest(Store(place / "store"), "corpus", settings) is None


def test_a_note_about_another_form_of_the_location_is_replaced(place: Path):
    old = ingest(config("corpus.documents=docs"), earlier=True)
    (place / "docs" / "new.txt").write_text("The Ilmar hollow was dug in 1871.")
    new = ingest(config(f"corpus.documents={place}/docs"))
    assert old != new
    assert list(all_latest(Store("store"), "corpus")) == [new]


def test_patterns_and_urls_are_resolved_only_as_far_as_they_are_paths():
    here = Path.cwd()
    assert resolved_location("docs/*.txt") == str(here / "docs" / "*.txt")
    assert resolved_location("./a/../docs/**/x?.md") == str(here / "docs" / "**" / "x?.md")
    assert resolved_location("s3://bucket/folder/") == "s3://bucket/folder"


def test_without_a_named_corpus_the_stored_one_is_used_with_its_settings(place: Path):
    ingest(config("corpus.documents=docs", "corpus.questions=questions.jsonl", "corpus.max_documents=2"))
    found, said = with_stored_corpus(config("lora.rank=3"))
    assert taken(config()) == ("docs", "questions.jsonl")
    assert (found.corpus.max_documents, found.lora.rank) == (2, 3)
    assert said == "Corpus: docs, the one that was last ingested into store. Another: --set corpus.documents=…"
    assert with_stored_corpus(found) == (found, "")  # which names it now
    assert with_stored_corpus(config("corpus.held_out=0.5"))[0].corpus.held_out == 0.5
    assert found.corpus.held_out == PipelineConfig().corpus.held_out


def test_of_several_corpora_the_last_that_agrees_with_the_settings_is_used(place: Path):
    ingest(config("corpus.documents=docs", "corpus.questions=questions.jsonl"))
    ingest(config("corpus.documents=docs"))
    ingest(config("corpus.documents=more"))
    assert [Path(one.documents).name for one in stored_corpora(Store("store"))] == ["more", "docs", "docs"]
    assert taken(config()) == ("more", None)
    assert "it has 3" in with_stored_corpus(config())[1]
    assert taken(config("corpus.documents=docs")) == ("docs", None)  # just that
    assert taken(config("corpus.questions=./questions.jsonl")) == ("docs", "questions.jsonl")
    assert taken(config("corpus.documents=more", "corpus.questions=questions.jsonl")) == ("more", "questions.jsonl")
    ingest(config("corpus.documents=docs", "corpus.questions=questions.jsonl"))
    assert taken(config()) == ("docs", "questions.jsonl")


def test_named_documents_bring_the_other_settings_of_their_ingest(place: Path):
    ingest(config("corpus.documents=docs", "corpus.questions=questions.jsonl"))
    ingest(config("corpus.documents=more"))
    found, said = with_stored_corpus(config(f"corpus.documents={place}/docs"))
    assert (Path(str(found.corpus.questions)).name, said) == ("questions.jsonl", "")


def test_a_run_uses_its_explicit_settings_and_else_the_stored_corpus(place: Path):
    assert taken(config(), ingests=True) == ("demo", None)  # a new store
    ingest(config("corpus.documents=docs", "corpus.questions=questions.jsonl"))
    assert taken(config(), ingests=True) == ("docs", "questions.jsonl")
    assert taken(config("corpus.documents=more"), ingests=True) == ("more", None)
    assert taken(config("corpus.documents=docs"), ingests=True) == ("docs", None)
    only = with_stored_corpus(config("corpus.max_documents=1"), ingests=True)[0].corpus
    assert (Path(only.documents).name, only.max_documents) == ("docs", 1)
    assert with_stored_corpus(config("corpus.documents=demo"), ingests=True)[0].corpus.documents == "demo"


def test_the_demo_is_used_without_a_message_and_corpora_of_experiments_are_ignored(place: Path):
    ingest(config("corpus.documents=demo", "corpus.max_documents=2"))
    found, said = with_stored_corpus(config())
    assert (found.corpus.max_documents, said) == (2, "")
    store = Store("store")
    note_latest(store, "corpus", {"documents": "corpus:abc", "layout": CORPUS_LAYOUT}, "abc")
    assert with_stored_corpus(config())[0].corpus.documents == "demo"
    named = config("experiment.name=main")
    assert with_stored_corpus(named)[0] is named


def test_settings_from_a_file_count_as_explicit(place: Path):
    (place / "mine.yaml").write_text("store: store\ncorpus: {documents: more}\n")
    ingest(config("corpus.documents=more"))
    ingest(config("corpus.documents=docs"))
    assert taken(read_config(place / "mine.yaml", None)) == ("more", None)


def test_commands_name_their_corpus_once_on_stderr(place: Path, tiny_model: str):
    ingest(config("corpus.documents=docs", model=tiny_model))
    arguments = ["--set", "store=store", "--set", f"model.name={tiny_model}", "--set", "model.device=cpu"]
    said = CliRunner().invoke(app, ["ask", "--json", "-m", "rag", *arguments, "Who built the Ostrel lamp?"])
    assert said.exit_code == 0, said.output
    assert said.stderr.splitlines() == [
        "Corpus: docs, the one that was last ingested into store. Another: --set corpus.documents=…"
    ]
    found: dict[str, Any] = json.loads(said.stdout)
    assert found["in_prompt"][0] == "lamp"
    told = CliRunner().invoke(app, ["augment", "--show", "lamp", "--json", *arguments])
    assert json.loads(told.stdout)["id"] == "lamp", told.output


def test_a_question_is_answered_by_all_methods_whose_artifacts_exist(place: Path, tiny_model: str):
    ingest(config("corpus.documents=docs", model=tiny_model))
    arguments = ["--set", "store=store", "--set", f"model.name={tiny_model}", "--set", "model.device=cpu"]
    arguments += ["--set", "evaluate.max_new_tokens=3", "--compare"]
    said = CliRunner().invoke(app, ["ask", *arguments, "Who built the Ostrel lamp?"])
    assert said.exit_code == 0, said.output
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["method", "vanilla", "rag"]
    lines = said.stderr.splitlines()
    assert lines[1].startswith("vanilla, from the model alone; ")
    assert lines[2].startswith("rag, from lamp, ")
    assert lines[3].startswith("Left out: prag (no document has an adapter yet); prag-combine (")
    assert "dyprag (no translator has been trained yet)" in lines[3]
    nothing = CliRunner().invoke(app, ["ask", "--json", *arguments, "xyzzy"])
    assert [(one["method"], one["retrieved"]) for one in json.loads(nothing.stdout)] == [("vanilla", []), ("rag", [])]
    said = CliRunner().invoke(app, ["ask", "-m", "rag", *arguments[:-1], "xyzzy"])
    assert "rag, from the model alone: no document shares a word with the question" in said.stderr


def test_a_stage_for_a_missing_corpus_lists_the_stored_ones(place: Path):
    with pytest.raises(StoreError, match="corpus demo has not been ingested into it"):
        Stage(config().resolved(), "ask").require_corpus()
