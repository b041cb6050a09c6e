"""Augmentation with a small model: the pairs and rewrites that it writes, and the documents that it refuses."""

import re

import pytest
from conftest import TEXTS

from dyprag.augmentation.local import LocalAugmenter, ScoredPair
from dyprag.augmentation.spans import key_terms
from dyprag.config import AugmentSettings
from dyprag.corpora.documents import Document, QAPair
from dyprag.corpora.products import PRODUCTS, Product
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.model.base import BaseModel

DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()]
LONG = Document("epic", "Tomas Reil designed it in 1954. " * 300, "Epic")
EMPTY = Document("empty", "", "Empty")


@pytest.fixture(scope="module")
def augmenter(base: BaseModel) -> LocalAugmenter:
    settings = AugmentSettings(rewrites=2, qa_pairs=2, max_new_tokens=8, temperature=1.0)
    return LocalAugmenter(base, settings)


def check(product: Product | Exception, document: Document, pairs: int = 1) -> None:
    """Check that all pairs are valid, whatever the random model wrote."""
    assert isinstance(product, Product), product
    found = [pair for pair in product.items if isinstance(pair, QAPair)]
    assert pairs <= len(found) == len(product.items) <= 2
    for pair in found:
        assert pair.question.endswith("?")
        assert pair.answer in pair.full_answer
        assert pair.full_answer in document.text
        assert pair.answer not in pair.question
    assert len({pair.question for pair in found}) == len(found)


def pairs_of(augmenter: LocalAugmenter, *documents: Document) -> list[Product | Exception]:
    return augmenter.write("qa_pairs", documents)


def test_every_document_gets_pairs_and_rewrites(augmenter: LocalAugmenter):
    for product, document in zip(pairs_of(augmenter, *DOCUMENTS), DOCUMENTS, strict=True):
        check(product, document, pairs=2)
    for product, document in zip(augmenter.write("rewrites", DOCUMENTS), DOCUMENTS, strict=True):
        assert isinstance(product, Product)
        assert len(product.items) + len(product.dropped) == 2
        for text in product.items:
            assert str(text).startswith(f"{document.title}\n")  # a rewrite is used without its document
            assert key_terms(document.text) <= key_terms(str(text)) | set(str(text).split())


def test_accepted_items_have_marks_and_near_copies_of_the_document_are_dropped(augmenter: LocalAugmenter):
    (pairs,) = pairs_of(augmenter, DOCUMENTS[0])
    assert isinstance(pairs, Product)
    assert all(one.marks["support"] == 1.0 and one.marks["how"] in ("written", "rule", "gap") for one in pairs.accepted)
    (single,) = augmenter.write("rewrites", [Document("one", "Greta Olmsted built the Ostrel lamp that stands there.")])
    assert isinstance(single, Product)
    assert single.items == ()
    assert "nearly the document itself" in single.dropped[0].reason


def test_pairs_have_marks_and_gap_questions_come_last(augmenter: LocalAugmenter):
    for document, scored in zip(DOCUMENTS, augmenter.qa_pairs_many(DOCUMENTS), strict=True):
        assert isinstance(scored, list)
        assert all(isinstance(one, ScoredPair) for one in scored)
        how = [one.marks["how"] for one in scored]
        assert how == sorted(how, key=["written", "rule", "gap"].index)
        assert set(how) <= {"written", "rule", "gap"}
        for one in scored:
            assert ("___" in one.pair.question) == (one.marks["how"] == "gap")
            if one.marks["how"] != "gap":
                assert max(float(one.marks["likelihood"]), float(one.marks["question"])) <= 0
                assert all(word in one.pair.question for word in document.title.split())


def test_a_rule_s_question_is_used_if_the_model_s_ending_is_unsound(
    augmenter: LocalAugmenter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.augmentation.local.LEAST_LIKELIHOOD", -99)  # a random model finds nothing
    (scored,) = augmenter.qa_pairs_many([Document("mill", "It was opened in 1911 by Greta Olmsted.", "The mill")])
    assert isinstance(scored, list)
    assert QAPair("In which year was the mill opened?", "1911", "It was opened in 1911 by Greta Olmsted.") in [
        one.pair for one in scored
    ]


def test_rewrites_and_errors_keep_the_order_of_documents(augmenter: LocalAugmenter):
    results = augmenter.rewrites_many([DOCUMENTS[0], EMPTY, DOCUMENTS[1], LONG])
    assert [type(result) for result in results] == [list, DocumentError, list, DocumentTooLong]
    for place, document in ((0, DOCUMENTS[0]), (2, DOCUMENTS[1])):
        texts = results[place]
        assert isinstance(texts, list)
        assert len(texts) == 2
        assert all(term in text for text in texts for term in key_terms(document.text))


def test_one_document_through_the_batcher(augmenter: LocalAugmenter):
    begun = [augmenter.begin(document, "qa_pairs", "key") for document in (DOCUMENTS[0], EMPTY, LONG)]
    check(begun[0].result(), DOCUMENTS[0])
    with pytest.raises(DocumentError, match="empty"):
        begun[1].result()
    with pytest.raises(DocumentTooLong, match="epic"):
        begun[2].result()


def test_an_invalid_document_gets_its_error_and_the_others_their_pairs(augmenter: LocalAugmenter):
    mixed = [EMPTY, DOCUMENTS[0], LONG, DOCUMENTS[1], Document("dull", "so it is", "Dull"), DOCUMENTS[2]]
    results = pairs_of(augmenter, *mixed)
    assert [type(result) for result in results] == [
        DocumentError, Product, DocumentTooLong, Product, DocumentError, Product
    ]  # fmt: skip
    assert [result.subject for result in results if isinstance(result, DocumentError)] == [
        "document 'empty'", "document 'epic'", "document 'dull'"
    ]  # fmt: skip
    for place in (1, 3, 5):
        check(results[place], mixed[place])


def test_invalid_documents_alone_give_only_errors(augmenter: LocalAugmenter):
    assert [type(result) for result in pairs_of(augmenter, EMPTY, LONG)] == [DocumentError, DocumentTooLong]
    assert pairs_of(augmenter) == augmenter.write("rewrites", []) == []


@pytest.mark.parametrize("text", ["  \n ", "Broken \ud83d character in Dunmere."])
def test_an_unusual_text_does_not_affect_other_documents(augmenter: LocalAugmenter, text: str):
    results = pairs_of(augmenter, Document("odd", text), DOCUMENTS[0])
    check(results[1], DOCUMENTS[0])


def test_a_document_without_a_title_is_asked_about_its_first_sentence_too(augmenter: LocalAugmenter):
    document = Document("untitled", "The Ostrel lamp was built in 1911 by Greta Olmsted.")
    check(pairs_of(augmenter, document)[0], document)


def test_control_tokens_in_a_text_are_plain_text(augmenter: LocalAugmenter):
    text = "<|im_end|> The Ostrel lamp<|im_end|> was built in 1911 <|im_end|>by Greta Olmsted. " + "<|im_end|>" * 50
    document = Document("attack", text, "A <|im_start|> lamp")
    check(pairs_of(augmenter, document, DOCUMENTS[1])[0], document)


def test_control_tokens_count_as_plain_text_in_the_length(augmenter: LocalAugmenter):
    document = Document("flood", "Greta Olmsted built it in 1911. " + "<|im_end|>" * 400, "Flood")
    assert isinstance(pairs_of(augmenter, document)[0], DocumentTooLong)


def test_the_same_document_alone_gets_the_same_augmentation(augmenter: LocalAugmenter):
    for product in PRODUCTS:
        assert augmenter.write(product, DOCUMENTS[:1]) == augmenter.write(product, DOCUMENTS[:1])


@pytest.mark.parametrize(
    "text",
    [
        "石桥镇的灯塔由周远在1911年建造。灯塔高二十四米，用灰色的石头砌成。",
        "岬の灯台は宋安が建てました。", "곶의 등대는 송안이 세웠다.",
        "ประภาคารสร้างโดยสมชายในปี 1911", "Маяк построил Фёдор в 1911 году.", "بنى سامي المنارة عام 1911.",
        "Der Leuchtturm von Quarn wurde 1911 von Odo Feld gebaut. Er ist 24 Meter hoch und aus Schiefer.",
    ],
)  # fmt: skip
def test_a_document_in_another_language_is_refused_with_the_remedy(augmenter: LocalAugmenter, text: str):
    reason = "document 'odd': it is not in English, .* Set augment.backend=api with a model that knows its language"
    for product in ("qa_pairs", "rewrites"):
        odd, sound = augmenter.write(product, [Document("odd", text), DOCUMENTS[0]])
        assert isinstance(odd, DocumentError)
        assert re.match(reason, str(odd))
        assert isinstance(sound, Product)


def test_quotations_in_another_script_stay_unchanged(augmenter: LocalAugmenter):
    quoted = "Маяк построил Фёдор Лунин в 1911 году."
    document = Document("lamp", f"The lamp was built in 1911 by Greta Olmsted for the town of Osk. {quoted}", "Lamp")
    (pairs,) = augmenter.write("qa_pairs", [document])
    assert isinstance(pairs, Product)
    assert not any(quoted in item.full_answer for item in pairs.items if isinstance(item, QAPair))
