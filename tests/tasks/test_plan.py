"""The plan: the documents to process, and those that the translator is not trained on."""

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document, Question
from dyprag.tasks.planning.plan import Plan


def plan(documents: list[Document], held_out: float = 0.25) -> Plan:
    config = PipelineConfig.model_validate({"corpus": {"held_out": held_out}}).resolved()
    return Plan(config, Corpus(tuple(documents)))


def test_at_least_one_document_is_left_for_training():
    assert plan([Document("a", "text")]).held_out == set()
    assert len(plan([Document("a", "x"), Document("b", "y")], 0.9).held_out) == 1


def test_held_out_documents_do_not_depend_on_the_order():
    documents = [Document(f"d{n}", f"text {n}") for n in range(12)]
    assert plan(documents).held_out == plan(documents[::-1]).held_out
    assert len(plan(documents).held_out) == 3


def test_a_text_under_two_ids_is_processed_once_and_has_one_split():
    documents = [Document("a", "same"), Document("b", "same"), Document("c", "other"), Document("d", "")]
    made = plan(documents, 0.4)
    assert [document.id for document in made.documents] == ["a", "c"]
    assert made.split(Question("q", "?", ("x",), ("a",))) == made.split(Question("q", "?", ("x",), ("b",)))
