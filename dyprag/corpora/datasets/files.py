"""Find a data set's official files and read their records. A record with another layout raises one clear error."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dyprag.corpora.reader import read_rows, read_text
from dyprag.errors import CorpusError

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Layout:
    """The official layout of a data set's main file.

    Args:
        name: the name of the data set and of its folder.
        file: the name of the official file.
        form: a description of the file's content, for error messages.
    """

    name: str
    file: str
    form: str

    def wrong(self, position: str, reason: str) -> CorpusError:
        """Return the error for a file, or a record of it, that does not have this layout."""
        return CorpusError(f"{self.name} {position}", reason, f"Use {self.file} as published: {self.form}.")


def find_file(layout: Layout, location: str | Path) -> Path:
    """Return the path of a data set's main file: the location, or a file in it or in its folder for this data set.

    Raises:
        CorpusError: the file does not exist in any of these places.
    """
    start = Path(location).expanduser()
    for path in (start, start / layout.file, start / layout.name / layout.file):
        if path.is_file():
            return path
    reason = "there is no such file or folder" if not start.exists() else f"it has no {layout.file}"
    raise CorpusError(
        f"{layout.name} {start}",
        reason,
        f"Name the file {layout.file}, its folder, or a folder that contains '{layout.name}/{layout.file}'.",
    )


def read_records(path: Path, layout: Layout, record: type[Record]) -> Iterator[tuple[str, Record]]:
    """Yield each record of a JSON list or of JSON lines, with its position for error messages.

    Raises:
        CorpusError: the file is not JSON, or a record lacks a field or has a value of the wrong type.
    """
    for position, value in _values(path, layout):
        yield position, checked(value, record, position, layout)


def checked(value: object, record: type[Record], position: str, layout: Layout) -> Record:
    """Validate a parsed value as a record; raise CorpusError with the name of an invalid field."""
    try:
        return record.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise layout.wrong(position, f"'{field}': {message}" if field else message) from error


def read_json(path: Path, layout: Layout) -> Any:
    """Read a JSON file."""
    text = read_text(path, layout.name)
    try:
        return json.loads(text)
    except ValueError as error:
        raise layout.wrong(str(path), f"it is not JSON ({error})") from error


def _values(path: Path, layout: Layout) -> Iterator[tuple[str, object]]:
    start = read_text(path, layout.name).lstrip()[:1]
    if start == "{":  # JSON lines, as exported by the Hugging Face hub
        try:
            for number, row in read_rows(path, layout.name):
                yield f"{path}, line {number}", row
        except CorpusError as error:
            raise layout.wrong(error.subject.removeprefix(f"{layout.name} "), error.reason) from error
        return
    values = read_json(path, layout)
    if not isinstance(values, list):
        raise layout.wrong(str(path), "it is not a list of records")
    for number, value in enumerate(values):
        yield f"{path}, record {number}{_named(value)}", value


def _named(value: object) -> str:
    if isinstance(value, Mapping):
        for field in ("_id", "id", "ID", "qid", "pid"):
            if isinstance(value.get(field), str | int):
                return f" ({value[field]})"
    return ""
