"""StrategyQA and IIRC, the paper's sets out of distribution, and RAGTruth, its set for hallucination."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field, StrictBool

from dyprag.corpora.datasets.dataset import DataSet, Passages, assembled
from dyprag.corpora.datasets.files import Layout, checked, read_json, read_records
from dyprag.corpora.documents import Question
from dyprag.corpora.reader import Shelf

STRATEGYQA = Layout(
    "strategyqa",
    "strategyqa_train.json",
    "a JSON list of questions with qid, question, answer (true or false), facts and evidence",
)
PARAGRAPHS = Layout(
    "strategyqa",
    "strategyqa_train_paragraphs.json",
    "a JSON object of paragraph id → {title, section, headers, para_index, content}",
)
RAGTRUTH = Layout(
    "ragtruth",
    "source_info.jsonl",
    "JSON lines of source_id, task_type and source_info, which holds question and passages where task_type is 'QA'",
)


class StrategyQuestion(BaseModel):
    """A record of strategyqa_train.json. Evidence is nested: annotator, step of the decomposition, paragraph ids."""

    qid: str
    question: str = Field(min_length=1)
    answer: StrictBool
    facts: list[str] = []
    evidence: list[list[list[list[str] | str]]] = []


class Paragraph(BaseModel):
    """A value of strategyqa_train_paragraphs.json."""

    title: str
    content: str


class RagTruthSource(BaseModel):
    """A line of source_info.jsonl; what `source_info` is depends on the task."""

    source_id: str | int
    task_type: str
    source_info: object


class RagTruthQuestion(BaseModel):
    """The `source_info` of a QA record."""

    question: str = Field(min_length=1)
    passages: str = Field(min_length=1)


def load_strategyqa(path: Path, passages: Passages | None) -> DataSet:
    """strategyqa_train.json, and strategyqa_train_paragraphs.json beside it.

    Gold are the paragraphs that any annotator gave as evidence. Without the paragraph file, the facts are.
    """
    file, shelf, notes = path.with_name(PARAGRAPHS.file), Shelf(), []
    paragraphs = _paragraphs(file, shelf) if file.is_file() else None
    if paragraphs is None:
        notes.append(f"{PARAGRAPHS.file} is not beside {path.name}: the facts stand for the evidence paragraphs")
    questions, absent = [], set()
    for _, record in read_records(path, STRATEGYQA, StrategyQuestion):
        if paragraphs is None:
            gold = [shelf.put("", fact, f"{record.qid} fact {n}") for n, fact in enumerate(record.facts, start=1)]
        else:
            named = dict.fromkeys(_evidence(record))
            gold = [paragraphs[identity] for identity in named if identity in paragraphs]
            absent |= named.keys() - paragraphs.keys()
        question = Question(
            id=record.qid,
            question=record.question,
            answers=("yes" if record.answer else "no",),
            documents=tuple(dict.fromkeys(gold)),
        )
        questions.append(question)
    if absent:
        notes.append(f"evidence paragraphs that {file.name} lacks: {len(absent):,}")
    return assembled("strategyqa", path, questions, shelf, passages, notes)


def _paragraphs(path: Path, shelf: Shelf) -> Mapping[str, str]:
    """Ids on the shelf by the file's ids, which are kept: they say title and number."""
    values = read_json(path, PARAGRAPHS)
    if not isinstance(values, dict):
        raise PARAGRAPHS.wrong(str(path), "it is not an object of paragraphs")
    ids = {}
    for identity, value in values.items():
        paragraph = checked(value, Paragraph, f"{path}, paragraph {identity!r}", PARAGRAPHS)
        ids[identity] = shelf.put(paragraph.title, paragraph.content, identity)
    return ids


def _evidence(record: StrategyQuestion) -> Iterator[str]:
    """Paragraph ids; the bare strings between them ('operation', 'no_evidence') are none."""
    for annotator in record.evidence:
        for step in annotator:
            for item in step:
                if isinstance(item, list):
                    yield from item


def load_ragtruth(path: Path, passages: Passages | None) -> DataSet:
    """source_info.jsonl, the records whose task is QA. They have no reference answers: a judge compares methods."""
    shelf, questions, others = Shelf(), [], 0
    for place, record in read_records(path, RAGTRUTH, RagTruthSource):
        if record.task_type != "QA":
            others += 1
            continue
        source = checked(record.source_info, RagTruthQuestion, place, RAGTRUTH)
        texts = split_passages(source.passages)
        if not texts:
            raise RAGTRUTH.wrong(place, "'passages' does not start with 'passage 1:'")
        gold = [shelf.put("", text, f"{record.source_id} passage {n}") for n, text in enumerate(texts, start=1)]
        question = Question(
            id=str(record.source_id), question=source.question, answers=(), documents=tuple(dict.fromkeys(gold))
        )
        questions.append(question)
    notes = [f"left out, another task than QA: {others:,} of {others + len(questions):,} records"] if others else []
    return assembled("ragtruth", path, questions, shelf, passages, notes)


def split_passages(joined: str) -> Sequence[str]:
    """The texts of 'passage 1:… passage 2:…', in order; none where it does not begin so.

    A marker stands at the start of a line, as published; where the lines were run together, after any space. Only the
    next number ends a passage, so that one which mentions another stays whole.
    """
    first = re.match(r"\s*passage 1:", joined)
    if first is None:
        return ()
    texts: list[str] = []
    for before in ("^", r"(?<!\S)"):
        start = first.end()
        while marker := re.compile(rf"{before}passage {len(texts) + 2}:", re.MULTILINE).search(joined, start):
            texts.append(joined[start : marker.start()].strip())
            start = marker.end()
        if texts:
            break
    return (*texts, joined[start:].strip())
