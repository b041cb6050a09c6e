"""What a process keeps for its tasks, so that each document does not load it again: the store, the base model, corpora,
translators, and whatever else a task asks it to keep."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dyprag.config import ModelSettings, PipelineConfig
from dyprag.corpora.documents import Corpus, Document
from dyprag.model.base import BaseModel, load_model
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Store
from dyprag.storage.tables import read_corpus

Kept = TypeVar("Kept")
CORPORA = 2
TRANSLATORS = 2
READINGS = 512  # some 350 MB for SmolLM2-135M; methods and controls ask about the same documents


@dataclass
class _Shelf:
    """Things of one sort, the last used at the end."""

    things: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Worker:
    """What a process has loaded for tasks on one store with one model. A process has one, see `worker_of`."""

    def __init__(self, store_root: str, model: ModelSettings) -> None:
        self.store_root, self.model = store_root, model
        self._shelves: dict[str, _Shelf] = {}

    @property
    def store(self) -> Store:
        return self.keep("store", self.store_root, lambda: Store(self.store_root, writes=False))

    def base_model(self) -> BaseModel:
        """The base model. Kept here as well as by `load_model`, so that whoever wants it does not wait for the model's
        busy thread."""
        model = self.model
        return self.keep(
            "base model", model, lambda: compute(lambda: load_model(model.name, model.dtype, model.device))
        )

    def translator(self, key: str) -> Any:
        """A translator of the store, on the model's device."""
        from dyprag.translators.protocol import load_translator

        base = self.base_model()
        return self.keep(
            "translators", key, lambda: compute(lambda: load_translator(self.store.open("translator", key), base)),
            TRANSLATORS,
        )  # fmt: skip

    def corpus(self, key: str) -> Corpus:
        """An ingested corpus."""
        return self.keep("corpora", key, lambda: read_corpus(self.store.open("corpus", key)), CORPORA)

    def documents(self, key: str) -> dict[str, Document]:
        """The documents of an ingested corpus, by id."""
        return self.keep("documents", key, lambda: {d.id: d for d in self.corpus(key).documents}, CORPORA)

    def reading(self, translator: str, passage: str) -> Any:
        """What an attentive translator, named by its key, needs of a document. Each is read by itself: in other company
        it would be padded, and differ in its last bits from what a run that was stopped made of it."""

        def read() -> Any:
            (reading,) = self.translator(translator).read(self.base_model(), [passage])
            return reading

        return self.keep("readings", (translator, passage), read, READINGS)

    def keep(self, sort: str, key: Hashable, make: Callable[[], Kept], most: int = 1) -> Kept:
        """The thing of a sort that is kept under a key; made if it is not there, by one thread at a time.

        Args:
            sort: what it is; `key` tells it from others of its sort.
            most: so many of its sort are kept, those that were used last.
        """
        shelf = self._shelves.setdefault(sort, _Shelf())
        try:  # without the lock: whoever makes another thing may hold it for long
            shelf.things.move_to_end(key)
            return shelf.things[key]
        except KeyError:
            pass
        with shelf.lock:
            if key not in shelf.things:
                shelf.things[key] = make()
                while len(shelf.things) > most:
                    shelf.things.popitem(last=False)
            return shelf.things[key]

    def close(self) -> None:
        """Let go of all that is kept; whoever asks again has it loaded anew."""
        self._shelves = {}


_current: Worker | None = None
_opening = threading.Lock()


def worker_of(config: PipelineConfig) -> Worker:
    """The process's worker for the store and the model of a configuration."""
    return worker_for(config.store, config.model)


def worker_for(store_root: str, model: ModelSettings | None = None) -> Worker:
    """The process's worker for a store and a model; without a model, for whichever it has. One for others is let go of:
    its process has turned to other work."""
    global _current
    with _opening:
        wanted = model or (_current.model if _current else ModelSettings())
        if _current is None or (_current.store_root, _current.model) != (store_root, wanted):
            _current = Worker(store_root, wanted)
        return _current
