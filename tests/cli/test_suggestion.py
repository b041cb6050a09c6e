"""The question that a run suggests: one that was answered correctly."""

from pathlib import Path

import pytest

from dyprag.cli.suggestion import suggestion
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.tables import write_rows

QUESTIONS = {"q1": 'Who built the "Ostrel" lamp?', "q2": "Which river does it cross?", "q3": "Who wrote it?"}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """The catalogue of a store in which one method answered three questions."""
    store = Store(tmp_path / "store")
    rows = [{"question_id": name, "question": text} for name, text in QUESTIONS.items()]
    record = Record("prediction", "ab" * 16, [], {})
    store.write(record, lambda folder: write_rows(folder / "predictions.parquet", rows))
    catalogue = Catalogue(store)
    catalogue.prepare()
    return catalogue


def scored(catalogue: Catalogue, **f1: list[float]) -> None:
    """Record scores of methods, in the order of the questions."""
    catalogue.add_scores("run", [
        {"key": "ab" * 16, "method": method.replace("_", "-"), "dataset": "own", "question_id": question, "type": "all",
         "split": "all", "em": value, "f1": value, "precision": value, "recall": value, "present": value == 1.0,
         "tokens": 3, "seconds": 0.1, "first_token": 0.1}
        for method, values in f1.items() for question, value in zip(QUESTIONS, values, strict=True)
    ])  # fmt: skip


def test_the_suggestion_was_answered_by_the_default_method_and_not_by_the_plain_model(catalogue: Catalogue):
    scored(catalogue, prag_combine=[0.5, 1.0, 1.0], prag=[1.0, 1.0, 1.0], vanilla=[0.0, 1.0, 0.0])
    command = suggestion(catalogue, "run", Path("my demo.yaml"), ["store=a b"])
    assert command == """dyprag ask --config 'my demo.yaml' --set 'store=a b' "Who wrote it?\""""


def test_a_question_with_quotation_marks_can_be_pasted_into_a_shell(catalogue: Catalogue):
    scored(catalogue, prag_combine=[1.0, 0.0, 0.0])
    assert suggestion(catalogue, "run", None, []) == """dyprag ask 'Who built the "Ostrel" lamp?'"""


def test_nothing_is_suggested_if_no_answer_was_correct(catalogue: Catalogue):
    scored(catalogue, prag_combine=[0.9, 0.0, 0.5], rag=[1.0, 1.0, 1.0])
    assert suggestion(catalogue, "run", None, []) is None
    assert suggestion(catalogue, "another run", None, []) is None
