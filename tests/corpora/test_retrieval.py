"""Retrieval, in memory and with the index on disk: BM25's scores and order, and words of every script."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from searching import DOCUMENTS, ids, okapi

from dyprag.corpora.documents import Document
from dyprag.corpora.retrieval import BM25Retriever, IndexedBM25, Retriever, among_given, build_index, recall

Make = Callable[[Sequence[Document]], Retriever]


@pytest.fixture(params=["memory", "index"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """A factory of each kind of retriever; both have to fulfil the protocol."""

    def indexed(documents: Sequence[Document]) -> IndexedBM25:
        folder = tmp_path / f"index-{len(list(tmp_path.iterdir()))}"
        assert build_index(folder, iter(documents), 15_000_000) == len(documents)
        return IndexedBM25(folder)

    return BM25Retriever if request.param == "memory" else indexed


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


def test_recall_is_the_share_of_gold_documents_that_were_retrieved():
    assert recall(["a", "b", "c"], ["b", "x"]) == 0.5
    assert recall(["a"], ["a", "a"]) == 1.0
    assert recall([], ["a"]) == 0.0
    assert recall(["a"], []) is None


def test_given_documents_are_used_even_if_none_shares_a_word_with_the_question():
    handed = [Document("lamp", "It was built in 1911."), Document("bridge", "It crosses the Osk.")]
    assert [found.document.id for found in among_given(handed, "Which river is the Osk?", 3)] == ["bridge"]
    assert [(f.document.id, f.score) for f in among_given(handed, "Summarise.", 2)] == [("lamp", 0.0), ("bridge", 0.0)]
    assert among_given(handed, "Summarise.", 1) == ()  # nothing indicates which one is meant
    assert among_given([], "Summarise.", 1) == ()
