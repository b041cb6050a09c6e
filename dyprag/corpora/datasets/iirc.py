"""IIRC (out of distribution): questions about an article whose answers require articles that it links to."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from dyprag.corpora.datasets.dataset import DataSet, Passages, assembled, distinct, share
from dyprag.corpora.datasets.files import Layout, read_records
from dyprag.corpora.documents import Question
from dyprag.corpora.reader import DocumentCollection

IIRC = Layout(
    "iirc", "dev.json", "a JSON list of articles with title and questions [{qid, question, answer, context}, …]"
)


class Span(BaseModel):
    """A span of text and its article; 'main' is the article that the question is about."""

    text: str
    passage: str


class IircAnswer(BaseModel):
    """An answer, whose type determines which fields contain it. The annotators rejected those of type 'bad'."""

    type: Literal["span", "value", "binary", "none", "bad"]
    answer_spans: list[Span] = []
    answer_value: str | int | float = ""
    answer_unit: str | None = None


class IircQuestion(BaseModel):
    """A question about an article."""

    qid: str
    question: str = Field(min_length=1)
    answer: IircAnswer
    context: list[Span] = []


class Article(BaseModel):
    """A record of dev.json."""

    title: str
    questions: list[IircQuestion]


def load_iirc(path: Path, passages: Passages | None) -> DataSet:
    """Load dev.json. A question's type is that of its answer.

    Gold documents are the question's context entries, with those of one article as one document. Several spans are
    joined by ', ' to one answer: the data set's own scoring requires all of them and gives partial credit for one (the
    paper's code accepts any single span). A value is also correct without its unit. Unanswerable questions are
    excluded, as in the paper.
    """
    collection, questions, unanswerable, several = DocumentCollection(), [], 0, 0
    for position, article in read_records(path, IIRC, Article):
        for record in article.questions:
            if record.answer.type in ("none", "bad"):
                unanswerable += 1
                continue
            answers = _answers(record.answer)
            if not answers:
                reason = f"the answer of question {record.qid!r} lacks the fields of its type {record.answer.type!r}"
                raise IIRC.wrong(position, reason)
            several += len(record.answer.answer_spans) > 1
            question = Question(
                id=record.qid,
                question=record.question,
                answers=answers,
                documents=_gold(record, article.title, collection),
                type=record.answer.type,
            )
            questions.append(question)
    notes = [f"excluded, no answer: {share(unanswerable, questions, unanswerable)}"] if unanswerable else []
    if several:
        notes.append(f"answers with several spans, all of them required: {share(several, questions)}")
    return assembled("iirc", path, questions, collection, passages, notes)


def _answers(answer: IircAnswer) -> tuple[str, ...]:
    value = str(answer.answer_value).strip()
    if answer.type == "span":
        return distinct([", ".join(distinct(span.text for span in answer.answer_spans))])
    if answer.type == "binary":
        return (value.lower(),) if value.lower() in ("yes", "no") else ()
    return distinct([f"{value} {answer.answer_unit or ''}", value]) if value else ()


def _gold(record: IircQuestion, main: str, collection: DocumentCollection) -> tuple[str, ...]:
    """Add a question's context to the documents, one per article, and return their ids."""
    texts: dict[str, dict[str, None]] = {}
    for span in record.context:
        texts.setdefault(main if span.passage == "main" else span.passage, {})[span.text.strip()] = None
    return tuple(dict.fromkeys(collection.add(title, " ".join(parts)) for title, parts in texts.items()))
