"""Augmentation, stage 1a: rewrites and question-answer pairs of each document (§3.1)."""

import re

LOCAL_VERSION = "local-5"  # part of the keys of the local model's products: raise it with any change of its rules
WRITER_VERSION = 1  # part of the keys of a question writer's pairs: raise it if the same writer would give other pairs
# How sentences were split before the rules for abbreviations, closing quotation marks and other scripts.
_PARTED_BEFORE = re.compile(r"(?<=[.!?])[\"'”’)]?\s+(?=[\"'“‘(]?[^\W\d_a-zà-öø-ÿ])")


def local_version(text: str) -> str:
    """The version of the local rules that apply to a text.

    The rules for several blocks, for table rows and for splitting sentences are newer. Their suffixes appear only for
    texts that they change, so that the products of all other texts keep their keys.
    """
    from dyprag.augmentation.cells import cells
    from dyprag.corpora.text.sentences import BLOCK_END, block_sentences, sentences

    newer = BLOCK_END.search(text) or (":" in text and any(map(cells, block_sentences(text))))
    blocks = BLOCK_END.split(text) if "\n" in text else [text]
    resplit = any(
        [part.strip() for part in _PARTED_BEFORE.split(block) if part.strip()]
        != [part.strip() for part in sentences(block)]
        for block in blocks
        if block.strip()
    )
    return f"{LOCAL_VERSION}{'-blocks' if newer else ''}{'-sentences' if resplit else ''}"
