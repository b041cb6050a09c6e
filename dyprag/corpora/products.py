"""The products of augmentation: accepted and dropped items, usage, and the protocols of back ends and journals."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from dyprag.corpora.documents import Document, QAPair, content_key
from dyprag.model.thinking import without_thoughts

ProductName = Literal["rewrites", "qa_pairs"]
PRODUCTS: tuple[ProductName, ...] = ("rewrites", "qa_pairs")
Message = dict[str, str]  # role and content
Item = str | QAPair


@dataclass(frozen=True)
class Accepted:
    """An item that passed the checks, with quality marks such as {"recall": 1.0, "change": 0.4}."""

    item: Item
    marks: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """An item that failed the checks, and the reason."""

    item: Item
    reason: str


@dataclass(frozen=True)
class Usage:
    """The usage of a product: answered requests, retries, tokens, seconds of waiting for answers, and cost.

    `cost` is None if no price is known.
    """

    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cost: float | None = None


@dataclass(frozen=True)
class Product:
    """One product of one document, with its accepted items, best first.

    The last `filled` accepted items were made by rule, because the endpoint's model did not provide enough.
    """

    accepted: tuple[Accepted, ...]
    dropped: tuple[Dropped, ...] = ()
    usage: Usage = Usage()
    rounds: int = 1
    filled: int = 0

    @property
    def items(self) -> tuple[Item, ...]:
        return tuple(accepted.item for accepted in self.accepted)


@dataclass(frozen=True)
class Request:
    """A request to an endpoint for one product of one document.

    `label` is "ask 1", "repair 1" and so on; with the product's key it identifies the request across processes.
    `tokens` limits the answer; None: the same limit as for others.
    """

    document_id: str
    product_key: str
    label: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    seed: int = 0
    tokens: int | None = None

    @cached_property
    def key(self) -> str:
        return content_key("request", [self.product_key, self.label], {"messages": self.messages})

    @cached_property
    def bytes(self) -> int:
        """The bytes of the messages in UTF-8, an upper bound of their tokens."""
        return sum(len(message["content"].encode("utf-8", "replace")) for message in self.messages)


@dataclass(frozen=True)
class Response:
    """An endpoint's answer to a request, and its usage. `cost` is None if no price is known."""

    request: str
    product_key: str
    document_id: str
    label: str
    text: str
    finish: str
    model: str
    tokens_in: int
    tokens_out: int
    bytes_in: int
    seconds: float
    retries: int = 0
    cost: float | None = None
    created: float = 0.0

    @cached_property
    def answer(self) -> str:
        """The text without the thoughts before it."""
        return without_thoughts(self.text)


@dataclass(frozen=True)
class Wanted:
    """The part of a request that is needed to use its answer later."""

    key: str
    product_key: str
    document_id: str
    label: str
    bytes: int


@dataclass(frozen=True)
class OpenBatch:
    """A submitted batch whose answers have not been fetched."""

    id: str
    created: float
    requests: tuple[Wanted, ...]


class Journal(Protocol):
    """Keeps every paid answer as soon as it arrives, so that none is requested twice."""

    def find(self, product_key: str, request_key: str) -> Response | None:
        """The answer to a request of an unfinished product; None if there is none."""

    def add(self, response: Response) -> None:
        """Keep an answer; it is on disk when this returns."""

    def close(self, product_key: str, failed: bool = False) -> None:
        """Mark a product as finished or failed. Its answers are kept, but `find` no longer returns them."""

    def failures(self, product_key: str) -> int:
        """The number of times the product has failed, over all runs."""

    def open_batch(self, batch: OpenBatch) -> None:
        """Record a submitted batch."""

    def end_batch(self, batch_id: str, why: str = "") -> None:
        """Record that a batch has ended, and why it left requests unanswered."""

    def unanswered(self, request_key: str) -> str:
        """Why the last batch with this request did not answer it; empty if no batch ended without an answer."""

    def open_batches(self) -> Sequence[OpenBatch]:
        """The batches of all processes that have not ended."""


class Augmenter(Protocol):
    """A back end that writes products of documents, many at the same time."""

    def begin(self, document: Document, product: ProductName, key: str) -> Future[Product]:
        """Start writing and checking one product.

        Args:
            key: the product's key, under which paid answers are kept.

        Returns:
            A future that raises DocumentError if nothing usable was written, and Waiting if the product cannot be
            written now for a reason outside the document.
        """

    def stored(self, key: str) -> None:
        """Note that the product with this key is on disk, so that its answers are no longer needed."""

    def close(self) -> None:
        """Release resources; `begin` is not called again."""


def summed(responses: Sequence[Response]) -> Usage:
    """The total usage of several requests; the cost is None if any price is unknown."""
    costs = [response.cost for response in responses]
    return Usage(
        len(responses), sum(r.retries for r in responses), sum(r.tokens_in for r in responses),
        sum(r.tokens_out for r in responses), sum(r.seconds for r in responses),
        sum(c for c in costs if c is not None) if costs and None not in costs else None,
    )  # fmt: skip
