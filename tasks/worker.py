"""Process-wide cache for tasks.

A worker process loads the store, the base model, corpora, translators and other expensive objects once and shares them
between its tasks.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dyprag.config import ModelSettings, PipelineConfig
from dyprag.corpora.documents import Corpus, Document
from dyprag.model.base import BaseModel, keeping_prefixes, load_model
from dyprag.model.files import model_fingerprint
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Store
from dyprag.storage.tables import read_corpus

Cached = TypeVar("Cached")
CORPORA = 2
TRANSLATORS = 2
READINGS = 512  # about 350 MB for SmolLM2-135M; methods and controls read the same documents


@dataclass
class _Cache:
    """Cached objects of one kind, least recently used first."""

    items: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Worker:
    """Everything that a process has loaded for tasks on one store and one model. Use `worker_of` to get the
    process's instance."""

    def __init__(self, store_root: str, model: ModelSettings) -> None:
        self.store_root, self.model = store_root, model
        self._caches: dict[str, _Cache] = {}

    @property
    def store(self) -> Store:
        return self.keep("store", self.store_root, lambda: Store(self.store_root, writes=False))

    def base_model(self) -> BaseModel:
        """The base model.

        It is cached here as well as in `load_model`, so that callers do not queue behind the thread that computes with
        the model.
        """
        model = self.model
        return self.keep(
            "base model", model, lambda: compute(lambda: load_model(model.name, model.dtype, model.device))
        )

    def asked_alone(self) -> BaseModel:
        """The base model for a question that is asked by itself: beginnings of prompts are not read again.

        A process that answers such questions may live for long: a model whose files have changed is loaded again.
        """
        if self.base_model().fingerprint != model_fingerprint(self.model.name):
            self.close()
        base = self.base_model()
        return self.keep("asked alone", base.fingerprint, lambda: keeping_prefixes(base))

    def translator(self, key: str) -> Any:
        """A stored translator on the model's device."""
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
        """The documents of an ingested corpus by id."""
        return self.keep("documents", key, lambda: {d.id: d for d in self.corpus(key).documents}, CORPORA)

    def reading(self, translator: str, passage: str) -> Any:
        """A document as an attentive translator reads it (cached).

        Each passage is read on its own: in a batch it would be padded, and the result would differ in its last bits
        from that of an earlier, interrupted run.

        Args:
            translator: The translator's key.
        """

        def read() -> Any:
            (reading,) = self.translator(translator).read(self.base_model(), [passage])
            return reading

        return self.keep("readings", (translator, passage), read, READINGS)

    def keep(self, kind: str, key: Hashable, make: Callable[[], Cached], limit: int = 1) -> Cached:
        """Return a cached object; create it if it is missing. Only one thread creates objects of a kind at a time.

        Args:
            kind: What the object is. Each kind has its own cache.
            key: Identifies the object among others of its kind.
            limit: How many objects of the kind to keep; the least recently used are dropped.
        """
        cache = self._caches.setdefault(kind, _Cache())
        try:  # without the lock, which a thread that creates another object may hold for long
            cache.items.move_to_end(key)
            return cache.items[key]
        except KeyError:
            pass
        with cache.lock:
            if key not in cache.items:
                cache.items[key] = make()
                while len(cache.items) > limit:
                    cache.items.popitem(last=False)
            return cache.items[key]

    def close(self) -> None:
        """Drop all cached objects; they are loaded again on demand."""
        self._caches = {}


_current: Worker | None = None
_opening = threading.Lock()


def worker_of(config: PipelineConfig) -> Worker:
    """The process's worker for a configuration's store and model."""
    return worker_for(config.store, config.model)


def worker_for(store_root: str, model: ModelSettings | None = None) -> Worker:
    """The process's worker for a store and a model. A worker for another store or model is replaced.

    Args:
        model: None: the model of the current worker, if there is one.
    """
    global _current
    with _opening:
        wanted = model or (_current.model if _current else ModelSettings())
        if _current is None or (_current.store_root, _current.model) != (store_root, wanted):
            _current = Worker(store_root, wanted)
        return _current
