"""Artifacts: written atomically, checked when read, and the source of the catalogue."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyprag.corpora.documents import Augmentation, Corpus, Document, QAPair, Question
from dyprag.corpora.products import Accepted, Dropped, Product
from dyprag.errors import ArtifactError, StoreError
from dyprag.storage.artifacts import RECORD, Record, Store
from dyprag.storage.tables import (
    read_augmentation,
    read_corpus,
    read_embedding,
    read_product,
    write_corpus,
    write_embedding,
    write_product,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, key: str = "ab" * 16, text: str = "hello") -> Record:
    return store.write(Record("rewrites", key, [], {}), lambda folder: _write(folder, text))


def _write(folder: Path, text: str) -> None:
    (folder / "data.txt").write_text(text)


def test_a_written_artifact_is_found_with_its_size_and_checksum(store: Store):
    record = put(store)
    assert store.find("rewrites", record.key) == record
    assert record.bytes == 5
    assert (store.open("rewrites", record.key) / "data.txt").read_text() == "hello"


def test_files_have_the_permissions_of_their_folder(store: Store):
    def fill(folder: Path) -> None:
        _write(folder, "hello")
        (folder / "data.txt").chmod(0o600)  # as safetensors leaves its files

    record = store.write(Record("rewrites", "cd" * 16, [], {}), fill)
    folder = store.open("rewrites", record.key)
    assert (folder / "data.txt").stat().st_mode & 0o666 == folder.stat().st_mode & 0o666


def test_a_writer_that_fails_leaves_nothing(store: Store):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        store.write(Record("adapter", "cd" * 16, [], {}), fail)
    assert store.find("adapter", "cd" * 16) is None
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def test_a_killed_writer_leaves_no_artifact_and_its_files_are_swept(store: Store):
    script = (
        "import os, sys; from dyprag.storage.artifacts import *\n"
        "def fill(folder):\n    (folder / 'x').write_text('half'); os.kill(os.getpid(), 9)\n"
        "Store(sys.argv[1]).write(Record('adapter', 'ef' * 16, [], {}), fill)"
    )
    process = subprocess.run([sys.executable, "-c", script, str(store.root)], check=False)
    assert process.returncode == -9
    assert store.find("adapter", "ef" * 16) is None
    assert list(store.root.glob("*/*/.writing-*"))
    store.sweep()  # too young: another process may be writing it
    assert list(store.root.glob("*/*/.writing-*"))
    store.sweep(older_than=-1)
    assert not list(store.root.glob("*/*/.writing-*"))


def test_the_second_writer_of_a_key_gets_the_first_ones_artifact(store: Store):
    first = put(store, text="first")
    assert put(store, text="second") == first
    assert (store.open("rewrites", first.key) / "data.txt").read_text() == "first"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "record"])
def test_damage_is_detected_reported_and_moved_aside(store: Store, damage: str, caplog: pytest.LogCaptureFixture):
    record = put(store)
    path = store.folder("rewrites", record.key) / "data.txt"
    match damage:
        case "truncated":
            os.truncate(path, 3)
        case "flipped":
            path.write_text("jello")
        case "missing":
            path.unlink()
        case "record":
            (path.parent / RECORD).write_text("{")
    assert store.find("rewrites", record.key) is None
    assert "made again" in caplog.text
    assert list((store.root / "damaged").iterdir())
    with pytest.raises(ArtifactError, match="missing or damaged"):
        store.open("rewrites", record.key)
    assert put(store).checksum == record.checksum


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match=r"store .*file/store: it cannot be written .*Choose another folder"):
        Store(tmp_path / "file" / "store")


def test_tables_round_trip(tmp_path: Path):
    corpus = Corpus(
        (Document("a", "Text ä", "Title"), Document("b", "")),
        (Question("q", "Who?", ("A", "B"), ("a",), "multihop"),),
    )
    write_corpus(tmp_path, corpus)
    assert read_corpus(tmp_path) == corpus
    write_embedding(tmp_path, [0.5, -1.25])
    assert read_embedding(tmp_path) == [0.5, -1.25]


def test_products_round_trip_with_dropped_items_and_reasons(store: Store):
    pairs = Product(
        (Accepted(QAPair("q", "a", "full"), {"support": 0.9, "by": "likeness"}), Accepted(QAPair("r", "b", "c"))),
        (Dropped(QAPair("s", "t", "u"), "it is the same as another one"),),
    )
    rewrites = Product((Accepted("rewritten", {"recall": 1.0}),), (Dropped("", "it loses 1911"),))
    for kind, key, product in (("rewrites", "aa" * 16, rewrites), ("qa_pairs", "bb" * 16, pairs)):
        store.write(Record(kind, key, [], {}), lambda folder, product=product: write_product(folder, product))
        assert read_product(store.open(kind, key)) == product
    assert read_augmentation(store, ["aa" * 16, "bb" * 16]) == Augmentation(
        ("rewritten",), (QAPair("q", "a", "full"), QAPair("r", "b", "c"))
    )
    assert read_augmentation(store, ["bb" * 16]).rewrites == ()
    with pytest.raises(ArtifactError):
        read_augmentation(store, ["cc" * 16, "bb" * 16])


def test_a_record_is_plain_json(store: Store):
    record = put(store)
    saved = json.loads((store.folder("rewrites", record.key) / RECORD).read_text())
    assert saved["key"] == record.key
    assert saved["files"]["data.txt"]["bytes"] == 5
