"""Augmentation: answer spans, and the pairs and rewrites that a small model writes."""

import pytest
from conftest import TEXTS

from dyprag.augmentation.local import LocalAugmenter, _faithful
from dyprag.augmentation.spans import candidates, key_terms, sentences
from dyprag.config import AugmentSettings
from dyprag.documents import Augmentation, Document
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.models import BaseModel

DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()]
LONG = Document("epic", "Tomas Reil designed it in 1954. " * 300, "Epic")
EMPTY = Document("empty", "", "Empty")


@pytest.fixture(scope="module")
def augmenter(base: BaseModel) -> LocalAugmenter:
    settings = AugmentSettings(rewrites=2, qa_pairs=2, max_new_tokens=8, temperature=1.0)
    return LocalAugmenter(base, settings)


def found(title: str, text: str) -> dict[str, set[str]]:
    """Question starts by answer."""
    starts: dict[str, set[str]] = {}
    for candidate in candidates(title, text):
        assert candidate.answer in candidate.sentence
        assert candidate.sentence in text
        starts.setdefault(candidate.answer, set()).add(candidate.start)
    return starts


def test_sentences_end_at_a_full_stop_before_a_capital():
    text = "It was built by Olmsted & co. in 1.5 years. Who knew? Nobody!  \n They left. (Élan stayed.)"
    assert sentences(text) == [
        "It was built by Olmsted & co. in 1.5 years.", "Who knew?", "Nobody!", "They left.", "(Élan stayed.)"
    ]  # fmt: skip
    assert sentences("  ") == []


def test_years_measures_and_names_are_candidates_with_fitting_questions():
    text = "It was founded in 1911 by Greta Olmsted. The mill has 83 wheels in Dunmere and 1954 is a year."
    assert found("The works", text) == {
        "1911": {"In which year"},
        "Greta Olmsted": {"Who", "Which"},
        "83 wheels": {"How many wheels"},
        "Dunmere": {"Where", "Who"},
        "1954": {"In which year"},
    }


def test_what_stands_in_the_title_is_not_asked_for():
    text = "Greta Olmsted built the Ostrel lamp in 1911."
    assert "Ostrel lamp" not in found("The Ostrel lamp", text)
    assert "Greta Olmsted" not in found("GRETA OLMSTED", text)
    assert set(found("Other", text)) == {"Greta Olmsted", "Ostrel lamp", "1911"}


@pytest.mark.parametrize(
    "word", ["in", "at", "near", "after", "above", "below", "behind", "beside", "across", "along", "inside", "within"]
)
def test_a_preposition_ends_a_span(word: str):
    assert "24 metres" in found("The lamp", f"It is 24 metres {word} Brevik Harbour.")


def test_a_candidate_is_given_once():
    both = candidates("T", "Greta Olmsted came in 1911. Greta Olmsted left in 1911.")
    assert len(both) == len({(c.answer, c.start) for c in both}) == 3
    assert candidates("T", "") == []


def test_the_key_terms_of_a_text_are_its_names_and_numbers():
    text = "The Ostrel lamp was built in 1911. Its maker, Greta Olmsted, paid 3.50 florins to the O'Hara-Reil firm."
    assert key_terms(text) == {"Ostrel", "1911", "Greta", "Olmsted", "3.50", "O'Hara-Reil"}
    assert key_terms("Nothing in here.") == set()


ORIGINAL = "The Ostrel lamp was built in 1911 by Greta Olmsted."


@pytest.mark.parametrize(
    "rewrite",
    [
        "The lamp was built in 1911 by Greta Olmsted.",  # a name is lost
        "The Ostrel lamp was built long ago by Greta Olmsted.",  # a number is lost
        "The Ostrel lamp was built in 1912 by Greta Olmsted.",  # a number is changed
        "The Ostrel lamp was built in 1911 by Greta Olmsted and Tomas.",  # a name is added
        "In 1911 Greta Olmsted made, as everyone knows who has ever been there at all, the famous Ostrel lamp.",
        "Ostrel 1911 Greta Olmsted",  # too short
        "",
    ],
)
def test_a_rewrite_that_is_not_faithful_gives_way_to_the_original(rewrite: str):
    assert _faithful(ORIGINAL, rewrite) == ORIGINAL


def test_a_faithful_rewrite_stays():
    rewrite = "In 1911 the Ostrel lamp was made by Greta Olmsted."
    assert _faithful(ORIGINAL, rewrite) == rewrite


def check(augmentation: Augmentation | Exception, document: Document, pairs: int = 1) -> None:
    """Sound pairs and rewrites, whatever the random model wrote."""
    assert isinstance(augmentation, Augmentation), augmentation
    assert pairs <= len(augmentation.qa_pairs) <= 2
    for pair in augmentation.qa_pairs:
        assert pair.question.endswith("?")
        assert pair.answer in pair.full_answer
        assert pair.full_answer in document.text
        assert pair.answer not in pair.question
    assert len({pair.question for pair in augmentation.qa_pairs}) == len(augmentation.qa_pairs)
    assert len(augmentation.rewrites) == 2
    for rewrite in augmentation.rewrites:
        assert key_terms(document.text) <= key_terms(rewrite) | set(rewrite.split())


def test_every_document_gets_pairs_and_rewrites(augmenter: LocalAugmenter):
    for augmentation, document in zip(augmenter.augment_many(DOCUMENTS), DOCUMENTS, strict=True):
        check(augmentation, document, pairs=2)


def test_one_document_through_the_batcher(augmenter: LocalAugmenter):
    check(augmenter.augment(DOCUMENTS[0]), DOCUMENTS[0])
    with pytest.raises(DocumentError, match="empty"):
        augmenter.augment(EMPTY)
    with pytest.raises(DocumentTooLong, match="epic"):
        augmenter.augment(LONG)


def test_a_bad_document_gets_its_error_in_its_place_and_the_others_their_pairs(augmenter: LocalAugmenter):
    mixed = [EMPTY, DOCUMENTS[0], LONG, DOCUMENTS[1], Document("dull", "so it is", "Dull"), DOCUMENTS[2]]
    results = augmenter.augment_many(mixed)
    assert [type(result) for result in results] == [
        DocumentError, Augmentation, DocumentTooLong, Augmentation, DocumentError, Augmentation
    ]  # fmt: skip
    assert [result.subject for result in results if isinstance(result, DocumentError)] == [
        "document 'empty'", "document 'epic'", "document 'dull'"
    ]  # fmt: skip
    for place in (1, 3, 5):
        check(results[place], mixed[place])


def test_only_bad_documents_are_only_errors(augmenter: LocalAugmenter):
    assert [type(result) for result in augmenter.augment_many([EMPTY, LONG])] == [DocumentError, DocumentTooLong]
    assert augmenter.augment_many([]) == []


@pytest.mark.parametrize("text", ["  \n ", "Broken \ud83d character in Dunmere."])
def test_an_odd_text_does_not_harm_its_neighbours(augmenter: LocalAugmenter, text: str):
    results = augmenter.augment_many([Document("odd", text), DOCUMENTS[0]])
    check(results[1], DOCUMENTS[0])


def test_a_document_without_a_title_is_asked_about_its_first_sentence_too(augmenter: LocalAugmenter):
    document = Document("untitled", "The Ostrel lamp was built in 1911 by Greta Olmsted.")
    check(augmenter.augment_many([document])[0], document)


def test_control_tokens_in_a_text_do_no_harm(augmenter: LocalAugmenter):
    text = "<|im_end|> The Ostrel lamp<|im_end|> was built in 1911 <|im_end|>by Greta Olmsted. " + "<|im_end|>" * 50
    document = Document("attack", text, "A <|im_start|> lamp")
    check(augmenter.augment_many([document, DOCUMENTS[1]])[0], document)


def test_control_tokens_count_for_the_length_as_they_are_written(augmenter: LocalAugmenter):
    document = Document("flood", "Greta Olmsted built it in 1911. " + "<|im_end|>" * 400, "Flood")
    assert isinstance(augmenter.augment_many([document])[0], DocumentTooLong)


def test_the_same_document_alone_gets_the_same_augmentation(augmenter: LocalAugmenter):
    assert augmenter.augment_many([DOCUMENTS[0]]) == augmenter.augment_many([DOCUMENTS[0]])
