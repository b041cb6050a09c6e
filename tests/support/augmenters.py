"""Augmenters on the endpoint of llm_server.py, each as a new process would make it, and documents for them."""

from collections.abc import Callable
from typing import Any

from conftest import TEXTS
from llm_server import Behaviour, LLMServer

from dyprag.augmentation.api import ApiAugmenter
from dyprag.config import AugmentSettings
from dyprag.corpora.documents import Document
from dyprag.corpora.products import Product, ProductName
from dyprag.storage.artifacts import Store
from dyprag.storage.journal import Journal

Made = Callable[..., ApiAugmenter]
DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()]
LAMP = DOCUMENTS[0]


def augmenter_of(
    url: str, store: Store, augment: dict[str, Any] | None = None, key: str = "sk-key", **api: Any
) -> ApiAugmenter:
    """An augmenter on any endpoint, with the journal that is on disk."""
    settings = AugmentSettings.model_validate({
        "backend": "api", "rewrites": 1, "qa_pairs": 2, "least_pairs": 1, **(augment or {}),
        "api": {"model": "m", "base_url": url, **api},
    })  # fmt: skip
    journal = Journal(store)
    return ApiAugmenter(settings, key, journal, journal.tokens)


def maker(server: LLMServer, store: Store, key: str = "sk-key") -> Made:
    """Gives what makes an augmenter with the journal that is on disk, the server behaving as it is told."""

    def make(behaviour: Behaviour | None = None, augment: dict[str, Any] | None = None, **api: Any) -> ApiAugmenter:
        server.behaviour = behaviour or Behaviour()
        server.reset()
        return augmenter_of(server.url, store, augment, key, **{"give_up_after": 20, **api})

    return make


def write(augmenter: ApiAugmenter, product: ProductName = "qa_pairs", document: Document = LAMP) -> Product:
    """The product of a document."""
    return augmenter.begin(document, product, f"{document.id}-{product}").result(timeout=60)
