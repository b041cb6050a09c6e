"""`dyprag documents`: list the documents of the corpus as they were read, and the files that were not."""

import sys
from typing import Annotated, Any

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, of_store, read_config
from dyprag.cli.output import errors, print_json, print_table

FEW = 20  # unread files listed without --skipped


def documents(
    identity: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Print the text of this document as it was read.")
    ] = None,
    document: Annotated[
        list[str] | None,
        typer.Option("--document", "-d", metavar="FILE", help="Show how this file or folder would be read, instead of "
                     "the store. Repeatable."),
    ] = None,
    skipped: Annotated[bool, typer.Option("--skipped", help="Only list files that were not read, and why.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """List the documents of the corpus and the files that were not read, or print one document as it was read."""
    with errors():
        from dyprag.tasks.contents import documents_at, documents_in_store, one_document

        settings = read_config(config, set_)
        contents = documents_at(document, settings) if document else documents_in_store(of_store(settings))
        if identity is not None:
            entry = one_document(identity, contents)
            if json_:
                print_json(entry)
            else:
                print(document_text(entry))
        elif json_:
            print_json(listed(contents, skipped))
        elif document and not skipped and _is_single(contents):
            print(document_text(contents["documents"][0]))
        else:
            _print_contents(contents, skipped)


def _is_single(contents: dict[str, Any]) -> bool:
    return len(contents["documents"]) == 1 and not contents["skipped"] and not contents["unread"]


def _print_contents(contents: dict[str, Any], skipped: bool) -> None:
    for name, how in contents["guessed"].items():
        print(f"{name}: {how}.", file=sys.stderr)
    if rows := [] if skipped else rows_of(contents):
        print_table(["id", "title", "words", "passages", "source"], rows)
    if unread := unread_rows(contents, None if skipped else FEW):
        print(end="\n" if rows else "")
        print_table(["not read", "file", "why"], unread)
    elif not rows:
        print("Nothing was skipped or failed." if skipped else f"No documents in {contents['location']}.")


def document_text(entry: dict[str, Any]) -> str:
    """A document as it was read: its title, and its text or its passages."""
    passages = entry["passages"]
    if len(passages) == 1:
        return "\n\n".join(filter(None, (entry["title"], passages[0]["text"])))
    parts = [f"[{passage['id']}]\n{passage['text']}" for passage in passages]
    return "\n\n".join(filter(None, (entry["title"], *parts)))


def listed(contents: dict[str, Any], unread_only: bool) -> dict[str, Any]:
    """The contents for JSON, with the number of passages in place of their texts; or only the files not read."""
    if unread_only:
        return {name: contents[name] for name in ("location", "skipped", "unread")}
    entries = [{**entry, "passages": len(entry["passages"])} for entry in contents["documents"]]
    return {**contents, "documents": entries}


def rows_of(contents: dict[str, Any]) -> list[list[str]]:
    """The documents as rows of a table: id, title, words, passages, source."""
    return [
        [entry["id"], entry["title"], f"{entry['words']:,}", f"{len(entry['passages']):,}", entry["source"]]
        for entry in contents["documents"]
    ]


def unread_rows(contents: dict[str, Any], most: int | None = None) -> list[list[str]]:
    """The files that were not read as rows of a table: kind, file, reason; the failures first."""
    rows = [["failed", name, reason] for name, reason in contents["unread"].items()]
    rows += [["skipped", name, reason] for name, reason in contents["skipped"].items()]
    if most is not None and len(rows) > most:
        print(f"{len(rows) - most:,} more files were not read; --skipped lists them all.", file=sys.stderr)
    return rows[:most]
