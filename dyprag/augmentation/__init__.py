"""Stage 1, first half: rewrites and question-answer pairs of each document (§3.1)."""

LOCAL_VERSION = "local-5"  # part of the keys of what the local model writes: raise it with any change of its rules


def local_version(text: str) -> str:
    """The version of the rules that a text is written about by. Those for texts of more than one block, or with rows of
    tables, are newer: what was made of other texts stays what it is."""
    from dyprag.augmentation.cells import cells
    from dyprag.augmentation.spans import BLOCK_END, sentences

    newer = BLOCK_END.search(text) or (":" in text and any(map(cells, sentences(text))))
    return f"{LOCAL_VERSION}-blocks" if newer else LOCAL_VERSION
