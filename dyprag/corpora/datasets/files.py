"""Find a data set's official files, and read their records; a record of another layout is one plain error."""

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
    """The official form of a set's main file.

    Args:
        name: the data set's name, which is also its folder's.
        file: the official file's name.
        form: what stands in it, for errors.
    """

    name: str
    file: str
    form: str

    def wrong(self, place: str, reason: str) -> CorpusError:
        """An error about a file, or a record of it, that is not of this form."""
        return CorpusError(f"{self.name} {place}", reason, f"Expected is {self.file} as published: {self.form}.")


def find_file(layout: Layout, location: str | Path) -> Path:
    """The set's main file: the location itself, in that folder, or in its folder of the set's name.

    Raises:
        CorpusError: it is at none of these places.
    """
    start = Path(location).expanduser()
    places = (start, start / layout.file, start / layout.name / layout.file)
    for place in places:
        if place.is_file():
            return place
    missing = "there is no such file or folder" if not start.exists() else f"it has no {layout.file}"
    raise CorpusError(
        f"{layout.name} {start}",
        missing,
        f"Name the file {layout.file}, its folder, or a folder that holds '{layout.name}/{layout.file}'.",
    )


def read_records(path: Path, layout: Layout, record: type[Record]) -> Iterator[tuple[str, Record]]:
    """Each record of a JSON list, or of JSON lines, with its place for errors.

    Raises:
        CorpusError: the file is not JSON, or a record lacks a field or has another type of value.
    """
    for place, value in _values(path, layout):
        yield place, checked(value, record, place, layout)


def checked(value: object, record: type[Record], place: str, layout: Layout) -> Record:
    """A parsed value as the record that it should be, or a CorpusError that names the field."""
    try:
        return record.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise layout.wrong(place, f"'{field}': {message}" if field else message) from error


def read_json(path: Path, layout: Layout) -> Any:
    """A whole file of JSON."""
    text = read_text(path, layout.name)
    try:
        return json.loads(text)
    except ValueError as error:
        raise layout.wrong(str(path), f"it is not JSON ({error})") from error


def _values(path: Path, layout: Layout) -> Iterator[tuple[str, object]]:
    start = read_text(path, layout.name).lstrip()[:1]
    if start == "{":  # JSON lines, as hubs export a set
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
