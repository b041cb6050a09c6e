"""Splits: test and alignment sets are disjoint for any data sets."""

from hypothesis import given
from hypothesis import strategies as st

from dyprag.config import DataSetSettings
from dyprag.corpora.documents import Corpus, Document, Question
from dyprag.corpora.retrieval import BM25Retriever
from dyprag.evaluation.splits import Part, assemble, split_questions

WORDS = ("lamp", "bridge", "harbour", "tower", "river", "mill", "gate", "ferry")


def document(number: int) -> Document:
    return Document(
        f"d{number}", f"The {WORDS[number % 8]} of {WORDS[number // 8 % 8]} is number {number}.", f"T{number}"
    )


def question(number: int, gold: tuple[str, ...] = (), kind: str = "single") -> Question:
    return Question(
        f"q{number}", f"What is the {WORDS[number % 8]} of {WORDS[number // 8 % 8]}?", (str(number),), gold, kind
    )


def part(name: str, count: int, documents: list[Document], gold: bool = False, **settings: object) -> Part:
    asked = tuple(question(n, (documents[n % len(documents)].id,) if documents else ()) for n in range(count))
    retriever = BM25Retriever(documents) if documents and not gold else None
    return Part(DataSetSettings(name=name, gold=gold, **settings), asked, tuple(documents), retriever, f"key-{name}")


def test_each_type_has_its_own_first_questions():
    questions = [question(n, (), "odd" if n % 2 else "even") for n in range(10)]
    split = split_questions(questions, DataSetSettings(name="x", questions=2, alignment_questions=1, by_type=True))
    assert [q.id for q in split.test] == ["q0", "q2", "q1", "q3"]
    assert [q.id for q in split.alignment] == ["q4", "q5"]
    whole = split_questions(questions, DataSetSettings(name="x", questions=2, alignment_questions=1))
    assert [[q.id for q in some] for some in (whole.test, whole.alignment)] == [["q0", "q1"], ["q2"]]


def needed(corpus: Corpus, parts: list[Part]) -> set[str]:
    """Return the keys of documents that are retrieved for a test question or are its gold documents."""
    by_id = {f"{p.settings.name}/{d.id}": d for p in parts for d in p.documents}
    found = corpus.retrieved or {}
    ids = {i for q in corpus.questions for i in (*(i for i, _ in found[q.id]), *q.documents)}
    return {by_id[i].key for i in ids if i in by_id}


@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=3),
    offset=st.integers(0, 9), wanted=st.none() | st.integers(0, 12), count=st.integers(1, 4), gold=st.booleans(),
)  # fmt: skip
def test_no_alignment_document_or_question_is_needed_by_a_test_question(
    sizes: list[tuple[int, int, int]], offset: int, wanted: int | None, count: int, gold: bool
):
    parts = [
        part(f"set{n}", tested + aligned, [document(offset * n + place) for place in range(size)], gold,
             questions=tested, alignment_questions=aligned, alignment_documents=wanted)
        for n, (size, tested, aligned) in enumerate(sizes)
    ]  # fmt: skip
    corpus = assemble(parts, count)
    by_id = {d.id: d for d in corpus.documents}
    assert not {by_id[i].key for i in corpus.alignment or ()} & needed(corpus, parts)
    assert not {q.id for q in corpus.questions} & {q.id for q in corpus.alignment_questions}
    assert len(corpus.questions) == sum(tested for _, tested, _ in sizes)
    found = corpus.retrieved or {}
    assert {i for q in corpus.questions for i, _ in found[q.id]} <= by_id.keys()
    if wanted is not None:
        assert len(corpus.alignment or ()) <= wanted * len(parts)
    assert corpus == assemble(parts, count)


def test_more_alignment_documents_begin_with_the_same_ones():
    parts = [part(name, 4, [document(n + s) for n in range(30)], questions=2, alignment_questions=1,
                  alignment_documents=9) for name, s in (("a", 0), ("b", 100))]  # fmt: skip
    small, large = assemble(parts, 3, 6), assemble(parts, 3)
    assert small.alignment is not None
    assert large.alignment is not None
    assert len(small.alignment) == 6
    assert small.alignment < large.alignment
    assert {i.split("/")[0] for i in small.alignment} == {"a", "b"}
    assert len(large.alignment) == 18


def test_gold_passages_replace_retrieval_and_questions_without_any_are_left_out():
    documents = [document(n) for n in range(3)]
    asked = (question(0, ("d0", "d2")), question(1), question(2, ("d1",)))
    settings = DataSetSettings(name="x", questions=3, alignment_questions=0, gold=True)
    corpus = assemble([Part(settings, asked, tuple(documents), None)], 1)
    assert corpus.retrieved == {"x/q0": (("x/d0", 1.0), ("x/d2", 1.0)), "x/q2": (("x/d1", 1.0),)}
    assert [q.id for q in corpus.questions] == ["x/q0", "x/q2"]


def test_a_data_set_without_passages_retrieves_nothing():
    corpus = assemble([part("x", 2, [], questions=2, alignment_questions=0)], 3)
    assert corpus.retrieved == {"x/q0": (), "x/q1": ()}
    assert corpus.alignment == frozenset()
