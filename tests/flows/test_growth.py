"""A growing and shrinking corpus: only new documents are processed, and removed ones are no longer retrieved."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import TEXTS, outcome, write_jsonl

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document, Skipped, Unread
from dyprag.errors import DocumentError, StoreError
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.tables import read_rows
from dyprag.tasks.collect import collect
from dyprag.tasks.ingest import Difference, difference, maybe_unread

NEW = "The Vashti mill was raised in 1871 by Otto Brandl. It grinds rye beside the Elm brook."


def test_documents_are_compared_by_content():
    before = {"a": "1", "b": "2", "c": "3", "d": "4", "twin": "4"}
    now = {"a": "1", "b": "2'", "moved": "3", "d": "4", "e": "5", "copy": "1"}
    found = difference(before, now)
    assert found == Difference(["e", "copy"], ["b"], {"moved": "c"}, ["twin"], 2)
    assert str(found) == "2 new, 1 changed, 1 renamed, 1 removed"
    assert found.rows()[0] == {"difference": "removed", "document": "twin", "before": "twin"}
    assert found.rows()[2] == {"difference": "renamed", "document": "moved", "before": "c"}
    assert str(difference(now, now)) == "nothing new"
    assert str(difference({}, now)) == "6 new"
    files = {"a": "a.md", "b": "b.md", "c": "c.md"}  # whose names were ids once
    found = difference({"a.md": "1", "b.md": "2", "gone.md": "3"}, {"a": "1", "b": "2'", "c": "4"}, files)
    assert found == Difference(["c"], ["b"], {"a": "a.md"}, ["gone.md"], 0)


def test_a_document_that_may_be_in_an_unreadable_file_is_not_removed():
    def gone(*unread: Unread, skipped: tuple[Skipped, ...] = ()) -> set[str]:
        corpus = Corpus((Document("here", "x"),), unread=unread, skipped=skipped)
        return maybe_unread(files, files, corpus) | maybe_unread({"row": "1"}, {}, corpus)

    files = {
        "here": "here.txt", "lamp": "lamp.txt", "long#1": "long.txt", "deep/mill": "deep/mill.md", "7": "rows.csv",
        "8#2": "rows.csv",
    }  # fmt: skip
    fault = DocumentError("x", "y", "z")
    assert gone() == set()
    assert gone(Unread("lamp.txt", fault, "lamp.txt")) == {"lamp"}
    assert gone(Unread("long.txt", fault, "long.txt")) == {"long#1"}
    assert gone(Unread("deep/", fault, "deep/")) == {"deep/mill"}
    assert gone(Unread("rows.csv, line 3", fault, "rows.csv")) == {"7", "8#2"}
    assert gone(Unread("8", fault, "rows.csv", named=True)) == {"8#2"}
    assert gone(Unread("line 3", fault)) == {"row"}  # of the one file that the location is
    assert gone(skipped=(Skipped("lamp.txt", "it contains no text"),)) == {"lamp"}
    found = difference({"a": "1", "b": "2", "c": "3"}, {"a": "1"}, unread={"b"})
    assert found == Difference(removed=["c"], unchanged=1, unread=["b"])
    assert str(found) == "1 removed, 1 not read"
    assert {row["difference"] for row in found.rows()} == {"removed", "not read"}


def table_of(flow_run_id: Any, key: str = "corpus-difference") -> Any:
    """A flow run's table of changes on the server, with its description."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter

    with get_client(sync_client=True) as client:
        of_run = FlowRunFilter.model_validate({"id": {"any_": [flow_run_id]}})
        named = ArtifactFilter.model_validate({"key": {"any_": [key]}})
        (found,) = client.read_artifacts(artifact_filter=named, flow_run_filter=of_run)
    return json.loads(str(found.data)), found.description


@pytest.fixture
def docs(settings: dict[str, Any], tmp_path: Path) -> Path:
    """A folder of three text files that the settings refer to."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text)
    settings["corpus"] = {"documents": str(folder), "held_out": 0}
    settings["evaluate"] |= {"passages": 1}
    return folder


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_only_new_documents_are_processed_and_removed_ones_are_not_retrieved(settings: dict[str, Any], docs: Path):
    from dyprag.cli.ask import StoredCorpus
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize

    config = PipelineConfig.model_validate(settings)
    store = Store(config.store)

    def look(*flows: Any) -> tuple[list[dict[str, Any]], Any]:
        states = [flow(config, return_state=True) for flow in (ingest, *flows)]
        return [outcome(state)[0] for state in states], table_of(states[0].state_details.flow_run_id)

    def made(summaries: list[dict[str, Any]]) -> list[int]:
        return [summary["done"] - summary["cached"] for summary in summaries]

    def retrieved(method: str) -> Sequence[str]:
        return StoredCorpus(config).answer("Who built the Ostrel lamp?", method).as_dict()["retrieved"]

    summaries, (rows, _) = look(augment, parametrize)
    assert made(summaries) == [3, 3, 3]
    assert summaries[0]["note"] == "3 new"
    assert {row["document"] for row in rows} == {"lamp", "bridge", "book"}

    (docs / "mill.txt").write_text(NEW)  # new
    (docs / "bridge.txt").write_text(TEXTS["bridge"] + " It was closed in 1990.")  # changed
    (docs / "lamp.txt").rename(docs / "light.txt")  # renamed: its file's name is its title, which is content
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 nonsense")
    elsewhere = config.model_copy(update={"corpus": config.corpus.model_copy(update={"documents": "x"})})
    with pytest.raises(StoreError, match="Run dyprag ingest"):  # it was never looked at
        StoredCorpus(elsewhere).answer("Who?", "rag")
    assert retrieved("rag") == ["lamp"]  # until it is ingested
    summaries, (rows, description) = look(augment, parametrize)
    assert summaries[0]["note"] == "2 new, 1 changed, 1 removed"
    assert (summaries[0]["done"], summaries[0]["failed"]) == (4, 1)
    assert "1 unchanged since the last ingest" in description
    assert {(row["difference"], row["document"]) for row in rows} == {
        ("removed", "lamp"), ("changed", "bridge"), ("new", "light"), ("new", "mill"),
    }  # fmt: skip
    assert made(summaries) == [3, 3, 3]
    assert summaries[2]["cached"] == 1
    failures = Catalogue(store).query("SELECT document_id, error FROM failures")
    assert [row["document_id"] for row in failures] == ["broken.pdf"]
    assert str(docs / "broken.pdf") in failures[0]["error"]
    assert retrieved("prag") == ["light"]

    (docs / "light.txt").unlink()
    (docs / "broken.pdf").unlink()
    summaries, (rows, _) = look(augment)
    assert rows == [{"difference": "removed", "document": "light", "before": "light"}]
    assert made(summaries) == [0, 0]
    assert "light" not in retrieved("rag")
    collected = collect(config, dry_run=False)
    assert {kind: found["artifacts"] for kind, found in collected["kinds"].items()} == {
        "adapter": 3, "corpus": 2, "qa_pairs": 3, "rewrites": 3,
    }  # fmt: skip
    summaries, (rows, _) = look(augment, parametrize)
    assert (summaries[0]["note"], rows) == ("nothing new", [])
    assert made(summaries) == [0, 0, 0]


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_renamed_document_is_recognised_by_its_content(settings: dict[str, Any], tmp_path: Path):
    from dyprag.flows.ingest import ingest

    rows = [{"id": name, "text": text} for name, text in TEXTS.items()]
    settings["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}
    config = PipelineConfig.model_validate(settings)
    ingest(config)
    write_jsonl(tmp_path / "docs.jsonl", [{**rows[0], "id": "light"}, *rows[1:]])
    state = ingest(config, return_state=True)
    (summary,) = outcome(state)
    assert (summary["note"], summary["cached"]) == ("1 renamed", 3)
    (row,) = table_of(state.state_details.flow_run_id)[0]
    assert row == {"difference": "renamed", "document": "light", "before": "lamp"}


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_artifacts_are_kept_when_ids_lose_their_file_extension(
    settings: dict[str, Any], docs: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
):
    import dyprag.corpora.locations
    from dyprag.cli.documents import unread_rows
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize
    from dyprag.flows.summary import summaries_of
    from dyprag.tasks.contents import documents_in_store, one_document

    config = PipelineConfig.model_validate(settings)
    with monkeypatch.context() as earlier:  # as ids were made before
        earlier.setattr(dyprag.corpora.locations, "_ids", lambda names: {name: name for name in names})
        for flow in (ingest, augment, parametrize):
            flow(config)
    (docs / "table.csv").write_text("a,b\n1,2\n")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 nonsense")
    states = [flow(config, return_state=True) for flow in (ingest, augment, parametrize)]
    summaries = [summaries_of(state)[0] for state in states]
    assert summaries[0].note == "3 renamed; 1 skipped (table.csv)"
    assert [summary.done - summary.cached for summary in summaries] == [0, 0, 0]
    rows, _ = table_of(states[0].state_details.flow_run_id)
    assert {(row["before"], row["document"]) for row in rows} == {(f"{name}.txt", name) for name in TEXTS}
    skipped, description = table_of(states[0].state_details.flow_run_id, "corpus-skipped")
    assert skipped == [{"file": "table.csv", "reason": "it has no column 'id' and no column 'text'"}]
    assert description == "1 file contains no document."
    assert "ingest: table.csv is skipped: it has no column 'id' and no column 'text'" in messages

    found = documents_in_store(config)
    assert [(one["id"], one["title"], one["source"]) for one in found["documents"]] == [
        (name, name, f"{name}.txt") for name in sorted(TEXTS)
    ]
    assert one_document("lamp", found)["passages"] == [{"id": "lamp", "text": TEXTS["lamp"]}]
    assert [row[:2] for row in unread_rows(found)] == [["failed", "broken.pdf"], ["skipped", "table.csv"]]


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_temporarily_unreadable_document_keeps_its_artifacts(settings: dict[str, Any], tmp_path: Path):
    from dyprag.flows.ingest import ingest
    from dyprag.storage.garbage import garbage

    path = tmp_path / "docs.csv"
    sound = "id,text\n1,The lamp is old.\n2,The mill is new.\n3,The well is deep.\n"
    settings["corpus"] = {"documents": str(path)}
    config = PipelineConfig.model_validate(settings)
    mill = Document("2", "The mill is new.")
    tables = {
        sound: "3 new",
        sound.replace("The mill", "The mill, so called,"): "1 not read",
        sound.replace("The mill", '"The mill" so'): "1 not read",
        sound.replace("2,The mill is new.\n", ""): "1 removed",
        sound + "4,": "2 new",
    }
    store = Store(config.store)
    for data, note in tables.items():
        path.write_text(data)
        (summary,) = outcome(ingest(config, return_state=True))
        assert summary["note"] == note
        adapter = Record("adapter", "ab" * 16, [], {}, mill.key, mill.id)
        store.write(adapter, lambda folder: (folder / "x").write_bytes(b"1") and None)
        assert ("adapter" in {piece.kind for piece in garbage(store)}) == (note == "1 removed")


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_retried_ingest_counts_each_document_once(settings: dict[str, Any], tmp_path: Path):
    from prefect import flow

    from dyprag.flows.ingest import ingest_corpus

    rows = [{"id": name, "text": text} for name, text in TEXTS.items()]
    settings["corpus"] = {"documents": str(tmp_path / "docs.jsonl")}
    config = PipelineConfig.model_validate(settings)

    @flow
    def tried_twice() -> None:  # under the id of one run, as after Retry in the UI
        for some in ([*rows, {"id": "hollow"}], rows):
            write_jsonl(tmp_path / "docs.jsonl", some)
            ingest_corpus(config)

    tried_twice()
    (counted, *_) = Catalogue(Store(config.store)).progress()
    assert (counted["stage"], counted["done"], counted["failed"]) == ("ingest", 3, 0)


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.slow  # seven runs
def test_the_translator_is_kept_until_enough_documents_are_new_to_it(settings: dict[str, Any], tmp_path: Path):
    from dyprag.flows.augment import augment
    from dyprag.flows.evaluate import evaluate
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize
    from dyprag.flows.train_translator import train_translator

    rows = [{"id": f"d{n}", "text": f"{text} It is number {n}."} for n in range(4) for text in TEXTS.values()]
    rows = [{**row, "id": f"d{n}"} for n, row in enumerate(rows)]
    asked = [{"question": f"Which is number {n}?", "answer": str(n), "documents": f"d{n}"} for n in (0, 6)]
    settings["corpus"] = {
        "documents": write_jsonl(tmp_path / "docs.jsonl", rows[:6]), "held_out": 0,
        "questions": write_jsonl(tmp_path / "questions.jsonl", asked[:1]),
    }  # fmt: skip
    settings["augment"] |= {"rewrites": 0, "qa_pairs": 1}
    settings["evaluate"] |= {"methods": ["dyprag"], "passages": 1}
    store = Store(settings["store"])

    def trained(documents: list[dict[str, Any]], *more: Any) -> tuple[dict[str, Any], int]:
        write_jsonl(tmp_path / "docs.jsonl", documents)
        config = PipelineConfig.model_validate(settings)
        states = [flow(config, return_state=True) for flow in (ingest, augment, parametrize, train_translator, *more)]
        summary = outcome(states[3])[1]
        return summary, sum(record.kind == "translator" for record in store.records())

    assert trained(rows[:6])[1] == 1
    write_jsonl(tmp_path / "questions.jsonl", asked)
    summary, translators = trained([*rows[:4], *rows[5:7]], evaluate)  # 1 of 6 is new; what is gone is no reason
    assert (translators, summary["cached"]) == (1, 1)
    assert summary["note"] == "the previous translator is kept: 1 of 6 documents are new to it"
    catalogue = Catalogue(store)
    (run_id,) = {row["run_id"] for row in catalogue.results()}
    assert [row["split"] for row in catalogue.scores(run_id)] == ["seen", "unseen"]
    summary, translators = trained(rows[:8])  # 2 of 8 are
    assert (translators, summary["cached"], summary["note"]) == (2, 0, "")

    settings["translator"] |= {"retrain": 0.5, "retrain_loss": 9.0}
    summary, translators = trained(rows[:9])  # few are new, and their loss is not ten times that of the others
    assert (translators, summary["cached"]) == (2, 1)
    told = re.fullmatch(
        r"the previous translator is kept: 1 of 9 documents are new to it; "
        r"its loss on new documents is ([\d.]+) % (above|below) .+",
        summary["note"],
    )
    assert told
    settings["translator"] |= {"retrain_loss": 0.0}
    summary, again = trained(rows[:9])
    assert again == (3 if told[2] == "above" else 2)
    assert summary["note"].endswith(f"its loss on new documents is {told[1]} % {told[2]} that on the others")

    settings["translator"] |= {"retrain": 0, "retrain_loss": None, "tune": True}
    summary, translators = trained(rows[:10])  # one more: the others were seen by the one that it begins with
    assert (translators, summary["note"]) == (again + 1, "starts from the previous weights")
    (tuned,) = [r for r in store.records() if r.kind == "translator" and r.measures["documents"] == 10]
    before = store.find("translator", tuned.inputs[-1])
    assert before
    assert before.measures["documents"] == again + 6
    first = {r.key: read_rows(store.open("translator", r.key) / "curve.parquet")[0]["total"] for r in (before, tuned)}
    assert first[tuned.key] < first[before.key], "it does not begin where the last one ended"
    summary, translators = trained(rows[:10], evaluate)
    assert (translators, summary["cached"], summary["note"]) == (again + 1, 1, "")
