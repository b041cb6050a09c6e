"""A corpus in a bucket: a real server that speaks S3, on loopback; the same code as for a folder."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from conftest import TEXTS

from dyprag.corpus import load_corpus
from dyprag.errors import CorpusError

SERVER = (
    "from moto.server import ThreadedMotoServer; import sys\n"
    "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False); server.start()\n"
    "print(server.get_host_and_port()[1], flush=True); sys.stdin.read()"
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a folder in a bucket with three texts and a file that is none; credentials are in the environment."""
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


def test_a_bucket_is_read_as_a_folder_is(bucket: str):
    import s3fs

    corpus = load_corpus(f"{bucket}/docs")
    assert {document.id: document.text for document in corpus.documents} == {f"{n}.txt": t for n, t in TEXTS.items()}
    (unread,) = corpus.unread
    assert str(unread.error).startswith(f"corpus {bucket}/docs/broken.txt: it is not UTF-8")
    assert {document.id for document in load_corpus(f"{bucket}/docs/b*.txt").documents} == {"book.txt", "bridge.txt"}
    assert {d.id: d.text for d in load_corpus(f"{bucket}/rows.jsonl").documents} == TEXTS
    files = s3fs.S3FileSystem()
    files.rm(f"{bucket}/docs/lamp.txt")
    files.pipe(f"{bucket}/docs/mill.txt", b"A mill.")
    assert {d.id for d in load_corpus(f"{bucket}/docs").documents} == {"book.txt", "bridge.txt", "mill.txt"}


def test_a_bucket_that_is_not_there_is_one_error_without_secrets(bucket: str):
    with pytest.raises(CorpusError, match="no such file or folder") as caught:
        load_corpus("s3://nowhere-at-all/docs")
    assert "s3://nowhere-at-all/docs" in str(caught.value)
    assert "not-to-be-shown" not in str(caught.value)
