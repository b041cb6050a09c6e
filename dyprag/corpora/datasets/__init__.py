"""Loaders for the official files of the paper's data sets (§4.1) and for the user's own questions."""

from collections.abc import Callable
from pathlib import Path

from dyprag.corpora.datasets.dataset import DataSet, Passages
from dyprag.corpora.datasets.factoid import CWQ, POPQA, load_complexwebquestions, load_popqa
from dyprag.corpora.datasets.files import Layout, find_file
from dyprag.corpora.datasets.iirc import IIRC, load_iirc
from dyprag.corpora.datasets.multihop import HOTPOT, TWO_WIKI, load_2wikimultihopqa, load_hotpotqa
from dyprag.corpora.datasets.own import OWN, load_jsonl
from dyprag.corpora.datasets.transfer import RAGTRUTH, STRATEGYQA, load_ragtruth, load_strategyqa
from dyprag.corpora.reader import read_documents
from dyprag.errors import CorpusError

__all__ = ["DATA_SETS", "MULTI_HOP", "DataSet", "load_dataset"]

_LOADERS: dict[str, tuple[Layout, Callable[[Path, Passages | None], DataSet]]] = {
    layout.name: (layout, load)
    for layout, load in (
        (TWO_WIKI, load_2wikimultihopqa),
        (HOTPOT, load_hotpotqa),
        (POPQA, load_popqa),
        (CWQ, load_complexwebquestions),
        (STRATEGYQA, load_strategyqa),
        (IIRC, load_iirc),
        (RAGTRUTH, load_ragtruth),
        (OWN, load_jsonl),
    )
}
DATA_SETS: tuple[str, ...] = tuple(_LOADERS)
MULTI_HOP: frozenset[str] = frozenset({TWO_WIKI.name, HOTPOT.name})  # answered by chain of thought (§4.1)


def load_dataset(name: str, location: str | Path, passages: str | Path | None = None) -> DataSet:
    """Read a data set.

    Args:
        name: one of `DATA_SETS`; "jsonl" is the user's own questions.
        location: the data set's main file, its folder, or the parent of a folder with the data set's name.
        passages: a corpus to use if the data set has none, or instead of its own paragraphs: a JSONL file of objects
            with `id`, `text` and an optional `title`, or a folder of texts.

    Raises:
        CorpusError: the data set is unknown, a file is missing or has another layout, or a record is malformed.
    """
    if name not in _LOADERS:
        raise CorpusError(
            f"data set {name}", "there is no data set format of that name", f"Use one of {', '.join(DATA_SETS)}."
        )
    layout, load = _LOADERS[name]
    path = find_file(layout, location)
    if passages is None:
        return load(path, None)
    corpus = read_documents(str(passages))
    if not corpus:
        raise CorpusError(
            f"corpus {passages}", "it contains no documents", "Add documents to it, or name another corpus."
        )
    return load(path, corpus)
