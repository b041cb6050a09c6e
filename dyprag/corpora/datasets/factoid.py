"""PopQA and ComplexWebQuestions: data sets with short entity answers and without passages."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from dyprag.corpora.datasets.dataset import DataSet, Passages, assembled, distinct, share
from dyprag.corpora.datasets.files import Layout, checked, read_records
from dyprag.corpora.documents import Question
from dyprag.corpora.reader import DocumentCollection, read_text

POPQA = Layout(
    "popqa",
    "popQA.tsv",
    "tab-separated columns with a header, among them id, prop, obj, question and possible_answers (a JSON list)",
)
CWQ = Layout(
    "complexwebquestions",
    "ComplexWebQuestions_dev.json",
    "a JSON list of questions with ID, question and answers [{answer, aliases}, …]",
)


def _json_list(text: object) -> object:
    return json.loads(text) if isinstance(text, str) else text


class PopQuestion(BaseModel):
    """A row of popQA.tsv, with the columns that are used."""

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    obj: str = Field(min_length=1)
    prop: str
    possible_answers: Annotated[list[str], BeforeValidator(_json_list)]
    s_wiki_title: str = ""


class CwqAnswer(BaseModel):
    """One of a question's answers; null if the entity has no English name."""

    answer: str | None
    aliases: list[str] = []


class CwqQuestion(BaseModel):
    """A record of ComplexWebQuestions_dev.json."""

    ID: str
    question: str = Field(min_length=1)
    answers: list[CwqAnswer]
    compositionality_type: str = "single"


def load_popqa(path: Path, passages: Passages | None) -> DataSet:
    """Load popQA.tsv.

    The canonical answer is `obj`, the type is the property, and the gold documents are the passages with the title
    `s_wiki_title`.
    """
    by_title = defaultdict(list)
    for passage in passages or ():
        by_title[passage.title].append(passage.id)
    questions = []
    for position, row in _rows(path):
        record = checked(row, PopQuestion, position, POPQA)
        question = Question(
            id=record.id,
            question=record.question,
            answers=distinct((record.obj, *record.possible_answers)),
            documents=tuple(by_title[record.s_wiki_title]) if record.s_wiki_title in by_title else (),
            type=record.prop,
        )
        questions.append(question)
    missing = sum(not question.documents for question in questions)
    note = f"no passage has their subject as its title: {share(missing, questions)}"
    notes = [note] if passages is not None and missing else []
    return assembled("popqa", path, questions, DocumentCollection(passages or ()), None, notes)


def load_complexwebquestions(path: Path, passages: Passages | None) -> DataSet:
    """Load ComplexWebQuestions_dev.json.

    Each of several answers is correct, as in the data set's own scoring; the first is the canonical one.
    """
    questions, nameless = [], 0
    for _, record in read_records(path, CWQ, CwqQuestion):
        answers = distinct(name for each in record.answers for name in (each.answer or "", *each.aliases))
        if not answers:
            nameless += 1
            continue
        question = Question(
            id=record.ID, question=record.question, answers=answers, type=record.compositionality_type or "single"
        )
        questions.append(question)
    notes = [f"excluded, answer without a name: {share(nameless, questions, nameless)}"] if nameless else []
    return assembled("complexwebquestions", path, questions, DocumentCollection(), passages, notes)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(path, POPQA.name), newline=""), delimiter="\t", strict=True)
    try:
        if "possible_answers" not in (reader.fieldnames or ()):
            raise POPQA.wrong(str(path), "its first line has no column 'possible_answers'")
        for row in reader:
            position = f"{path}, line {reader.line_num} ({row.get('id')})"
            if None in row or None in row.values():
                columns = len(reader.fieldnames or ())
                raise POPQA.wrong(position, f"it does not have the {columns} columns of the first line")
            yield position, row
    except csv.Error as error:
        raise POPQA.wrong(f"{path}, line {reader.reader.line_num}", f"it cannot be read ({error})") from error
