"""What augmentation makes of a document: two products, their accepted items, what was dropped, and what it took."""

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
    """An item that passed the checks, with its quality marks, such as {"recall": 1.0, "change": 0.4}."""

    item: Item
    marks: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """An item that did not, and why."""

    item: Item
    reason: str


@dataclass(frozen=True)
class Usage:
    """What the making took: answered requests, those sent again, tokens, seconds of waiting for answers, and money
    (None: no price is known)."""

    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cost: float | None = None


@dataclass(frozen=True)
class Product:
    """One product of one document: its accepted items, best first, and what else came.

    The last `filled` of the accepted ones were made by rule, in place of what an endpoint's model did not bring.
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
    """One question to an endpoint, for one product of one document. `label` says which: "ask 1", "repair 1" and so
    on; with the product's key it names the request, whatever process sends it. `tokens`: that its answer may have;
    None: as many as others."""

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
        """Of the messages in UTF-8, which is more than their tokens can be."""
        return sum(len(message["content"].encode("utf-8", "replace")) for message in self.messages)


@dataclass(frozen=True)
class Response:
    """An endpoint's answer to a request, and what it took. `cost` is None where no price is known."""

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
        """The text without the thoughts that stand before it."""
        return without_thoughts(self.text)


@dataclass(frozen=True)
class Wanted:
    """What must be known of a request to make use of its answer later."""

    key: str
    product_key: str
    document_id: str
    label: str
    bytes: int


@dataclass(frozen=True)
class OpenBatch:
    """A batch that was handed in and whose answers have not been fetched."""

    id: str
    created: float
    requests: tuple[Wanted, ...]


class Journal(Protocol):
    """Every answer that was paid for, kept from the moment it came: none is asked for twice."""

    def find(self, product_key: str, request_key: str) -> Response | None:
        """The answer to a request whose product is not finished yet."""

    def add(self, response: Response) -> None:
        """Keep an answer; it is on the disk when this returns."""

    def close(self, product_key: str, failed: bool = False) -> None:
        """The product is made, or has failed: its answers are kept, but none of them is given again."""

    def failures(self, product_key: str) -> int:
        """How often the product has failed, over all runs."""

    def open_batch(self, batch: OpenBatch) -> None:
        """A batch was handed in."""

    def end_batch(self, batch_id: str, why: str = "") -> None:
        """Its answers have been fetched, or there will be none; why some requests have none."""

    def unanswered(self, request_key: str) -> str:
        """Why the last batch that the request was in did not answer it; empty where none has ended without."""

    def open_batches(self) -> Sequence[OpenBatch]:
        """Those that have not ended, by whatever process they were handed in."""


class Augmenter(Protocol):
    """A back end that writes products of documents, many at the same time."""

    def begin(self, document: Document, product: ProductName, key: str) -> Future[Product]:
        """Begin to write and check one product.

        Args:
            key: the product's, under which answers that are paid for are kept.

        Returns:
            The product to come. It raises DocumentError where nothing usable came, and Waiting where it cannot be made
            now, through no fault of the document.
        """

    def stored(self, key: str) -> None:
        """The product of this key is on disk, and nothing that it was made from is needed any more."""

    def close(self) -> None:
        """Nothing more will be begun."""


def summed(responses: Sequence[Response]) -> Usage:
    """The usage of several requests; without a price for one of them there is no sum of money."""
    costs = [response.cost for response in responses]
    return Usage(
        len(responses), sum(r.retries for r in responses), sum(r.tokens_in for r in responses),
        sum(r.tokens_out for r in responses), sum(r.seconds for r in responses),
        sum(c for c in costs if c is not None) if costs and None not in costs else None,
    )  # fmt: skip
