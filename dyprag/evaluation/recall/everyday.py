"""Everyday documents for measuring recall; nothing is trained on them.

Thirty documents (a policy, a ticket, minutes, a data sheet, …) with questions that they do and do not answer, and forty
questions of common knowledge.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dyprag.corpora.documents import Document, QAPair
from dyprag.translators.lessons.lesson import Lesson

FOLDER = Path(__file__).with_name("everyday")
COMMON = Path(__file__).with_name("common.yaml")


@cache
def everyday_lessons() -> tuple[Lesson, ...]:
    """Return the documents with four questions each, in a fixed order. All forms of an answer are accepted."""
    return tuple(
        Lesson(
            document,
            tuple(_pair(question["question"], question["answers"][0]) for question in content["questions"]),
            tuple(tuple(question["answers"][1:]) for question in content["questions"]),
        )
        for document, content in _documents()
    )


@cache
def unanswered_lessons() -> tuple[Lesson, ...]:
    """Return the documents with two questions each on their subject that they do not answer.

    A pair's answers are those of the document's other questions: an output that contains one claims something that the
    document does not say.
    """
    lessons = []
    for document, content in _documents():
        claims = [answer for question_entry in content["questions"] for answer in question_entry["answers"]]
        pairs = tuple(_pair(question, claims[0]) for question in content["unanswered"])
        lessons.append(Lesson(document, pairs, tuple(tuple(claims[1:]) for _ in pairs)))
    return tuple(lessons)


@cache
def common_lessons() -> tuple[Lesson, ...]:
    """Return the documents with unrelated questions of common knowledge."""
    questions = yaml.safe_load(COMMON.read_text(encoding="utf-8"))
    documents = [document for document, _ in _documents()]
    lessons = []
    for index, document in enumerate(documents):
        document_questions = questions[index :: len(documents)]
        pairs = tuple(_pair(question["question"], question["answers"][0]) for question in document_questions)
        lessons.append(
            Lesson(document, pairs, tuple(tuple(question["answers"][1:]) for question in document_questions))
        )
    return tuple(lessons)


@cache
def _documents() -> tuple[tuple[Document, dict[str, Any]], ...]:
    documents = []
    for path in sorted(FOLDER.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        documents.append((Document(path.stem, content["text"].strip(), content["title"]), content))
    return tuple(documents)


def _pair(question: str, answer: str) -> QAPair:
    return QAPair(question, str(answer), f"The answer is {answer}.")
