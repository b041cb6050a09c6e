"""2WikiMultihopQA and HotpotQA: questions that require several paragraphs, with gold and distractor paragraphs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from dyprag.corpora.datasets.dataset import DataSet, Passages, assembled, distinct, share
from dyprag.corpora.datasets.files import Layout, checked, read_records
from dyprag.corpora.documents import Question
from dyprag.corpora.reader import DocumentCollection, read_rows

FORM = (
    "a JSON list of questions with _id, question, answer, type, supporting_facts [[title, sentence], …] and "
    "context [[title, [sentence, …]], …]"
)
TWO_WIKI = Layout("2wikimultihopqa", "dev.json", FORM)
HOTPOT = Layout("hotpotqa", "hotpot_dev_distractor_v1.json", FORM)
ALIASES = Layout("2wikimultihopqa", "id_aliases.json", "JSON lines of Q_id, aliases and demonyms")


def _pairs(columns: object) -> object:
    """Convert the hub's layout, an object of columns of equal length, to the official list of pairs."""
    if not isinstance(columns, Mapping):
        return columns
    titles, values = columns.get("title"), columns.get("sentences", columns.get("sent_id"))
    if not isinstance(titles, list) or not isinstance(values, list) or len(titles) != len(values):
        raise ValueError("its columns 'title' and 'sentences' or 'sent_id' are not lists of equal length")
    return list(zip(titles, values, strict=True))


class MultiHopQuestion(BaseModel):
    """A record of either data set."""

    id: str = Field(validation_alias=AliasChoices("_id", "id"))
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    answer_id: str | None = None
    type: str = "single"
    supporting_facts: Annotated[list[tuple[str, Any]], BeforeValidator(_pairs)]
    context: Annotated[list[tuple[str, list[str]]], BeforeValidator(_pairs)]


class AliasRecord(BaseModel):
    """A line of id_aliases.json."""

    Q_id: str
    aliases: list[str]
    demonyms: list[str] = []


def load_2wikimultihopqa(path: Path, passages: Passages | None) -> DataSet:
    """Load dev.json, and id_aliases.json from the same folder. Sentences are joined by a space.

    An answer's aliases are the aliases and demonyms of its `answer_id`, as in the data set's own scoring (v1.1).
    """
    file = path.with_name(ALIASES.file)
    notes = [] if file.is_file() else [f"{ALIASES.file} is not next to {path.name}: answers have no aliases"]
    aliases = _aliases(file) if file.is_file() else {}
    return _load(TWO_WIKI, path, passages, " ", aliases, notes)


def load_hotpotqa(path: Path, passages: Passages | None) -> DataSet:
    """Load hotpot_dev_distractor_v1.json. Its sentences include the space before them."""
    return _load(HOTPOT, path, passages, "", {}, [])


def _load(
    layout: Layout,
    path: Path,
    passages: Passages | None,
    space: str,
    aliases: Mapping[str, list[str]],
    notes: list[str],
) -> DataSet:
    collection, questions, incomplete = DocumentCollection(), [], 0
    for _, record in read_records(path, layout, MultiHopQuestion):
        ids = {title: collection.add(title, space.join(sentences)) for title, sentences in record.context}
        titles = dict.fromkeys(title for title, _ in record.supporting_facts)
        incomplete += any(title not in ids for title in titles)
        question = Question(
            id=record.id,
            question=record.question,
            answers=distinct((record.answer, *aliases.get(record.answer_id or "", ()))),
            documents=tuple(ids[title] for title in titles if title in ids),
            type=record.type,
        )
        questions.append(question)
    if incomplete:
        notes.append(f"incomplete gold documents, because the context lacks them: {share(incomplete, questions)}")
    return assembled(layout.name, path, questions, collection, passages, notes)


def _aliases(path: Path) -> dict[str, list[str]]:
    aliases = {}
    for number, row in read_rows(path, ALIASES.name):
        record = checked(row, AliasRecord, f"{path}, line {number}", ALIASES)
        aliases[record.Q_id] = record.aliases + record.demonyms
    return aliases
