"""PopQA and ComplexWebQuestions: short entity answers, and no passages of their own."""

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
from dyprag.corpora.reader import Shelf, read_text

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
    """A row of popQA.tsv; the columns that matter here."""

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    obj: str = Field(min_length=1)
    prop: str
    possible_answers: Annotated[list[str], BeforeValidator(_json_list)]
    s_wiki_title: str = ""


class CwqAnswer(BaseModel):
    """One of a question's answers; null where the entity has no English name."""

    answer: str | None
    aliases: list[str] = []


class CwqQuestion(BaseModel):
    """A record of ComplexWebQuestions_dev.json."""

    ID: str
    question: str = Field(min_length=1)
    answers: list[CwqAnswer]
    compositionality_type: str = "single"


def load_popqa(path: Path, passages: Passages | None) -> DataSet:
    """popQA.tsv. The canonical answer is `obj`, its type the property; gold are the passages titled `s_wiki_title`."""
    titled = defaultdict(list)
    for passage in passages or ():
        titled[passage.title].append(passage.id)
    questions = []
    for place, row in _rows(path):
        record = checked(row, PopQuestion, place, POPQA)
        question = Question(
            id=record.id,
            question=record.question,
            answers=distinct((record.obj, *record.possible_answers)),
            documents=tuple(titled[record.s_wiki_title]) if record.s_wiki_title in titled else (),
            type=record.prop,
        )
        questions.append(question)
    bare = sum(not question.documents for question in questions)
    notes = [f"no passage titled as their subject: {share(bare, questions)}"] if passages is not None and bare else []
    return assembled("popqa", path, questions, Shelf(passages or ()), None, notes)


def load_complexwebquestions(path: Path, passages: Passages | None) -> DataSet:
    """ComplexWebQuestions_dev.json. Each of several answers is right, as in the set's own scoring; the first leads."""
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
    notes = [f"left out, answer without a name: {share(nameless, questions, nameless)}"] if nameless else []
    return assembled("complexwebquestions", path, questions, Shelf(), passages, notes)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(path, POPQA.name), newline=""), delimiter="\t", strict=True)
    try:
        if "possible_answers" not in (reader.fieldnames or ()):
            raise POPQA.wrong(str(path), "its first line has no column 'possible_answers'")
        for row in reader:
            place = f"{path}, line {reader.line_num} ({row.get('id')})"
            if None in row or None in row.values():
                raise POPQA.wrong(place, f"it has not the {len(reader.fieldnames or ())} columns of the first line")
            yield place, row
    except csv.Error as error:
        raise POPQA.wrong(f"{path}, line {reader.reader.line_num}", f"it cannot be read ({error})") from error
