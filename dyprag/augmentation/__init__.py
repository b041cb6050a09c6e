"""Stage 1, first half: rewrites and question-answer pairs of each document (§3.1)."""

import re

LOCAL_VERSION = "local-5"  # part of the keys of what the local model writes: raise it with any change of its rules
# Where sentences ended before abbreviations, closing quotation marks and other scripts were known.
_PARTED_BEFORE = re.compile(r"(?<=[.!?])[\"'”’)]?\s+(?=[\"'“‘(]?[^\W\d_a-zà-öø-ÿ])")


def local_version(text: str) -> str:
    """The version of the rules that a text is written about by. Those for texts of more than one block, or with rows of
    tables, are newer, and so are those that part sentences; what was made of other texts stays what it is."""
    from dyprag.augmentation.cells import cells
    from dyprag.corpora.text.sentences import BLOCK_END, block_sentences, sentences

    newer = BLOCK_END.search(text) or (":" in text and any(map(cells, block_sentences(text))))
    blocks = BLOCK_END.split(text) if "\n" in text else [text]
    otherwise = any(
        [part.strip() for part in _PARTED_BEFORE.split(block) if part.strip()]
        != [part.strip() for part in sentences(block)]
        for block in blocks
        if block.strip()
    )
    return f"{LOCAL_VERSION}{'-blocks' if newer else ''}{'-sentences' if otherwise else ''}"
