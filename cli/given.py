"""Documents that are handed to a command as files or folders."""

import sys
from collections.abc import Sequence

from dyprag.corpora.documents import Document

FEW = 20  # files that were not read, where they are not asked for


def given_documents(locations: Sequence[str]) -> list[Document]:
    """The documents of files and folders that are handed over. What cannot be read there is told on stderr, and stops
    nothing.

    Raises:
        CorpusError: a location does not exist, or no document at any of them can be read.
    """
    from dyprag.corpora.reader import read_given

    corpus = read_given(locations)
    lines = [f"Not read: {one.error}" for one in corpus.unread]
    lines += [f"Skipped: {one.id}: {one.reason}." for one in corpus.skipped]
    if len(lines) > FEW:
        lines[FEW:] = [f"{len(lines) - FEW:,} more were not read: dyprag documents --skipped lists them all."]
    lines += [f"{one.id}: {one.how}." for one in corpus.noted]
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
    return list(corpus.documents)
