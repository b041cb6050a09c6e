"""Read a user's documents and questions: JSONL files, folders of text, or the demo that ships with the project.

What makes the whole file unusable is one error up front; a document without text is its own failure, later.
"""

import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from dyprag.documents import Corpus, Document, Question
from dyprag.errors import CorpusError

DEMO = "demo"


def load_corpus(
    documents: str, questions: str | None = None, max_documents: int | None = None, max_questions: int | None = None
) -> Corpus:
    """Read documents and questions.

    Args:
        documents: a JSONL file of objects with `id`, `text` and an optional `title`; a folder whose .txt and .md files
            are documents named by their path; or "demo".
        questions: a JSONL file of objects with `question`, `answer` (a string, or a list with aliases), and optional
            `id`, `documents` (ids that hold the answer) and `type`; "demo"; or None. The demo corpus brings its own.
        max_documents: take only the first so many documents, and only questions about those.
        max_questions: take at most so many questions about each document, or set of documents.

    Raises:
        CorpusError: missing, empty, not UTF-8, not JSON, lacking a field, or with an id that occurs twice.
    """
    if documents == DEMO and questions is None:
        questions = DEMO
    whole = tuple(_documents(documents))
    read = whole[:max_documents]
    if not read:
        raise CorpusError(f"corpus {documents}", "it holds no document", "Put documents in it, or name another corpus.")
    asked: tuple[Question, ...] = ()
    if questions is not None:
        known, everywhere = {document.id for document in read}, {document.id for document in whole}
        for question in (asked := tuple(_questions(questions))):
            if unknown := set(question.documents) - everywhere:
                raise CorpusError(
                    f"questions {questions}", f"question {question.id!r} names a document {unknown.pop()!r} that is "
                    "not in the corpus", "Mend its 'documents'.",
                )  # fmt: skip
        asked = tuple(question for question in asked if set(question.documents) <= known)
        if max_questions is not None:
            asked = tuple(_first_of_each(asked, max_questions))
    return Corpus(read, asked)


def _documents(location: str) -> Iterable[Document]:
    path = _located(location, "documents.jsonl", "corpus")
    if path.is_dir():
        files = sorted(file for suffix in ("*.txt", "*.md") for file in path.rglob(suffix))
        return [Document(str(file.relative_to(path)), _text(file, "corpus").strip(), file.stem) for file in files]
    documents: dict[str, Document] = {}
    for number, row in _rows(path, "corpus"):
        place = f"corpus {path}, line {number}"
        identity = row.get("id")
        if not isinstance(identity, str | int) or str(identity).strip() == "":
            raise CorpusError(place, "the document has no 'id'", "Give each document a unique id.")
        identity = str(identity)
        if not isinstance(row.get("text"), str):
            raise CorpusError(place, f"document {identity!r} has no 'text' string", "Put the document's text there.")
        if identity in documents:
            raise CorpusError(place, f"the id {identity!r} occurs twice", "Give each document a unique id.")
        documents[identity] = Document(identity, _whole(row["text"]), _whole(str(row.get("title") or "")))
    return documents.values()


def _questions(location: str) -> Iterable[Question]:
    path = _located(location, "questions.jsonl", "questions")
    questions: dict[str, Question] = {}
    for number, row in _rows(path, "questions"):
        place = f"questions {path}, line {number}"
        answer = row.get("answer")
        answers = _strings(answer)
        if not isinstance(row.get("question"), str) or not answers:
            raise CorpusError(
                place, "it needs a 'question' string and an 'answer' (a string or a list of strings)", "Mend the line."
            )
        about = _strings(row.get("documents") or [])
        if about is None:
            raise CorpusError(place, "its 'documents' are not a list of document ids", "Mend the line.")
        identity = str(row["id"]) if row.get("id") is not None else f"question-{number}"
        if identity in questions:
            raise CorpusError(place, f"the id {identity!r} occurs twice", "Give each question a unique id.")
        questions[identity] = Question(identity, row["question"], answers, about, str(row.get("type") or "single"))
    return questions.values()


def _strings(value: object) -> tuple[str, ...] | None:
    """One string or a list of strings, none of them empty, as a tuple; None where it is something else."""
    values = [value] if isinstance(value, str) else value
    if isinstance(values, list) and all(isinstance(v, str) and v.strip() for v in values):
        return tuple(values)
    return None


def _first_of_each(questions: Iterable[Question], limit: int) -> Iterable[Question]:
    taken: dict[tuple[str, ...], int] = {}
    for question in questions:
        taken[question.documents] = taken.get(question.documents, 0) + 1
        if not question.documents or taken[question.documents] <= limit:
            yield question


def _located(location: str, demo_file: str, what: str) -> Path:
    if location == DEMO:
        return Path(str(resources.files("dyprag") / "demo" / demo_file))
    path = Path(location).expanduser()
    if not path.exists():
        raise CorpusError(
            f"{what} {location}",
            "there is no such file or folder",
            "Check the path, or use 'demo' to try the pipeline.",
        )
    return path


def _whole(text: str) -> str:
    """Stripped, and with halves of surrogate pairs (a cut emoji in JSON), which nothing can encode, as '?'."""
    return text.strip().encode("utf-8", "replace").decode()


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{what} {path}",
            f"it is not UTF-8 (byte {error.start:,} is {error.object[error.start]:#04x})",
            "Convert it, for example: iconv -f latin1 -t utf-8 OLD > NEW.",
        ) from error
    except OSError as error:
        raise CorpusError(f"{what} {path}", f"it cannot be read ({error.strerror})", "Check its rights.") from error


def _rows(path: Path, what: str) -> Iterable[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_text(path, what).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(
                f"{what} {path}, line {number}", f"it is not JSON ({error})", "Write one JSON object a line (JSONL)."
            ) from error
        if not isinstance(row, dict):
            raise CorpusError(f"{what} {path}, line {number}", "it is not a JSON object", "Write one object a line.")
        yield number, row
