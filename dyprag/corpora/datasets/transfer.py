"""StrategyQA, one of the paper's out-of-distribution data sets, and RAGTruth, its data set for hallucination."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field, StrictBool

from dyprag.corpora.datasets.dataset import DataSet, Passages, assembled
from dyprag.corpora.datasets.files import Layout, checked, read_json, read_records
from dyprag.corpora.documents import Question
from dyprag.corpora.reader import DocumentCollection

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
    """A record of strategyqa_train.json. Evidence is nested by annotator, decomposition step and paragraph ids."""

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
    """A line of source_info.jsonl. The type of `source_info` depends on the task."""

    source_id: str | int
    task_type: str
    source_info: object


class RagTruthQuestion(BaseModel):
    """The `source_info` of a QA record."""

    question: str = Field(min_length=1)
    passages: str = Field(min_length=1)


def load_strategyqa(path: Path, passages: Passages | None) -> DataSet:
    """Load strategyqa_train.json, and strategyqa_train_paragraphs.json from the same folder.

    Gold documents are the paragraphs that any annotator gave as evidence or, without the paragraph file, the facts.
    """
    file, collection, notes = path.with_name(PARAGRAPHS.file), DocumentCollection(), []
    paragraphs = _paragraphs(file, collection) if file.is_file() else None
    if paragraphs is None:
        notes.append(f"{PARAGRAPHS.file} is not next to {path.name}: the facts replace the evidence paragraphs")
    questions, missing = [], set()
    for _, record in read_records(path, STRATEGYQA, StrategyQuestion):
        if paragraphs is None:
            gold = [collection.add("", fact, f"{record.qid} fact {n}") for n, fact in enumerate(record.facts, start=1)]
        else:
            evidence = dict.fromkeys(_evidence(record))
            gold = [paragraphs[identity] for identity in evidence if identity in paragraphs]
            missing |= evidence.keys() - paragraphs.keys()
        question = Question(
            id=record.qid,
            question=record.question,
            answers=("yes" if record.answer else "no",),
            documents=tuple(dict.fromkeys(gold)),
        )
        questions.append(question)
    if missing:
        notes.append(f"evidence paragraphs missing in {file.name}: {len(missing):,}")
    return assembled("strategyqa", path, questions, collection, passages, notes)


def _paragraphs(path: Path, collection: DocumentCollection) -> Mapping[str, str]:
    """Add the paragraphs to the documents, and return the document ids by the file's ids.

    Documents keep the file's ids, which consist of title and number.
    """
    values = read_json(path, PARAGRAPHS)
    if not isinstance(values, dict):
        raise PARAGRAPHS.wrong(str(path), "it is not an object of paragraphs")
    ids = {}
    for identity, value in values.items():
        paragraph = checked(value, Paragraph, f"{path}, paragraph {identity!r}", PARAGRAPHS)
        ids[identity] = collection.add(paragraph.title, paragraph.content, identity)
    return ids


def _evidence(record: StrategyQuestion) -> Iterator[str]:
    """Yield the paragraph ids, without the bare strings between them ('operation', 'no_evidence')."""
    for annotator in record.evidence:
        for step in annotator:
            for item in step:
                if isinstance(item, list):
                    yield from item


def load_ragtruth(path: Path, passages: Passages | None) -> DataSet:
    """Load the QA records of source_info.jsonl. They have no reference answers, so a judge compares the methods."""
    collection, questions, excluded = DocumentCollection(), [], 0
    for position, record in read_records(path, RAGTRUTH, RagTruthSource):
        if record.task_type != "QA":
            excluded += 1
            continue
        source = checked(record.source_info, RagTruthQuestion, position, RAGTRUTH)
        texts = split_passages(source.passages)
        if not texts:
            raise RAGTRUTH.wrong(position, "'passages' does not start with 'passage 1:'")
        gold = [collection.add("", text, f"{record.source_id} passage {n}") for n, text in enumerate(texts, start=1)]
        question = Question(
            id=str(record.source_id), question=source.question, answers=(), documents=tuple(dict.fromkeys(gold))
        )
        questions.append(question)
    total = excluded + len(questions)
    notes = [f"excluded, another task than QA: {excluded:,} of {total:,} records"] if excluded else []
    return assembled("ragtruth", path, questions, collection, passages, notes)


def split_passages(joined: str) -> Sequence[str]:
    """Split a text of the form 'passage 1:… passage 2:…'; return nothing if it does not begin like this.

    A marker is at the start of a line, as published, or after any space if the lines have been joined. Only the next
    number ends a passage, so that a passage may mention another one.
    """
    first = re.match(r"\s*passage 1:", joined)
    if first is None:
        return ()
    texts: list[str] = []
    for anchor in ("^", r"(?<!\S)"):
        start = first.end()
        while marker := re.compile(rf"{anchor}passage {len(texts) + 2}:", re.MULTILINE).search(joined, start):
            texts.append(joined[start : marker.start()].strip())
            start = marker.end()
        if texts:
            break
    return (*texts, joined[start:].strip())
