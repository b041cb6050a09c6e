"""`dyprag gc` deletes artifacts that no document refers to, keeps all others, and deletes nothing during a run."""

import subprocess
import sys
from pathlib import Path

import pytest

from dyprag.cli.gc import collected_text
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.guard import in_use
from dyprag.storage.latest import note_latest
from dyprag.storage.tables import write_corpus
from dyprag.tasks.collect import collect

HERE, GONE = Document("here", "It is here."), Document("gone", "It is gone.")
KEYS = {name: f"{number:032x}" for number, name in enumerate([
    "old corpus", "corpus", "adapter here", "adapter gone", "other adapter here", "embedding gone", "old translator",
    "translator", "trained on gone", "given", "mean of gone", "mean of here", "zero", "prediction", "passages",
])}  # fmt: skip


def add(store: Store, kind: str, name: str, document: Document | None = None, inputs: tuple[str, ...] = ()) -> None:
    about = (document.key, document.id) if document else ("", "")
    record = Record(kind, KEYS[name], [KEYS[one] for one in inputs], {"width": 4}, *about)
    store.write(record, lambda folder: (folder / "x").write_bytes(b"12345") and None)


def add_corpus(store: Store, name: str, *documents: Document, noted: bool) -> None:
    record = Record("corpus", KEYS[name], [], {})
    store.write(record, lambda folder: write_corpus(folder, Corpus(documents)))
    if noted:
        note_latest(store, "corpus", {"documents": name}, KEYS[name])


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    """A configuration whose store has artifacts of a document that is no longer in the corpus."""
    store = Store(tmp_path / "store")
    add_corpus(store, "old corpus", HERE, GONE, noted=False)
    add_corpus(store, "corpus", HERE, noted=True)
    add(store, "adapter", "adapter here", HERE)
    add(store, "adapter", "other adapter here", HERE)  # of another configuration
    add(store, "adapter", "adapter gone", GONE)
    add(store, "embedding", "embedding gone", GONE)
    add(store, "translator", "trained on gone", None, ("adapter here", "adapter gone"))
    add(store, "translator", "old translator", None, ("adapter here",))
    add(store, "translator", "given")
    add(store, "translator", "translator", None, ("adapter here", "adapter gone"))  # kept while little is new
    note_latest(store, "translator", {"width": 4}, KEYS["translator"])
    add(store, "adapter", "mean of gone", None, ("adapter here", "adapter gone"))
    add(store, "adapter", "mean of here", None, ("adapter here",))
    add(store, "adapter", "zero")
    add(store, "prediction", "prediction", None, ("adapter gone",))
    add(store, "passages", "passages")
    catalogue = Catalogue(store)
    catalogue.prepare()
    catalogue.add_documents(KEYS["old corpus"], [HERE, GONE])
    for name in ("old corpus", "corpus"):
        index = store.root / "indexes" / KEYS[name]
        index.mkdir(parents=True)
        (index / "data").write_bytes(b"123")
    return PipelineConfig(store=str(store.root))


def there(config: PipelineConfig) -> set[str]:
    names = {key: name for name, key in KEYS.items()}
    return {names[record.key] for record in Store(config.store).records()}


def test_unreferenced_artifacts_are_deleted_and_the_others_kept(config: PipelineConfig):
    goes = {
        "old corpus", "adapter gone", "embedding gone", "trained on gone", "old translator", "mean of gone", "passages",
    }  # fmt: skip
    planned = collect(config, dry_run=True)
    assert (planned["deleted"], planned["artifacts"]) == (False, len(goes) + 1)  # and an index
    assert there(config) == KEYS.keys()
    assert planned["kinds"]["adapter"] == {"artifacts": 2, "bytes": 10}
    assert planned["kinds"]["index"] == {"artifacts": 1, "bytes": 3}
    assert collected_text(planned).startswith("Would be deleted: 8 artifacts, ")
    done = collect(config, dry_run=False)
    assert done == {**planned, "deleted": True}
    assert there(config) == KEYS.keys() - goes
    store = Store(config.store)
    assert [path.name for path in (store.root / "indexes").iterdir()] == [KEYS["corpus"]]
    assert Catalogue(store).verify()[1] == []
    assert Catalogue(store).query("SELECT document_id FROM documents WHERE corpus_key = ?", [KEYS["old corpus"]]) == []
    assert collected_text(collect(config, dry_run=False)) == "Nothing to delete: every artifact is in use."


def test_nothing_is_deleted_during_a_run(config: PipelineConfig):
    hold = (
        "import sys, time; from dyprag.storage.artifacts import Store; from dyprag.storage.guard import in_use\n"
        "with in_use(Store(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, config.store], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with in_use(Store(config.store)):  # runs share it
            pass
        with pytest.raises(StoreError, match=r"another run is using it. Wait for that run to finish, or stop it"):
            collect(config, dry_run=False)
        assert there(config) == KEYS.keys()
        other.kill()
    assert collect(config, dry_run=False)["artifacts"] == 8


def test_nothing_is_deleted_if_the_documents_are_not_known(config: PipelineConfig, tmp_path: Path):
    store = Store(config.store)
    (store.folder("corpus", KEYS["corpus"]) / "documents.parquet").write_bytes(b"")
    with pytest.raises(StoreError, match=r"is damaged or missing\. Run: dyprag ingest"):
        collect(config, dry_run=False)
    (store.root / "latest" / "corpus-of-another-location.json").write_bytes(b"")  # as a power cut may leave it
    with pytest.raises(StoreError, match=r"corpus-of-another-location\.json cannot be read"):
        collect(config, dry_run=True)
    with pytest.raises(StoreError, match=r"nothing has been ingested into it\. Run: dyprag ingest"):
        collect(PipelineConfig(store=str(tmp_path / "empty")), dry_run=True)
