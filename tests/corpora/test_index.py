"""The index on disk: its scores, its agreement with memory, and what happens to a damaged or incomplete one."""

import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from searching import DOCUMENTS, ids, okapi

from dyprag.corpora.documents import Document
from dyprag.corpora.reader import load_corpus
from dyprag.corpora.retrieval import BM25Retriever, IndexedBM25, build_index, is_built, read_passages, retriever_for
from dyprag.corpora.retrieval import index as index_module
from dyprag.errors import ArtifactError, StoreError

DATA = Path(__file__).parents[3] / "shared" / "data"


def test_an_index_of_an_earlier_version_is_rebuilt(tmp_path: Path):
    folder, documents = tmp_path / "index", [Document("a", "灯塔由周远建造。")]
    build_index(folder, documents)
    description = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**description, "format": 1}))
    assert not is_built(folder)
    with pytest.raises(ArtifactError, match=r"by an earlier version of dyprag, .* Run dyprag ingest again"):
        IndexedBM25(folder)
    build_index(folder, documents)
    assert is_built(folder)
    assert ids(IndexedBM25(folder), "周远", 1) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8), min_size=1, max_size=12), data=st.data())
def test_the_index_computes_the_formulas_scores(tmp_path: Path, texts: list[list[str]], data: st.DataObject):
    asked = data.draw(st.lists(st.sampled_from("abcdefghz"), max_size=5))
    folder = tmp_path / os.urandom(8).hex()
    build_index(folder, [Document(str(n), " ".join(text)) for n, text in enumerate(texts)], 15_000_000)
    mean = sum(map(len, texts)) / len(texts)
    expected = []  # k1 = 1.2, b = 0.75; lengths below 40 are kept exactly
    for number, text in enumerate(texts):
        score = 0.0
        for word in asked:
            inside, frequency = sum(word in other for other in texts), text.count(word)
            weight = math.log(1 + (len(texts) - inside + 0.5) / (inside + 0.5))
            score += frequency and weight * 2.2 * frequency / (frequency + 1.2 * (0.25 + 0.75 * len(text) / mean))
        expected.append((-score, number))
    expected = [(score, number) for score, number in expected if score < 0]
    found = IndexedBM25(folder).search(" ".join(asked), len(texts))
    assert [-item.score for item in found] == pytest.approx([score for score, _ in sorted(expected)], rel=1e-5)
    again = sorted((-item.score, int(item.document.id)) for item in found)
    assert [(-item.score, int(item.document.id)) for item in found] == again


def test_many_segments_give_the_same_results_as_one(tmp_path: Path):
    documents = [
        Document(str(n), f"w{n % 7} w{n % 11} w{n % 1000} " + " ".join(f"v{n}x{k}" for k in range(40)))
        for n in range(12_000)
    ]
    build_index(tmp_path / "many", documents, 15_000_000)
    build_index(tmp_path / "one", documents)
    many, one = IndexedBM25(tmp_path / "many"), IndexedBM25(tmp_path / "one")
    assert len(list((tmp_path / "many").glob("*.store"))) > 1 == len(list((tmp_path / "one").glob("*.store")))
    for question in ("w3", "w3 w10", "w1 w999", "v5x5 w5"):
        assert many.search(question, 10) == one.search(question, 10)
    assert ids(many, "w6", 5) == sorted(ids(many, "w6", 12_000)[:5], key=int)


def agreement(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[float, float]:
    """Compare two retrievers: the share of equal first passages, and the mean overlap of the first three."""
    same, shared = zip(*((one[0] == other[0], len({*one} & {*other}) / 3) for one, other in pairs), strict=True)
    return sum(same) / len(pairs), sum(shared) / len(pairs)


def test_the_index_agrees_with_memory_except_for_k1(tmp_path: Path):
    documents, questions = load_corpus("demo").documents, [q.question for q in load_corpus("demo").questions]
    build_index(tmp_path / "index", documents)
    ours = IndexedBM25(tmp_path / "index")
    found = [ids(ours, question, 3) for question in questions]
    index = okapi(documents)

    def best(question: str) -> list[str]:
        scores = index.get_scores(re.findall(r"\w+", question.lower()))
        return [documents[n].id for n in sorted(range(len(documents)), key=lambda n: -scores[n])[:3]]

    same, shared = agreement([(one, best(question)) for one, question in zip(found, questions, strict=True)])
    print(f"the same first document {same:.3f}, shared of three {shared:.3f}")
    assert same > 0.95
    assert shared > 0.9
    index.k1 = 1.2
    same, shared = agreement([(one, best(question)) for one, question in zip(found, questions, strict=True)])
    print(f"with tantivy's k1: {same:.3f}, {shared:.3f}")
    assert same > 0.98
    assert shared > 0.95


@pytest.mark.skipif(not (DATA / "2wikimultihopqa").exists(), reason="no real data beside the checkout")
def test_the_index_agrees_mostly_with_memory_on_real_questions(tmp_path: Path):
    documents = list(read_passages(DATA / "2wikimultihopqa" / "passages.jsonl"))
    build_index(tmp_path / "index", documents)
    pair = BM25Retriever(documents), IndexedBM25(tmp_path / "index")
    lines = (DATA / "2wikimultihopqa" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    found = [(ids(pair[0], question, 3), ids(pair[1], question, 3)) for question in questions]
    same, shared = agreement(found)
    print(f"the same first passage {same:.3f}, shared of three {shared:.3f}")  # 0.953, 0.943
    assert same > 0.93
    assert shared > 0.92


def test_an_index_exists_completely_or_not_at_all(tmp_path: Path):
    def broken() -> Iterator[Document]:
        yield from DOCUMENTS * 100
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "index", broken())
    assert list(tmp_path.iterdir()) == []
    assert build_index(tmp_path / "deep" / "index", DOCUMENTS) == 5
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["index"]
    with pytest.raises(ArtifactError, match="the path already exists"):
        build_index(tmp_path / "deep" / "index", DOCUMENTS)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        build_index(tmp_path / "file" / "index", DOCUMENTS)


def test_two_concurrent_builds_of_the_same_index_both_succeed(tmp_path: Path):
    meet = threading.Barrier(2, timeout=30)

    def documents() -> Iterator[Document]:
        yield from DOCUMENTS
        meet.wait()

    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(build_index(tmp_path / "index", documents()))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [5, 5]
    assert ids(IndexedBM25(tmp_path / "index"), "lamp", 1) == ["lamp"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_damaged_or_incomplete_index_raises_one_clear_error(tmp_path: Path):
    build_index(tmp_path / "sound", DOCUMENTS)
    IndexedBM25(tmp_path / "sound").verify()
    names = [name for name in os.listdir(tmp_path / "sound") if not name.endswith(".lock")]
    for number, name in enumerate(names):
        for damage in ("missing", "cut", "changed"):
            folder = tmp_path / f"{number}-{damage}"
            shutil.copytree(tmp_path / "sound", folder)
            content = (folder / name).read_bytes()
            middle = len(content) // 2
            if damage == "missing":
                (folder / name).unlink()
            elif damage == "cut":
                (folder / name).write_bytes(content[:middle])
            else:
                (folder / name).write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
            with pytest.raises(
                ArtifactError,
                match=r"(?s)^index .*Delete the folder, then run the command again: it builds the index\.$",
            ):
                IndexedBM25(folder).verify()
    with pytest.raises(ArtifactError, match="there is no such folder"):
        IndexedBM25(tmp_path / "nothing")


def test_damage_found_while_searching_raises_the_same_error(tmp_path: Path):
    build_index(tmp_path / "index", DOCUMENTS)
    store = next((tmp_path / "index").glob("*.store"))
    store.write_bytes(b"\xff" * 200 + store.read_bytes()[200:])
    with pytest.raises(ArtifactError, match="cannot be read"):
        IndexedBM25(tmp_path / "index").search("lamp", 3)


def test_the_corpus_size_selects_the_retriever_and_an_index_serves_only_its_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "index"
    assert isinstance(retriever_for(DOCUMENTS, folder), BM25Retriever)
    assert not folder.exists()
    monkeypatch.setattr(index_module, "LARGE", len(DOCUMENTS))
    assert ids(retriever_for(DOCUMENTS, folder), "lamp", 1) == ["lamp"]
    built = (folder / "index.json").stat().st_mtime_ns
    assert isinstance(retriever_for(DOCUMENTS, folder), IndexedBM25)
    assert (folder / "index.json").stat().st_mtime_ns == built
    with pytest.raises(ArtifactError, match="built from other documents"):
        retriever_for(DOCUMENTS[::-1], folder)
