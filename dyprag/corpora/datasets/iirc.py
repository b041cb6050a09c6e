"""IIRC, out of distribution: questions about an article whose answers need the articles that it links to."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from dyprag.corpora.datasets.dataset import DataSet, Passages, assembled, distinct, share
from dyprag.corpora.datasets.files import Layout, read_records
from dyprag.corpora.documents import Question
from dyprag.corpora.reader import Shelf

IIRC = Layout(
    "iirc", "dev.json", "a JSON list of articles with title and questions [{qid, question, answer, context}, …]"
)


class Span(BaseModel):
    """A stretch of text, and the article that it stands in ('main': the one asked about)."""

    text: str
    passage: str


class IircAnswer(BaseModel):
    """Which fields hold the answer depends on its type; 'bad' ones were rejected by the annotators."""

    type: Literal["span", "value", "binary", "none", "bad"]
    answer_spans: list[Span] = []
    answer_value: str | int | float = ""
    answer_unit: str | None = None


class IircQuestion(BaseModel):
    """One of an article's questions."""

    qid: str
    question: str = Field(min_length=1)
    answer: IircAnswer
    context: list[Span] = []


class Article(BaseModel):
    """A record of dev.json."""

    title: str
    questions: list[IircQuestion]


def load_iirc(path: Path, passages: Passages | None) -> DataSet:
    """dev.json; a question's type is its answer's. Gold are its context entries, those of one article as one document.

    Several spans are one answer, joined by ', ': the set's own scoring asks for all of them and gives part of the
    credit for one (the paper's code counts any single span as right). A value is also right without its unit.
    Questions that cannot be answered are left out, as the paper does.
    """
    shelf, questions, none, several = Shelf(), [], 0, 0
    for place, article in read_records(path, IIRC, Article):
        for asked in article.questions:
            if asked.answer.type in ("none", "bad"):
                none += 1
                continue
            answers = _answers(asked.answer)
            if not answers:
                wrong = f"the answer of question {asked.qid!r} has not what its type {asked.answer.type!r} needs"
                raise IIRC.wrong(place, wrong)
            several += len(asked.answer.answer_spans) > 1
            question = Question(
                id=asked.qid,
                question=asked.question,
                answers=answers,
                documents=_gold(asked, article.title, shelf),
                type=asked.answer.type,
            )
            questions.append(question)
    notes = [f"left out, no answer: {share(none, questions, none)}"] if none else []
    if several:
        notes.append(f"several spans for an answer, all of them asked for: {share(several, questions)}")
    return assembled("iirc", path, questions, shelf, passages, notes)


def _answers(answer: IircAnswer) -> tuple[str, ...]:
    value = str(answer.answer_value).strip()
    if answer.type == "span":
        return distinct([", ".join(distinct(span.text for span in answer.answer_spans))])
    if answer.type == "binary":
        return (value.lower(),) if value.lower() in ("yes", "no") else ()
    return distinct([f"{value} {answer.answer_unit or ''}", value]) if value else ()


def _gold(asked: IircQuestion, main: str, shelf: Shelf) -> tuple[str, ...]:
    texts: dict[str, dict[str, None]] = {}
    for span in asked.context:
        texts.setdefault(main if span.passage == "main" else span.passage, {})[span.text.strip()] = None
    return tuple(dict.fromkeys(shelf.put(title, " ".join(parts)) for title, parts in texts.items()))
