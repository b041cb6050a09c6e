"""Read a user's documents and questions, or the demo corpus of this package.

A problem with the whole corpus raises one error immediately. A document that cannot be read fails on its own, later.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from dyprag.corpora.documents import Corpus, Document, Noted, Question, Skipped, Unread
from dyprag.corpora.locations import READ, Entry, documents_at
from dyprag.corpora.reading.encodings import letters_of
from dyprag.corpora.rows import object_of, text_of, whole
from dyprag.corpora.text.forms import encodable, folded, written
from dyprag.errors import CorpusError, DocumentError
from dyprag.runtime import progress
from dyprag.runtime.interruption import check

DEMO = "demo"
SHOWN = 3  # maximum number of files that an error lists
MOST_COMPARED = 20_000  # maximum number of ids that are compared with an unknown one


class DocumentCollection:
    """A collection of documents under unique, readable ids, in the order in which they were added.

    Documents with equal title and text are stored once.

    Args:
        documents: the initial documents, which keep their ids.
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

    def add(self, title: str, text: str, name: str = "") -> str:
        """Add a document, unless an equal one exists, and return its id.

        The id is the name or, without one, the title. If it is taken, ' (2)' is appended.
        """
        title, text = whole(title), whole(text)
        if (title, text) in self._ids:
            return self._ids[title, text]
        identity = base = whole(name) or title or "untitled"
        while identity in self._documents:
            self._copies[base] = self._copies.get(base, 1) + 1
            identity = f"{base} ({self._copies[base]})"
        self._documents[identity] = Document(identity, text, title)
        self._ids[title, text] = identity
        return identity


def load_corpus(
    documents: str, questions: str | None = None, max_documents: int | None = None, max_questions: int | None = None
) -> Corpus:
    """Read documents and questions.

    Args:
        documents: the location of the documents, see `documents_at`; or "demo".
        questions: a JSONL file of objects with `question`, `answer` (a string, or a list with aliases), and optional
            `id`, `documents` (ids of documents with the answer), `passages` (texts with the answer, see
            `read_questions`) and `type`; "demo"; or None. The demo corpus has its own questions.
        max_documents: use only this many documents, from the beginning, and only questions about them.
        max_questions: use at most this many questions about each document or set of documents.

    Raises:
        CorpusError: no document can be read, or the questions are missing, not UTF-8, not JSON, lack a field, or
            contain an id twice.
    """
    if documents == DEMO and questions is None:
        questions = DEMO
    entries: list[Entry] = []
    count = 0
    for entry in documents_at(_demo(documents, "documents.jsonl")):
        check()
        entries.append(entry)
        count += isinstance(entry, Document)
        progress.advance()
        if questions is None and count == max_documents:
            break
    corpus = _corpus(entries)
    if not count:
        raise _nothing_read(documents, corpus)
    if questions is None:
        return corpus
    collection = DocumentCollection(corpus.documents)
    test_questions, aside = _readable(
        _by_id(read_questions(questions, collection), collection), collection, corpus.unread
    )
    corpus = replace(corpus, noted=(*corpus.noted, *aside))
    require_documents(questions, test_questions, collection)
    selected = collection.documents[:max_documents]
    ids = {document.id for document in selected}
    test_questions = tuple(question for question in test_questions if set(question.documents) <= ids)
    if max_questions is not None:
        test_questions = tuple(_first_of_each(test_questions, max_questions))
    return replace(corpus, documents=selected, questions=test_questions)


def _corpus(entries: Iterable[Entry]) -> Corpus:
    """Sort the entries of a location by their kinds."""
    entries = tuple(entries)
    return Corpus(
        tuple(entry for entry in entries if isinstance(entry, Document)),
        unread=tuple(entry for entry in entries if isinstance(entry, Unread)),
        skipped=tuple(entry for entry in entries if isinstance(entry, Skipped)),
        noted=tuple(entry for entry in entries if isinstance(entry, Noted)),
    )


def check_corpus(documents: str, questions: str | None = None) -> None:
    """Check early that at least one document can be read, and that the questions can be read.

    Raises:
        CorpusError: see `load_corpus`. The document ids in the questions are not checked.
    """
    entries: list[Entry] = []
    for entry in documents_at(_demo(documents, "documents.jsonl")):
        if isinstance(entry, Document):
            break
        entries.append(entry)
    else:
        raise _nothing_read(documents, _corpus(entries))
    if questions is not None:
        read_questions(questions, DocumentCollection())


def read_documents(location: str) -> tuple[Document, ...]:
    """Read all documents at a location that must be complete, such as a data set's passages.

    Raises:
        CorpusError: a document cannot be read, or the location contains no documents.
    """
    corpus = read_anything(location)
    if not corpus.documents or corpus.unread:
        raise _nothing_read(location, corpus)
    return corpus.documents


def read_given(locations: Sequence[str]) -> Corpus:
    """Read the documents that a user gives together with a question, and report the ones that cannot be used.

    A document without text counts as unread. If two locations have the same id, the location is put before the second.

    Raises:
        CorpusError: a location does not exist, or no location has a document that can be read.
    """
    documents: dict[str, Document] = {}
    entries: list[Entry] = []
    first_error: CorpusError | None = None
    for location in dict.fromkeys(locations):
        corpus = read_anything(location)
        empty = [Unread(each.id, each.fault, each.source, named=True) for each in corpus.documents if each.fault]
        corpus = replace(corpus, unread=(*corpus.unread, *empty))
        usable = [document for document in corpus.documents if not document.fault]
        if not usable:
            first_error = first_error or _nothing_read(location, corpus)
            if not (corpus.unread or corpus.skipped):
                entries.append(Skipped(location, "it contains no documents"))
        for document in usable:
            name = document.id if document.id not in documents else f"{location}: {document.id}"
            documents[name] = replace(document, id=name)
        entries += [*corpus.unread, *corpus.skipped, *corpus.noted]
    if first_error and not documents:
        raise first_error
    return replace(_corpus(entries), documents=tuple(documents.values()))


def read_anything(location: str) -> Corpus:
    """Read everything at a location, even if it contains no readable document.

    Raises:
        CorpusError: the location does not exist or cannot be reached.
    """
    return _corpus(documents_at(_demo(location, "documents.jsonl")))


def _nothing_read(location: str, corpus: Corpus) -> CorpusError:
    """Return the error for a location without readable documents."""
    subject, skipped = f"corpus {location}", corpus.skipped
    if corpus.unread:
        return CorpusError(*corpus.unread[0].error.args)
    if not skipped:
        return CorpusError(
            subject, "it contains no documents", f"Add documents to it ({READ}), or name another corpus."
        )
    first = ", ".join(f"{file.id} ({file.reason})" for file in skipped[:SHOWN])
    count = f"{len(skipped):,} files were" if len(skipped) > 1 else "one file was"
    more = ", …" if len(skipped) > SHOWN else ""
    reason = f"it contains no documents, and {count} skipped: {first}{more}"
    return CorpusError(subject, reason, f"Convert them to one of {READ}, with text in them, or name another corpus.")


def read_questions(location: str, collection: DocumentCollection) -> tuple[Question, ...]:
    """Read a JSONL file of questions, and add the passages that it contains to the documents.

    Args:
        location: as in `load_corpus`. A question's `passages` is a list of strings, or of objects with `text` and an
            optional `title`. They are gold documents, in addition to those that its `documents` name.
        collection: the documents, to which new passages are added.

    Raises:
        CorpusError: the file, or a line of it, cannot be used. The ids in `documents` are not checked.
    """
    path = Path(_demo(location, "questions.jsonl")).expanduser()
    if not path.exists():
        remedy = "Check the path, or use 'demo' to try the pipeline."
        raise CorpusError(f"questions {location}", "there is no such file or folder", remedy)
    questions: dict[str, Question] = {}
    for number, row in read_rows(path, "questions"):
        subject = f"questions {path}, line {number}"
        answer = row.get("answer")
        answers = _strings(answer)
        if not isinstance(row.get("question"), str) or not answers:
            raise CorpusError(
                subject,
                "it needs 'question' (a string) and 'answer' (a string or a list of strings)",
                "Correct the line.",
            )
        gold = _strings([] if row.get("documents") in (None, "") else row["documents"])
        if gold is None:
            raise CorpusError(subject, "its 'documents' are not a list of document ids", "Correct the line.")
        identity = encodable(written(text_of(row.get("id")) or f"question-{number}"))
        if identity in questions:
            raise CorpusError(subject, f"the id {identity!r} occurs twice", "Give each question a unique id.")
        passages = [
            collection.add(title, text, title or f"{identity} passage {which}")
            for which, (title, text) in enumerate(_passages(row.get("passages") or [], subject), start=1)
        ]
        questions[identity] = Question(
            id=identity,
            question=encodable(written(row["question"])),
            answers=tuple(encodable(written(answer)) for answer in answers),
            documents=tuple(dict.fromkeys((*map(written, gold), *passages))),
            type=str(row.get("type") or "single"),
        )
    return tuple(questions.values())


def _by_id(questions: Iterable[Question], collection: DocumentCollection) -> tuple[Question, ...]:
    """Replace file names in the questions' `documents` by the documents' ids, which may lack the extension."""
    ids = {document.source: document.id for document in collection.documents if document.source.startswith(document.id)}

    def id_of(name: str) -> str:
        return name if name in collection else ids.get(name, name)

    return tuple(replace(question, documents=tuple(map(id_of, question.documents))) for question in questions)


def _readable(
    questions: tuple[Question, ...], read: DocumentCollection, unread: Sequence[Unread]
) -> tuple[tuple[Question, ...], tuple[Noted, ...]]:
    """Return the questions about documents that could be read, and a note for each of the others."""
    names = {name for each in unread for name in (each.id, each.source, each.id.rpartition(".")[0])}
    aside = tuple(
        Noted(question.id, f"this question is set aside, because its document {missing[0]!r} could not be read")
        for question in questions
        if (missing := [identity for identity in question.documents if identity in names and identity not in read])
    )
    ids = {note.id for note in aside}
    return tuple(question for question in questions if question.id not in ids), aside


def require_documents(location: str, questions: Iterable[Question], collection: DocumentCollection) -> None:
    """Raise CorpusError for the first question that names an unknown document."""
    for question in questions:
        for identity in question.documents:
            if identity not in collection:
                known = [document.id for document in collection.documents]
                raise CorpusError(
                    f"questions {location}",
                    f"question {question.id!r} names a document {identity!r} that is not in the corpus",
                    f"Correct its 'documents'; {such_as(identity, known)}.",
                )


def such_as(identity: str, known: Sequence[str]) -> str:
    """Return a text that suggests known ids in place of an unknown one."""
    stem = folded(PurePosixPath(identity).stem)
    by_stem: dict[str, str] = {}
    for candidate in known:
        by_stem.setdefault(folded(PurePosixPath(candidate).stem), candidate)
    close = [by_stem[stem]] if stem in by_stem else difflib.get_close_matches(identity, known[:MOST_COMPARED], n=3)
    examples = ", ".join(map(repr, close or known[:3]))
    if close:
        return f"did you mean {examples}?"
    if not known:
        return "there is none"
    return f"there are {len(known):,}, such as {examples}" if len(known) > 1 else f"there is only {examples}"


def _passages(value: object, subject: str) -> Iterable[tuple[str, str]]:
    """Yield the title and text of each passage of a question; a plain string has no title."""
    for passage in value if isinstance(value, list) else [value]:
        fields = passage if isinstance(passage, Mapping) else {"text": passage}
        title, text = fields.get("title") or "", fields.get("text")
        if not isinstance(title, str) or not isinstance(text, str) or not text.strip():
            raise CorpusError(
                subject, "its 'passages' are not a list of strings, or of objects with 'text' and optionally 'title'",
                "Correct the line.",
            )  # fmt: skip
        yield title, text


def _strings(value: object) -> tuple[str, ...] | None:
    """Return a non-empty string or a number, or a list of them, as a tuple of texts; None for any other value."""
    texts = [text_of(v) for v in (value if isinstance(value, list) else [value])]
    whole_texts = tuple(text for text in texts if text and text.strip())
    return whole_texts if len(whole_texts) == len(texts) else None


def _first_of_each(questions: Iterable[Question], limit: int) -> Iterable[Question]:
    """Yield at most `limit` questions about each set of documents, and all questions without documents."""
    counts: dict[tuple[str, ...], int] = {}
    for question in questions:
        counts[question.documents] = counts.get(question.documents, 0) + 1
        if not question.documents or counts[question.documents] <= limit:
            yield question


def _demo(location: str, file: str) -> str:
    return str(resources.files("dyprag.corpora") / "demo" / file) if location == DEMO else location


def read_text(path: Path, what: str) -> str:
    """Read a text file. Errors call the file `what`."""
    try:
        return letters_of(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    except DocumentError as error:
        raise CorpusError(f"{what} {path}", error.reason, error.remedy) from error
    except OSError as error:
        raise CorpusError(
            f"{what} {path}", f"it cannot be read ({error.strerror})", "Check its permissions."
        ) from error


def read_rows(path: Path, what: str) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield the number, from 1, and the object of each non-blank line of a JSONL file. Errors call the file `what`."""
    for number, line in enumerate(read_text(path, what).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = object_of(line, f"{what} {path}, line {number}")
        except DocumentError as error:
            raise CorpusError(*error.args) from error
        yield number, row
