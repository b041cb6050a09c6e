"""Files of passages: both layouts, read as a stream, and invalid rows named by their lines."""

import gzip
import json
import re
from pathlib import Path

import pytest

from dyprag.corpora.documents import Document
from dyprag.corpora.reader import load_corpus
from dyprag.corpora.retrieval import read_passages
from dyprag.errors import CorpusError

DATA = Path(__file__).parents[3] / "shared" / "data"
TSV = (
    b'id\ttext\ttitle\n1\t"Aaron ""the"" Levite\tand more"\tAaron\r\n'
    b'2\tAn \'open\' "word" inside\t\xc3\x89mile\n\n3\t"two\nlines"\t\n'
)
PASSAGES = [
    Document("1", 'Aaron "the" Levite\tand more', "Aaron"),
    Document("2", "An 'open' \"word\" inside", "Émile"),
    Document("3", "two\nlines", ""),
]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_passages_are_read_from_both_layouts(tmp_path: Path, ending: str):
    rows = [{"id": int(p.id), "text": f" {p.text} ", "title": p.title or None} for p in PASSAGES]
    contents = {"psgs.tsv": b"\xef\xbb\xbf" + TSV, "psgs.jsonl": b"\n\n".join(json.dumps(r).encode() for r in rows)}
    for name, content in contents.items():
        path = tmp_path / (name + ending)
        path.write_bytes(gzip.compress(content, mtime=0) if ending else content)
        assert list(read_passages(path)) == PASSAGES


def test_jsonl_passages_equal_the_corpus_documents(tmp_path: Path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"id": 1, "text": " cut \\ud83d "}\n{"id": "a", "text": "", "title": " T "}\n')
    assert tuple(read_passages(path)) == load_corpus(str(path)).documents


def test_passages_are_streamed(tmp_path: Path):
    path = tmp_path / "psgs.tsv"
    path.write_bytes(TSV + b"4\tonly two\n")
    stream = read_passages(path)
    assert [next(stream) for _ in PASSAGES] == PASSAGES
    with pytest.raises(CorpusError, match=r"psgs\.tsv, line 7: it has 2 columns, and the header has 3"):
        next(stream)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", TSV.replace(b"id\ttext", b"id\tbody"), "line 1: the header is not id, text, title"),
        ("a.tsv", TSV + b'4\t"never closed\tT\n5\tx\ty\n', "line 7: it cannot be split"),
        ("a.tsv", TSV + b'4\t"closed" too soon\tT\n', "line 7: it cannot be split"),
        ("a.tsv", TSV + b"\tno id\tT\n", "line 7: the passage has no 'id'"),
        ("a.tsv", TSV + b"4\tcaf\xe9\tT\n", "line 7: it is not UTF-8 (byte 6 of the line is 0xe9)"),
        ("a.jsonl", b'{"id": 1, "text": "x"}\n{"id": 2', "line 2: it is not JSON"),
        ("a.jsonl", b'{"id": 1, "text": "x"}\n[]\n', "line 2: it is not a JSON object"),
        ("a.jsonl", b'{"id": 1}', "line 1: passage '1' has no 'text' string"),
        ("a.tsv.gz", gzip.compress(TSV, mtime=0)[:-20], "it cannot be read after line"),
        ("a.tsv.gz", TSV, "it cannot be read after line 0"),
        ("a.txt", TSV, "only .tsv, .jsonl"),
    ],
)
def test_an_invalid_row_is_named_by_its_line(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=re.escape(message)) as error:
        list(read_passages(tmp_path / name))
    assert name in error.value.subject


def test_a_missing_file_raises_a_clear_error(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"none\.jsonl.*No such file"):
        list(read_passages(tmp_path / "none.jsonl"))


@pytest.mark.skipif(not (DATA / "dpr").exists(), reason="no real data beside the checkout")
def test_dprs_layout_is_read_completely():
    ids_read = [passage.id for passage in read_passages(DATA / "dpr" / "psgs_w100.tsv")]
    assert len(ids_read) == len(set(ids_read)) > 13_000
