"""A corpus and a store in a bucket, on a real local S3 server, with the same code as for a folder."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import TEXTS, outcome, wait_for

from dyprag.config import PipelineConfig
from dyprag.corpora.reader import load_corpus
from dyprag.errors import CorpusError, StoreError
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.garbage import Piece, remove
from dyprag.storage.journal import FOLDER
from dyprag.storage.latest import forget_latest, latest, note_latest

SERVER = (
    "from moto.server import ThreadedMotoServer; import sys\n"
    "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False); server.start()\n"
    "print(server.get_host_and_port()[1], flush=True); sys.stdin.read()"
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server in a separate process."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket's folder with three texts and another file; credentials are in the environment."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "not-to-be-shown",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"corpus-{time.time_ns()}"
    files = s3fs.S3FileSystem()
    files.mkdir(name)
    for text, content in TEXTS.items():
        files.pipe(f"{name}/docs/{text}.txt", content.encode())
    files.pipe(f"{name}/docs/broken.txt", b"caf\xe9")
    rows = "".join(f'{{"id": "{text}", "text": "{content}"}}\n' for text, content in TEXTS.items())
    files.pipe(f"{name}/rows.jsonl", rows.encode())
    return f"s3://{name}"


def test_a_bucket_is_read_like_a_folder(bucket: str):
    import s3fs

    corpus = load_corpus(f"{bucket}/docs")
    assert {document.id: document.text for document in corpus.documents} == TEXTS
    (unread,) = corpus.unread
    assert str(unread.error).startswith(f"corpus {bucket}/docs/broken.txt: it is not UTF-8")
    assert {document.id for document in load_corpus(f"{bucket}/docs/b*.txt").documents} == {"book", "bridge"}
    assert {d.id: d.text for d in load_corpus(f"{bucket}/rows.jsonl").documents} == TEXTS
    files = s3fs.S3FileSystem()
    files.rm(f"{bucket}/docs/lamp.txt")
    files.pipe(f"{bucket}/docs/mill.txt", b"A mill.")
    assert {d.id for d in load_corpus(f"{bucket}/docs").documents} == {"book", "bridge", "mill"}


def test_a_missing_bucket_is_one_error_without_secrets(bucket: str):
    with pytest.raises(CorpusError, match="no such file or folder") as caught:
        load_corpus("s3://nowhere-at-all/docs")
    assert "s3://nowhere-at-all/docs" in str(caught.value)
    assert "not-to-be-shown" not in str(caught.value)


RECORD = Record("adapter", "ab12", [], {"rank": 2}, "d1", "lamp")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Simulate another machine, whose copy of a store is empty."""

    def move(name: str) -> None:
        from dyprag.storage.remote import remote_of
        from dyprag.tasks.worker import worker_for

        monkeypatch.setenv("DYPRAG_CACHE", str(tmp_path / name))
        remote_of.cache_clear()
        worker_for("").close()

    move("here")
    return move


def fill(folder: Path) -> dict[str, Any]:
    (folder / "weights").write_bytes(b"0123456789")
    return {"loss": 0.5}


def names(url: str) -> list[str]:
    """Paths below a URL, without the bucket."""
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True)
    return sorted(path.split("/", 1)[1] for path in files.find(url))


def test_a_store_behind_a_url_is_the_same_on_another_machine(bucket: str, elsewhere: Any):
    url = f"{bucket}/store"
    made = Store(url).write(RECORD, fill)
    note_latest(Store(url), "adapter", {"a": 1}, "ab12")
    kept = [name for name in names(url) if "/latest/" not in name]
    assert kept == ["store/adapter/ab/ab12/record.json", "store/adapter/ab/ab12/weights"]
    elsewhere("there")
    other = Store(url)
    assert not other.root.exists() or not list(other.root.glob("adapter/*"))
    other.refresh()
    assert latest(other, "adapter", {"a": 1}) == "ab12"
    assert (other.count(), list(other.records())) == (1, [made])
    assert not list(other.root.glob("adapter/*")), "to know of it does not take its files"
    assert other.find("adapter", "ab12") == made
    assert (other.folder("adapter", "ab12") / "weights").read_bytes() == b"0123456789"
    assert other.find("adapter", "cd34") is None
    assert forget_latest(other, "adapter", {"a": 1})
    elsewhere("here")
    here = Store(url)
    here.refresh()
    assert latest(here, "adapter", {"a": 1}) is None


def test_a_damaged_local_copy_is_downloaded_and_a_damaged_remote_artifact_made_again(
    bucket: str, elsewhere: Any, messages: list[str]
):
    import s3fs

    url = f"{bucket}/store"
    store, files = Store(url), s3fs.S3FileSystem()
    made = store.write(RECORD, fill)
    weights = store.folder("adapter", "ab12") / "weights"
    weights.write_bytes(b"012345678X")
    assert store.find("adapter", "ab12") == made
    assert weights.read_bytes() == b"0123456789"
    assert "wrong checksum" in messages[0]

    files.pipe(f"{url}/adapter/ab/ab12/weights", b"01234")
    elsewhere("there")
    assert Store(url).find("adapter", "ab12") is None
    assert not [name for name in names(url) if "ab12" in name], "or it would be read again and again"
    Store(url).write(RECORD, fill)
    assert Store(url).find("adapter", "ab12")


def test_an_incomplete_artifact_counts_as_missing(bucket: str, elsewhere: Any):
    import s3fs

    url = f"{bucket}/store"
    Store(url).write(RECORD, fill)
    s3fs.S3FileSystem().rm(f"{url}/adapter/ab/ab12/record.json")
    elsewhere("there")
    assert Store(url).find("adapter", "ab12") is None
    assert Store(url).count() == 0


def test_no_file_name_in_a_record_leaves_its_folder(bucket: str, elsewhere: Any, tmp_path: Path):
    import s3fs

    url, files = f"{bucket}/store", s3fs.S3FileSystem()
    Store(url).write(RECORD, fill)
    place = f"{url}/adapter/ab/ab12/record.json"
    record = json.loads(files.cat(place))
    record["files"] = {"../../../../../stolen": record["files"]["weights"]}
    files.pipe(place, json.dumps(record).encode())
    files.pipe(f"{url}/adapter/ab/ab12/stolen", b"0123456789")
    elsewhere("there")
    assert Store(url).find("adapter", "ab12") is None
    assert not [path for path in tmp_path.rglob("stolen") if "damaged" not in path.parts]


def test_a_local_artifact_that_was_deleted_remotely_is_uploaded_again(bucket: str, elsewhere: Any):
    url = f"{bucket}/store"
    made = Store(url).write(RECORD, fill)
    elsewhere("there")
    remove(Store(url), [Piece("adapter", "ab12", 10, Store(url).folder("adapter", "ab12"))])
    assert names(url) == []
    elsewhere("here")
    assert Store(url).find("adapter", "ab12") == made
    elsewhere("third")
    assert Store(url).find("adapter", "ab12") == made


def test_garbage_collection_deletes_remote_artifacts(bucket: str, elsewhere: Any):
    url = f"{bucket}/store"
    store = Store(url)
    store.write(RECORD, fill)
    elsewhere("there")
    store = Store(url)
    remove(store, [Piece("adapter", "ab12", 10, store.folder("adapter", "ab12"))])
    assert store.find("adapter", "ab12") is None
    assert names(url) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://nowhere-at-all/store", "NoSuchBucket|bucket does not exist"),
        ("s3://name:not-to-be-shown@bucket/store", "a password or a? ?signature"),
        ("nosuch://bucket/store", "no such kind of address|the kind of address is unknown"),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_clear_error(
    bucket: str, elsewhere: Any, url: str, reason: str, tmp_path: Path
):
    with pytest.raises(StoreError, match=reason) as caught:
        Store(url).write(RECORD, fill)
    assert "not-to-be-shown" not in str(caught.value)
    assert not list((tmp_path / "here").rglob("ab12")), "nor is it taken for made here"


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_pipeline_in_a_bucket_continues_on_another_machine(
    bucket: str, elsewhere: Any, settings: dict[str, Any], tmp_path: Path
):
    from dyprag.flows.pipeline import pipeline

    settings["evaluate"] |= {"methods": ["rag", "dyprag"]}
    config = PipelineConfig.model_validate({**settings, "store": f"{bucket}/store"})

    def run() -> dict[str, dict[str, Any]]:
        return {one["stage"]: one for one in outcome(pipeline(config, return_state=True))}

    first, folder = run(), Store(config.store).root
    assert {one["failed"] for one in first.values()} == {0}
    for kind in ("corpus", "rewrites", "qa_pairs", "adapter", "embedding", "translator", "prediction", "latest"):
        there = {name for name in names(f"{bucket}/store") if name.startswith(f"store/{kind}/")}
        here = {f"store/{path.relative_to(folder)}" for path in (folder / kind).rglob("*") if path.is_file()}
        assert there == here != set(), kind
    assert any(name.endswith("report.html") for name in names(f"{bucket}/store/reports"))

    elsewhere("there")
    second = run()
    assert {name: one["done"] - one["cached"] for name, one in second.items() if name != "ingest"} == dict.fromkeys(
        (name for name in first if name != "ingest"), 0
    )
    rows = "SELECT kind, key, checksum FROM artifacts ORDER BY ALL"
    there = Catalogue(Store(config.store)).query(rows)
    elsewhere("here")
    assert there == Catalogue(Store(config.store)).query(rows) != []
    shutil.rmtree(folder)
    assert Catalogue(Store(config.store)).rebuild().lost == []
    assert Catalogue(Store(config.store)).query(rows) == there


def test_paid_responses_are_available_on_another_machine(bucket: str, elsewhere: Any):
    from dyprag.corpora.products import Response
    from dyprag.storage.journal import Journal, responses

    url = f"{bucket}/store"
    answer = Response("r1", "p1", "lamp", "ask 1", "text", "stop", "m", 5, 7, 20, 0.1)
    Journal(Store(url)).add(answer)
    Store(url).save()
    elsewhere("there")
    assert list(responses(Store(url))) == [answer]
    assert (Store(url).root / FOLDER).exists()


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_remote_workers_need_no_shared_folder(bucket: str, elsewhere: Any, settings: dict[str, Any], tmp_path: Path):
    if find_spec("prefect_dask") is None:
        pytest.skip("the extra 'dask' is not installed")
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize

    place = PipelineConfig.model_validate({**settings, "store": f"{bucket}/store"})
    ingest(place)
    augment(place)
    scheduler = str(tmp_path / "scheduler.json")
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", scheduler, "--port", "0"]
    more = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", scheduler, "--nthreads", "1"]
    far = {**os.environ, "DYPRAG_CACHE": str(tmp_path / "far"), "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([*dask, "--no-dashboard"]) as one, subprocess.Popen([*more, "--no-nanny"], env=far) as other:
        try:
            wait_for("the scheduler", Path(scheduler).exists)
            address = json.loads(Path(scheduler).read_text())["address"]
            run = {**settings["run"], "runner": "dask", "address": address}
            config = PipelineConfig.model_validate({**settings, "store": place.store, "run": run})
            (summary,) = outcome(parametrize(config, return_state=True))
        finally:
            other.kill()
            one.kill()
    assert (summary["done"], summary["failed"]) == (3, 0)
    store = Store(place.store)
    assert not list(store.root.glob("adapter/*/*/record.json")), "they were made elsewhere"
    assert len(list((tmp_path / "far").glob("stores/*/adapter/*/*/record.json"))) == 3
    elsewhere("third")
    assert outcome(parametrize(place, return_state=True))[0]["cached"] == 3
