"""The samples that an adapter is trained on, in each layout."""

from collections.abc import Sequence

import pytest
from parametrization import AUGMENTATION, DOCUMENT, PAIRS, REWRITE

from dyprag.adapters.samples import Sample, document_samples
from dyprag.corpora.documents import Augmentation, Document, QAPair
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.model.base import BaseModel


@pytest.fixture(scope="module")
def samples(base: BaseModel) -> list[Sample]:
    return document_samples(base, DOCUMENT, AUGMENTATION, "short", "official")


def contents(base: BaseModel, samples: Sequence[Sample], pairs: Sequence[QAPair] = PAIRS) -> list[tuple[int, str]]:
    """Decode (index of the question, text in the prompt) of each sample from its token ids."""
    found = []
    for sample in samples:
        prompt = base.tokenizer.decode(sample.ids[: sample.prompt_length])
        texts = {"passage": DOCUMENT.passage, "rewrite": REWRITE, "other rewrite": "A second rewrite."}
        (number,) = [number for number, pair in enumerate(pairs) if pair.question in prompt]
        found.append((number, "+".join(name for name, text in texts.items() if text in prompt)))
    return found


def test_the_official_layout_gives_five_samples_for_three_pairs(base: BaseModel, samples: list[Sample]):
    assert contents(base, samples) == [(0, "passage"), (0, "rewrite"), (1, "passage"), (1, "rewrite"), (2, "")]


def test_the_layout_both_has_each_pair_with_and_without_a_text(base: BaseModel):
    made = document_samples(base, DOCUMENT, AUGMENTATION, "short", "both")
    assert contents(base, made) == [(0, "passage"), (0, ""), (1, "rewrite"), (1, ""), (2, "passage"), (2, "")]


def test_the_layout_closed_book_has_each_pair_without_and_each_text_once(base: BaseModel):
    made = document_samples(base, DOCUMENT, AUGMENTATION, "short", "closed-book")
    assert contents(base, made) == [(0, "passage"), (0, ""), (1, "rewrite"), (1, ""), (2, "")]


def test_the_layout_closed_book_has_each_text_even_with_fewer_pairs_than_texts(base: BaseModel):
    few = Augmentation((REWRITE, "A second rewrite."), PAIRS[:1])
    made = contents(base, document_samples(base, DOCUMENT, few, "short", "closed-book"))
    assert sorted(made) == [(0, ""), (0, "other rewrite"), (0, "passage"), (0, "rewrite")]


@pytest.mark.parametrize("layout", ["official", "both", "closed-book"])
@pytest.mark.parametrize("answer", ["short", "full"])
def test_a_sample_is_the_prompt_the_answer_and_the_end_token(base: BaseModel, layout: str, answer: str):
    made = document_samples(base, DOCUMENT, AUGMENTATION, answer, layout)
    for sample, (number, _) in zip(made, contents(base, made), strict=True):
        pair = PAIRS[number]
        wanted = f"{pair.full_answer} So the answer is {pair.answer}." if answer == "full" else f" {pair.answer}."
        assert sample.ids[-1] == base.tokenizer.eos_token_id
        assert base.tokenizer.decode(sample.ids[sample.prompt_length : -1]) == wanted


def test_a_document_longer_than_the_context_is_an_error_with_its_id(base: BaseModel):
    long = Document("epic", "Tomas Reil designed it in 1954. " * 300)
    with pytest.raises(DocumentTooLong, match="epic"):
        document_samples(base, long, AUGMENTATION, "short", "official")


@pytest.mark.parametrize("layout", ["official", "both", "closed-book"])
def test_a_document_without_pairs_is_an_error_with_its_id(base: BaseModel, layout: str):
    with pytest.raises(DocumentError, match="lamp"):
        document_samples(base, DOCUMENT, Augmentation((REWRITE,), ()), "short", layout)
