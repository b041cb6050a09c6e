"""Read a user's documents and questions, or the demo that ships with the project.

What makes a whole corpus unusable is one error up front; a document that cannot be read is its own failure, later.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from dyprag.corpora.documents import Corpus, Document, Noted, Question, Skipped, Unread
from dyprag.corpora.locations import READ, Found, documents_at
from dyprag.corpora.reading.encodings import letters_of
from dyprag.corpora.rows import object_of, whole
from dyprag.corpora.text.forms import folded, written
from dyprag.errors import CorpusError, DocumentError
from dyprag.runtime import progress
from dyprag.runtime.interruption import check

DEMO = "demo"
SHOWN = 3  # files that an error names
MOST_COMPARED = 20_000  # ids that are compared with one that there is not


class Shelf:
    """Documents under unique, readable ids, in the order in which they came. Equal title and text is one document.

    Args:
        documents: those that stand on it already, under the ids that they have.
    """

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self._documents = {document.id: document for document in documents}
        self._ids: dict[tuple[str, str], str] = {}
        for document in self._documents.values():
            self._ids.setdefault((document.title, document.text), document.id)
        self._copies: dict[str, int] = {}

    @property
    def documents(self) -> tuple[Document, ...]:
        return tuple(self._documents.values())

    def __contains__(self, identity: str) -> bool:
        return identity in self._documents

    def put(self, title: str, text: str, name: str = "") -> str:
        """Add a document unless it is there; gives its id: its name, or else its title, with ' (2)' where taken."""
        title, text = whole(title), whole(text)
        if (title, text) in self._ids:
            return self._ids[title, text]
        identity = wanted = whole(name) or title or "untitled"
        while identity in self._documents:
            self._copies[wanted] = self._copies.get(wanted, 1) + 1
            identity = f"{wanted} ({self._copies[wanted]})"
        self._documents[identity] = Document(identity, text, title)
        self._ids[title, text] = identity
        return identity


def load_corpus(
    documents: str, questions: str | None = None, max_documents: int | None = None, max_questions: int | None = None
) -> Corpus:
    """Read documents and questions.

    Args:
        documents: where they are, see `documents_at`; or "demo".
        questions: a JSONL file of objects with `question`, `answer` (a string, or a list with aliases), and optional
            `id`, `documents` (ids that hold the answer), `passages` (texts that hold it, see `read_questions`) and
            `type`; "demo"; or None. The demo corpus brings its own.
        max_documents: take only the first so many documents, and only questions about those.
        max_questions: take at most so many questions about each document, or set of documents.

    Raises:
        CorpusError: no document can be read, or the questions cannot be: missing, not UTF-8, not JSON, lacking a field,
            or with an id that occurs twice.
    """
    if documents == DEMO and questions is None:
        questions = DEMO
    read: list[Found] = []
    count = 0
    for found in documents_at(_demo(documents, "documents.jsonl")):
        check()
        read.append(found)
        count += isinstance(found, Document)
        progress.advance()
        if questions is None and count == max_documents:
            break
    corpus = _corpus(read)
    if not count:
        raise _nothing_read(documents, corpus)
    if questions is None:
        return corpus
    shelf = Shelf(corpus.documents)
    asked = _by_id(read_questions(questions, shelf), shelf)
    require_documents(questions, asked, shelf)
    taken = shelf.documents[:max_documents]
    known = {document.id for document in taken}
    asked = tuple(question for question in asked if set(question.documents) <= known)
    if max_questions is not None:
        asked = tuple(_first_of_each(asked, max_questions))
    return replace(corpus, documents=taken, questions=asked)


def _corpus(found: Iterable[Found]) -> Corpus:
    """What was found at a location, each kind by itself."""
    found = tuple(found)
    return Corpus(
        tuple(one for one in found if isinstance(one, Document)),
        unread=tuple(one for one in found if isinstance(one, Unread)),
        skipped=tuple(one for one in found if isinstance(one, Skipped)),
        noted=tuple(one for one in found if isinstance(one, Noted)),
    )


def check_corpus(documents: str, questions: str | None = None) -> None:
    """Find out early whether there is a document to be read, and whether the questions can be.

    Raises:
        CorpusError: see `load_corpus`; which documents the questions name is not looked at.
    """
    passed: list[Found] = []
    for found in documents_at(_demo(documents, "documents.jsonl")):
        if isinstance(found, Document):
            break
        passed.append(found)
    else:
        raise _nothing_read(documents, _corpus(passed))
    if questions is not None:
        read_questions(questions, Shelf())


def read_documents(location: str) -> tuple[Document, ...]:
    """The documents at a location, all of them or none: for what must be whole, such as a data set's passages.

    Raises:
        CorpusError: one that cannot be read, or nothing there is a document.
    """
    corpus = read_anything(location)
    if not corpus.documents or corpus.unread:
        raise _nothing_read(location, corpus)
    return corpus.documents


def read_given(locations: Sequence[str]) -> Corpus:
    """What a person hands over to be asked: the documents that can be read and have a text, and what is amiss with the
    others. An id that two locations have is told apart by the location.

    Raises:
        CorpusError: one of them does not exist, or at none of them is a document that can be read.
    """
    documents: dict[str, Document] = {}
    found: list[Found] = []
    nothing: CorpusError | None = None
    for location in dict.fromkeys(locations):
        corpus = read_anything(location)
        faults = [Unread(one.id, one.fault, one.source, named=True) for one in corpus.documents if one.fault]
        corpus = replace(corpus, unread=(*corpus.unread, *faults))
        sound = [one for one in corpus.documents if not one.fault]
        if not sound:
            nothing = nothing or _nothing_read(location, corpus)
            if not (corpus.unread or corpus.skipped):
                found.append(Skipped(location, "it contains no documents"))
        for one in sound:
            name = one.id if one.id not in documents else f"{location}: {one.id}"
            documents[name] = replace(one, id=name)
        found += [*corpus.unread, *corpus.skipped, *corpus.noted]
    if nothing and not documents:
        raise nothing
    return replace(_corpus(found), documents=tuple(documents.values()))


def read_anything(location: str) -> Corpus:
    """What there is at a location, be it that nothing can be read.

    Raises:
        CorpusError: the location does not exist or cannot be reached.
    """
    return _corpus(documents_at(_demo(location, "documents.jsonl")))


def _nothing_read(location: str, corpus: Corpus) -> CorpusError:
    place, passed = f"corpus {location}", corpus.skipped
    if corpus.unread:
        return CorpusError(*corpus.unread[0].error.args)
    if not passed:
        return CorpusError(place, "it contains no documents", "Add documents to it, or name another corpus.")
    first = ", ".join(f"{one.id} ({one.reason})" for one in passed[:SHOWN])
    count = f"{len(passed):,} files were" if len(passed) > 1 else "a file was"
    more = ", …" if len(passed) > SHOWN else ""
    reason = f"it contains no documents, and {count} passed over: {first}{more}"
    return CorpusError(place, reason, f"Convert them to one of {READ}, with text in them, or name another corpus.")


def read_questions(location: str, shelf: Shelf) -> tuple[Question, ...]:
    """Read a JSONL file of questions, and put the passages that they carry on the shelf.

    Args:
        location: as `load_corpus` takes it. A question's `passages` is a list of strings, or of objects with `text` and
            an optional `title`; they are documents that hold its answer, beside those that its `documents` name.
        shelf: the corpus, which the passages join where they are not in it.

    Raises:
        CorpusError: the file, or a line of it, cannot be used. Whether `documents` exist is not looked at.
    """
    path = Path(_demo(location, "questions.jsonl")).expanduser()
    if not path.exists():
        remedy = "Check the path, or use 'demo' to try the pipeline."
        raise CorpusError(f"questions {location}", "there is no such file or folder", remedy)
    questions: dict[str, Question] = {}
    for number, row in read_rows(path, "questions"):
        place = f"questions {path}, line {number}"
        answer = row.get("answer")
        answers = _strings(answer)
        if not isinstance(row.get("question"), str) or not answers:
            raise CorpusError(
                place,
                "it needs 'question' (a string) and 'answer' (a string or a list of strings)",
                "Correct the line.",
            )
        about = _strings(row.get("documents") or [])
        if about is None:
            raise CorpusError(place, "its 'documents' are not a list of document ids", "Correct the line.")
        identity = written(str(row["id"])) if row.get("id") is not None else f"question-{number}"
        if identity in questions:
            raise CorpusError(place, f"the id {identity!r} occurs twice", "Give each question a unique id.")
        carried = [
            shelf.put(title, text, title or f"{identity} passage {which}")
            for which, (title, text) in enumerate(_passages(row.get("passages") or [], place), start=1)
        ]
        questions[identity] = Question(
            id=identity,
            question=written(row["question"]),
            answers=tuple(map(written, answers)),
            documents=tuple(dict.fromkeys((*map(written, about), *carried))),
            type=str(row.get("type") or "single"),
        )
    return tuple(questions.values())


def _by_id(questions: Iterable[Question], shelf: Shelf) -> tuple[Question, ...]:
    """Questions that name a document by its file's name made to name it by its id, which may lack the ending."""
    ids = {one.source: one.id for one in shelf.documents if one.source.startswith(one.id)}

    def known(name: str) -> str:
        return name if name in shelf else ids.get(name, name)

    return tuple(replace(question, documents=tuple(map(known, question.documents))) for question in questions)


def require_documents(location: str, questions: Iterable[Question], shelf: Shelf) -> None:
    """Raise CorpusError for the first question that names a document which is not on the shelf."""
    for question in questions:
        for identity in question.documents:
            if identity not in shelf:
                known = [document.id for document in shelf.documents]
                raise CorpusError(
                    f"questions {location}",
                    f"question {question.id!r} names a document {identity!r} that is not in the corpus",
                    f"Correct its 'documents'; {such_as(identity, known)}.",
                )


def such_as(identity: str, known: Sequence[str]) -> str:
    """The ids that may be meant by one that there is not, in words."""
    stem = folded(PurePosixPath(identity).stem)
    by_stem: dict[str, str] = {}
    for other in known:
        by_stem.setdefault(folded(PurePosixPath(other).stem), other)
    near = [by_stem[stem]] if stem in by_stem else difflib.get_close_matches(identity, known[:MOST_COMPARED], n=3)
    named = ", ".join(map(repr, near or known[:3]))
    if near:
        return f"did you mean {named}?"
    if not known:
        return "there is none"
    return f"there are {len(known):,}, such as {named}" if len(known) > 1 else f"there is only {named}"


def _passages(value: object, place: str) -> Iterable[tuple[str, str]]:
    """Title and text of each passage that a question carries; a plain string has no title."""
    for passage in value if isinstance(value, list) else [value]:
        fields = passage if isinstance(passage, Mapping) else {"text": passage}
        title, text = fields.get("title") or "", fields.get("text")
        if not isinstance(title, str) or not isinstance(text, str) or not text.strip():
            raise CorpusError(
                place, "its 'passages' are not a list of strings, or of objects with 'text' and perhaps 'title'",
                "Correct the line.",
            )  # fmt: skip
        yield title, text


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


def _demo(location: str, file: str) -> str:
    return str(resources.files("dyprag.corpora") / "demo" / file) if location == DEMO else location


def read_text(path: Path, what: str) -> str:
    """A whole file of text; `what` says in an error what the file is."""
    try:
        return letters_of(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    except DocumentError as error:
        raise CorpusError(f"{what} {path}", error.reason, error.remedy) from error
    except OSError as error:
        raise CorpusError(
            f"{what} {path}", f"it cannot be read ({error.strerror})", "Check its permissions."
        ) from error


def read_rows(path: Path, what: str) -> Iterable[tuple[int, dict[str, Any]]]:
    """Line number, from 1, and object of each line of a JSONL file that is not blank."""
    for number, line in enumerate(read_text(path, what).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = object_of(line, f"{what} {path}, line {number}")
        except DocumentError as error:
            raise CorpusError(*error.args) from error
        yield number, row
