"""Retrieval: BM25 in memory compared with rank_bm25, the index on disk, and the files of passages."""

import gzip
import json
import math
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import TEXTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from dyprag.corpora.documents import Document
from dyprag.corpora.reader import load_corpus
from dyprag.corpora.retrieval import (
    BM25Retriever,
    IndexedBM25,
    Retriever,
    among_given,
    build_index,
    is_built,
    read_passages,
    recall,
    retriever_for,
)
from dyprag.corpora.retrieval import index as index_module
from dyprag.errors import ArtifactError, CorpusError, StoreError

DATA = Path(__file__).parents[3] / "shared" / "data"
DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()] + [
    Document("river", "The river Osk is 90 kilometres long. It ends at Brevik Harbour.", "Osk"),
    Document("town", "Dunmere lies on the Osk. Greta Olmsted was born there."),
]
Make = Callable[[Sequence[Document]], Retriever]


@pytest.fixture(params=["memory", "index"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """A factory of each kind of retriever; both have to fulfil the protocol."""

    def indexed(documents: Sequence[Document]) -> IndexedBM25:
        folder = tmp_path / f"index-{len(list(tmp_path.iterdir()))}"
        assert build_index(folder, iter(documents), 15_000_000) == len(documents)
        return IndexedBM25(folder)

    return BM25Retriever if request.param == "memory" else indexed


def ids(retriever: Retriever, question: str, count: int) -> list[str]:
    """Return the ids of the retrieved documents, best first."""
    return [item.document.id for item in retriever.search(question, count)]


def okapi(documents: Sequence[Document]) -> BM25Okapi:
    """Compute rank_bm25's scores for the same words with Lucene's inverse document frequency, without our code."""
    index = BM25Okapi([re.findall(r"\w+", f"{d.title}\n{d.text}".lower()) for d in documents])
    inside = Counter(word for frequencies in index.doc_freqs for word in frequencies)
    index.idf = {word: math.log(1 + (len(documents) - n + 0.5) / (n + 0.5)) for word, n in inside.items()}
    return index


def test_scores_and_order_are_those_of_rank_bm25_with_a_frequency_that_is_never_negative():
    question = "Which river does the Quarn bridge, built by Olmsted, CROSS at Dunmere?"
    scores = okapi(DOCUMENTS).get_scores(re.findall(r"\w+", question.lower()))
    found = BM25Retriever(DOCUMENTS).search(question, 5)
    assert [item.score for item in found] == sorted(scores, reverse=True)
    assert {item.document.id: item.score for item in found} == dict(zip((d.id for d in DOCUMENTS), scores, strict=True))
    assert ids(BM25Retriever(DOCUMENTS), question, 2) == [item.document.id for item in found[:2]]


def test_titles_are_searched(make: Make):
    assert ids(make(DOCUMENTS), "book", 1) == ["book"]


def test_a_document_without_a_word_of_the_question_is_not_retrieved(make: Make):
    retriever = make(DOCUMENTS)
    assert retriever.search("xylophone", 4) == []
    assert retriever.search("?!", 4) == []
    found = retriever.search("Who designed the Quarn bridge?", 5)
    assert found[0].document.id == "bridge"
    assert all(item.score > 0 for item in found)
    assert ids(retriever, "Quarn", 5) == ["bridge"]


def test_a_word_counts_however_many_documents_have_it(make: Make):
    """In one document, in two, and if all documents have the word: the weight is always positive."""
    one, two = Document("one", "The lamp of Ostrel."), Document("two", "The bridge at Quarn.")
    assert ids(make([one]), "lamp", 3) == ["one"]
    assert ids(make([one, two]), "lamp", 3) == ["one"]
    assert ids(make([one, two]), "bridge", 3) == ["two"]
    assert ids(make([one, two]), "the bridge", 3) == ["two", "one"]
    assert ids(make([two, one, one]), "the lamp", 1) == ["one"]


def test_ties_keep_the_corpus_order(make: Make):
    found = make(DOCUMENTS).search("in", 4)
    assert found
    twins = [Document(str(number), "The same text.") for number in range(40)]
    assert [item.document for item in make([*twins, *DOCUMENTS]).search("same text", 5)] == twins[:5]


def test_a_search_may_return_fewer_documents_than_requested(make: Make):
    retriever = make(DOCUMENTS[:2])
    assert sorted(ids(retriever, "lamp bridge", 3)) == ["bridge", "lamp"]
    assert ids(retriever, "lamp", 10**9) == ["lamp"]
    assert ids(retriever, "lamp", 0) == []


def test_questions_and_documents_may_have_no_words(make: Make):
    documents = [*DOCUMENTS, Document("empty", "")]
    assert make(documents).search("?!", 9) == []
    assert "empty" not in ids(make(documents), "the lamp of Ostrel", 9)
    assert ids(make([Document("empty", ""), Document("marks", "?!")]), "lamp", 9) == []
    assert make([]).search("lamp", 3) == []


def test_a_repeated_word_counts_as_often_as_it_occurs(make: Make):
    documents = [
        Document("lamp", "a lamp b c"),
        Document("tower", "a tower of d"),
        Document("x", "a"),
        Document("y", "a"),
    ]
    retriever = make(documents)
    assert ids(retriever, "lamp tower tower", 1) == ["tower"]
    assert ids(retriever, "lamp lamp tower", 1) == ["lamp"]
    once, twice = (retriever.search(question, 1)[0].score for question in ("lamp", "lamp LAMP"))
    assert twice == pytest.approx(2 * once)


def test_a_question_is_never_parsed_as_a_query_language(make: Make):
    retriever = make(DOCUMENTS)
    for question in ('words:lamp AND -"bridge', "number:[0 TO 1] OR *", "lamp^9 ~2 (((", "\ud800 lamp \x00"):
        assert ids(retriever, question, 5) == ids(retriever, " ".join(re.findall(r"\w+", question)), 5)
    assert ids(retriever, "-lamp NOT Ostrel", 1) == ["lamp"]


def test_words_with_unusual_characters_are_indexed(make: Make):
    documents = [
        Document("turkish", "İstanbul_1 boğazı"),
        Document("marks", "cafe\u0301 noir"),
        Document("chinese", "東京 タワー"),
        Document("half", "a \ud800 cut emoji"),
        Document("long", "x" * 30_000),
    ]
    retriever = make(documents)
    for document in documents:
        assert retriever.search(document.text, 1)[0].document == document


# Three documents of each language: about a lighthouse, a mill and a clockmaker; a question about the first, and one of
# its words. The words stand in other surroundings than in the text.
LANGUAGES = {
    "Chinese": (
        "海角的灯塔由宋安在1911年建成。", "磨坊属于何家。", "钟表匠的店在集市旁边。",
        "谁建成了灯塔？", "灯",
    ),
    "Japanese": (
        "岬の灯台は宋安が建てました。", "水車小屋は何家のものです。", "時計店は市場にあります。",
        "灯台を建てたのは誰ですか", "岬",
    ),
    "Korean": (
        "곶의 등대는 송안이 세웠다.", "물레방아는 허씨의 것이다.", "시계방은 시장에 있다.",
        "누가 등대를 지었나?", "송안",
    ),
    "Thai": (
        "ประภาคารสร้างโดยปรีชา", "โรงสีเป็นของอันนา", "ร้านนาฬิกาอยู่ข้างตลาด",
        "ใครสร้างประภาคาร", "ปรีชา",
    ),
    "Lao": (
        "ປະພາຄານສ້າງໂດຍສຸກ", "ໂຮງສີເປັນຂອງແກ້ວ", "ຮ້ານໂມງຢູ່ຕະຫຼາດ",
        "ໃຜສ້າງປະພາຄານ", "ສຸກ",
    ),
    "Khmer": (
        "ប៉មភ្លើងសាងសង់ដោយសុខា", "រោងម៉ាស៊ីនជារបស់ដារ៉ា", "ហាងនាឡិកានៅផ្សារ",
        "អ្នកណាសាងសង់ប៉មភ្លើង", "សុខា",
    ),
    "Burmese": (
        "မီးပြတိုက်ကို အောင်ဆောက်ခဲ့သည်။", "ဆန်စက်သည် လှ၏ပိုင်သည်။", "နာရီဆိုင် ဈေးမှာရှိသည်။",
        "မီးပြတိုက်ဘယ်သူဆောက်သလဲ", "အောင်",
    ),
    "Arabic": (
        "بنى سامي المَنارة عام ١٩١١.", "الطاحونة لعائلة حداد.", "دكان الساعات قرب السوق.",
        "من بنى المنارة؟", "1911",
    ),
    "Hindi": (
        "प्रकाशस्तंभ रवि ने बनाया।", "चक्की अनिल की है।", "घड़ी की दुकान बाज़ार में है।",
        "प्रकाशस्तंभ किसने बनाया?", "रवि",
    ),
    "Greek": (
        "Τον φάρο τον έχτισε ο Άρης.", "Ο μύλος ανήκει στη Λίνα.", "Το ρολογάδικο είναι στην αγορά.",
        "ΠΟΙΟΣ ΕΧΤΙΣΕ ΤΟΝ ΦΑΡΟ;", "αρησ",
    ),
    "Russian": (
        "Маяк построил Фёдор.", "Мельница принадлежит Анне.", "Часовщик живёт у рынка.",
        "Кто построил маяк?", "Федор",
    ),
    "German": (
        "Den Leuchtturm baute Jörg Groß.", "Die Mühle gehört Anna.", "Der Uhrmacher wohnt am Markt.",
        "Wer baute den LEUCHTTURM?", "GROSS",
    ),
    "mixed": (
        "AI研究所のＱｕａｒｎ灯台です。", "水車小屋です。", "Quarterly report.",
        "Quarn の AI", "quarn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_document_of_a_question_is_found_in_every_script(make: Make, language: str):
    *texts, question, word = LANGUAGES[language]
    lighthouse, mill, clock = (Document(name, text) for name, text in zip("lmc", texts, strict=True))
    retriever = make([mill, clock, lighthouse])
    found = retriever.search(question, 3)
    assert found[0].document == lighthouse
    assert all(found[0].score > 1.2 * other.score for other in found[1:])
    assert ids(retriever, word, 3)[0] == "l"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Die Bru\u0308cke", "Brücke"), ("Wert\u00adpapier\u00adindex", "Wertpapierindex"),
        ("The of\ufb01cer", "officer"), ("Ｑｕａｒｎ", "quarn"), ("Ot\u200btilie", "Ottilie"), ("İzmir", "izmir"),
        ("Straße", "STRASSE"), ("10\u00a0km", "km"), ("O’Brien", "O'Brien"), ("می\u200cشود", "میشود"),
    ],
)  # fmt: skip
def test_a_word_is_found_in_another_spelling(make: Make, text: str, question: str):
    retriever = make([Document("a", "Another lamp."), Document("right", text), Document("b", "A mill.")])
    assert ids(retriever, question, 3) == ["right"]


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


def test_recall_is_the_share_of_gold_documents_that_were_retrieved():
    assert recall(["a", "b", "c"], ["b", "x"]) == 0.5
    assert recall(["a"], ["a", "a"]) == 1.0
    assert recall([], ["a"]) == 0.0
    assert recall(["a"], []) is None


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


def test_given_documents_are_used_even_if_none_shares_a_word_with_the_question():
    handed = [Document("lamp", "It was built in 1911."), Document("bridge", "It crosses the Osk.")]
    assert [found.document.id for found in among_given(handed, "Which river is the Osk?", 3)] == ["bridge"]
    assert [(f.document.id, f.score) for f in among_given(handed, "Summarise.", 2)] == [("lamp", 0.0), ("bridge", 0.0)]
    assert among_given(handed, "Summarise.", 1) == ()  # nothing indicates which one is meant
    assert among_given([], "Summarise.", 1) == ()
