"""Thirty everyday documents (a policy, a ticket, minutes, a data sheet, …) with questions that they answer and others
that they do not, and forty questions of common knowledge. Written for measuring; nothing is trained on them.
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
    """The documents with their four questions each, in an order by content; an answer's other forms count as right
    too."""
    return tuple(
        Lesson(
            document,
            tuple(_pair(one["question"], one["answers"][0]) for one in told["questions"]),
            tuple(tuple(one["answers"][1:]) for one in told["questions"]),
        )
        for document, told in _documents()
    )


@cache
def unanswered_lessons() -> tuple[Lesson, ...]:
    """The same documents with two questions each about their subject that they do not answer. The answers of a pair are
    what the document says to its other questions: an output with one of them claims what the document does not say."""
    lessons = []
    for document, told in _documents():
        claims = [answer for one in told["questions"] for answer in one["answers"]]
        pairs = tuple(_pair(question, claims[0]) for question in told["unanswered"])
        lessons.append(Lesson(document, pairs, tuple(tuple(claims[1:]) for _ in pairs)))
    return tuple(lessons)


@cache
def common_lessons() -> tuple[Lesson, ...]:
    """The same documents with questions of common knowledge, which have nothing to do with them."""
    questions = yaml.safe_load(COMMON.read_text(encoding="utf-8"))
    documents = [document for document, _ in _documents()]
    lessons = []
    for place, document in enumerate(documents):
        some = questions[place :: len(documents)]
        pairs = tuple(_pair(one["question"], one["answers"][0]) for one in some)
        lessons.append(Lesson(document, pairs, tuple(tuple(one["answers"][1:]) for one in some)))
    return tuple(lessons)


@cache
def _documents() -> tuple[tuple[Document, dict[str, Any]], ...]:
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        found.append((Document(path.stem, told["text"].strip(), told["title"]), told))
    return tuple(found)


def _pair(question: str, answer: str) -> QAPair:
    return QAPair(question, str(answer), f"The answer is {answer}.")
