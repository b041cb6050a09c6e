"""Long documents are split into passages that fit, and no text is lost."""

import itertools
import time

import pytest
from conftest import TEXTS

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document, Question
from dyprag.corpora.splitting import split_corpus, splitter
from dyprag.errors import CorpusError

SENTENCES = [f"The Ostrel lamp number {n} was built in {1800 + n} by Greta Olmsted." for n in range(30)]
LONG = Document("long", " ".join(SENTENCES), "Lamps")
SHORT = Document("short", TEXTS["book"])


def words(text: str) -> list[str]:
    return text.split()


def test_passages_fit_end_at_sentences_and_contain_the_whole_text(tiny_model: str):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    corpus = split_corpus(Corpus((LONG, SHORT)), splitter(tiny_model, 60, 0))
    *passages, last = corpus.documents
    assert last == SHORT
    assert [p.id for p in passages] == [f"long#{n}" for n in range(1, len(passages) + 1)]
    assert len(passages) > 5
    assert {p.title for p in passages} == {"Lamps"}
    assert all(len(tokenizer(p.text, add_special_tokens=False).input_ids) <= 60 for p in passages)
    assert all(p.text.endswith(".") for p in passages)
    assert words(" ".join(p.text for p in passages)) == words(LONG.text)


def test_passages_overlap_by_whole_sentences(tiny_model: str):
    plain, overlapping = (splitter(tiny_model, 90, overlap)(LONG.text) for overlap in (0, 45))
    assert len(overlapping) > len(plain)
    for one, following in itertools.pairwise(overlapping):
        first = next(sentence for sentence in SENTENCES if following.startswith(sentence))
        assert first in one


def test_a_sentence_longer_than_a_passage_is_cut_at_words(tiny_model: str):
    endless = "and on " * 200
    passages = splitter(tiny_model, 32, 0)(endless)
    assert len(passages) > 2
    assert words(" ".join(passages)) == words(endless)


@pytest.mark.parametrize("unit", ["a", "QUJD/+9=", "文"])
def test_a_long_stretch_without_breaks_is_split_quickly_and_completely(tiny_model: str, unit: str):
    picture = unit * (20_000 // len(unit))
    text = f"{SENTENCES[0]} {picture} {SENTENCES[1]}"
    began = time.monotonic()
    passages = splitter(tiny_model, 32, 0)(text)
    assert time.monotonic() - began < 12  # quadratic time would take hours for a 1 MB image in one piece
    assert "".join("".join(passages).split()) == "".join(text.split())


def test_other_texts_are_split_exactly_as_by_the_library(tiny_model: str):
    from semantic_text_splitter import TextSplitter
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model).backend_tokenizer
    for text in (LONG.text * 5, ("A" * 3_900 + " ") * 3, "文。" * 2_500):
        assert splitter(tiny_model, 32, 4)(text) == TextSplitter.from_huggingface_tokenizer(
            tokenizer, 32, overlap=4
        ).chunks(text)


def test_a_question_refers_to_the_passages_with_its_answer(tiny_model: str):
    asked = [("1807", "long"), ("nobody", "long"), ("Mara Vell", "short")]
    questions = tuple(Question(answer, "?", (answer,), (document,)) for answer, document in asked)
    corpus = split_corpus(Corpus((LONG, SHORT), questions), splitter(tiny_model, 60, 0))
    texts = {document.id: document.text for document in corpus.documents}
    one, every, other = (question.documents for question in corpus.questions)
    assert ["1807" in texts[identity] for identity in one] == [True]
    assert set(every) == texts.keys() - {"short"}
    assert other == ("short",)


def test_the_passages_with_an_answer_have_it_as_whole_words():
    document = Document("d", "Built in 1911 by Odo\nFeld.\n\nIt has 19 steps. The party ended.")
    asked = [Question(answer, answer, (answer,), ("d",)) for answer in ("19", "Odo Feld", "art")]
    corpus = split_corpus(Corpus((document,), tuple(asked)), lambda text: text.split("\n\n"))
    assert [question.documents for question in corpus.questions] == [("d#2",), ("d#1",), ("d#1", "d#2")]


def test_a_document_with_the_id_of_a_passage_is_an_error(tiny_model: str):
    with pytest.raises(CorpusError, match="document 'long#2': its id is also the id of another document's passage"):
        split_corpus(Corpus((LONG, Document("long#2", "x"))), splitter(tiny_model, 60, 0))


def test_an_overlap_must_be_smaller_than_a_passage():
    for corpus in ({"overlap": 5}, {"overlap": 32, "passage_tokens": 32}):
        with pytest.raises(ValueError, match="overlap must be less than passage_tokens"):
            PipelineConfig.model_validate({"corpus": corpus})
