"""Documents passed to a command as files or folders."""

import sys
from collections.abc import Sequence

from dyprag.corpora.documents import Document

FEW = 20  # unread files that are listed


def given_documents(locations: Sequence[str]) -> list[Document]:
    """Read the documents of files and folders. Files that cannot be read are listed on stderr and skipped.

    Raises:
        CorpusError: a location does not exist, or no document can be read at any of them.
    """
    from dyprag.corpora.reader import read_given

    corpus = read_given(locations)
    lines = [f"Not read: {file.error}" for file in corpus.unread]
    lines += [f"Skipped: {file.id}: {file.reason}." for file in corpus.skipped]
    if len(lines) > FEW:
        lines[FEW:] = [f"{len(lines) - FEW:,} more files were not read; dyprag documents --skipped lists them all."]
    lines += [f"{file.id}: {file.how}." for file in corpus.noted]
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
    return list(corpus.documents)
