"""Augmentation by an LLM behind an endpoint: ask, read, check, ask again for what is missing; every answer is kept.

What becomes of a document follows from the answers alone. So a run that was stopped is taken up by going through the
answers that came, and asking only for those that did not.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from dyprag.augmentation.answers import read_items, schema
from dyprag.augmentation.batches import Batches, Fetched
from dyprag.augmentation.checks import UNSUPPORTED, check_item, same_answer
from dyprag.augmentation.endpoint import Endpoint
from dyprag.augmentation.limits import spent_before
from dyprag.augmentation.products import (
    Accepted,
    Dropped,
    Item,
    Journal,
    Message,
    OpenBatch,
    Product,
    ProductName,
    Request,
    Response,
    summed,
)
from dyprag.augmentation.prompt_files import PromptFile, prompt_file
from dyprag.config import AugmentSettings
from dyprag.documents import Document, QAPair
from dyprag.errors import DocumentError, Stopped, StoreError
from dyprag.interruption import until_interrupted

Result = TypeVar("Result")
Ask = Callable[[str, tuple[Message, ...], Any], Awaitable[Response]]


class ApiAugmenter:
    """Writes products with the model of an endpoint. All requests of a process share its limits and one event loop.

    Args:
        settings: resolved; `backend` is api.
        key: of the endpoint.
        journal: keeps the answers.
        tokens: in and out, by model, that earlier runs have spent on this store.
    """

    def __init__(
        self, settings: AugmentSettings, key: str, journal: Journal, tokens: dict[str, tuple[int, int]] | None = None
    ) -> None:
        self.settings, self._journal = settings, journal
        self._closed = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="dyprag-requests").start()
        spent = spent_before(settings.api, tokens or {})

        async def made_there() -> Endpoint:
            return Endpoint(settings, key, spent)

        self.endpoint = self._run(made_there())
        self._batches = Batches(self.endpoint, journal) if settings.api.batch else None

    def begin(self, document: Document, product: ProductName, key: str) -> Future[Product]:
        """Begin to write a product; see `Augmenter.begin`."""
        if self._closed:
            ended: Future[Product] = Future()
            ended.set_exception(Stopped("augmentation", "its stage has ended", "Run again."))
            return ended
        made = until_interrupted(self._make(document, product, key))
        return asyncio.run_coroutine_threadsafe(made, self._loop)

    def stored(self, key: str) -> None:
        """The product is on disk; see `Augmenter.stored`."""
        self._journal.close(key)

    def close(self) -> None:
        """Nothing more will be begun: the connections and the event loop end."""
        self._closed = True
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _end(self) -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:  # their documents' tasks wait for them
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.endpoint.client.close()

    def fetch(self) -> Fetched:
        """The answers of the batches that have ended, into the journal; see `Batches.fetch`."""
        return self._run(until_interrupted(self._in_batches.fetch()))

    def hand_in(self) -> list[OpenBatch]:
        """The requests that documents are waiting for, as batches; see `Batches.hand_in`."""
        return self._run(until_interrupted(self._in_batches.hand_in()))

    @property
    def _in_batches(self) -> Batches:
        assert self._batches is not None, "augment.api.batch is off"
        return self._batches

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _make(self, document: Document, product: ProductName, key: str) -> Product:
        answered: list[Response] = []

        async def ask(label: str, messages: tuple[Message, ...], form: Any) -> Response:
            seed = self.settings.seed + int(label.split()[1].split(".")[0])
            request = Request(document.id, key, label, messages, form, seed)
            response = self._journal.find(key, request.key)
            if response is None and self._batches is not None:
                raise self._batches.wanted(request)
            if response is None:
                response = await self.endpoint.complete(request)
                try:
                    self._journal.add(response)
                except StoreError as error:  # what is paid for could not be kept
                    raise self.endpoint.stop(f"{error.reason}: {error.subject}", error.remedy) from error
            if response.finish == "refused":
                self._journal.close(key)
                raise DocumentError(
                    f"document {document.id!r}", f"the endpoint refuses it ({response.text})",
                    "Split the document if it is too long for the model, or leave it out.",
                )  # fmt: skip
            answered.append(response)
            return response

        writing = Writing(document, product, self.settings, ask)
        await writing.run()
        usage = summed(answered)
        if not writing.usable or (product == "qa_pairs" and not writing.accepted):
            self._journal.close(key)
            raise DocumentError(
                f"document {document.id!r}", f"no {product.replace('_', ' ')} came of {len(answered)} answers "
                f"({writing.last_fault})", "See the answers with dyprag augment --show; a later run asks anew.",
            )  # fmt: skip
        return Product(tuple(writing.accepted), tuple(writing.dropped), usage, writing.rounds)


def first_request(document: Document, product: ProductName, key: str, settings: AugmentSettings) -> Request:
    """What is asked first for a product."""
    messages = prompt_file(product, settings.prompts).messages(
        document=document.passage, count=getattr(settings, product), notes=""
    )
    return Request(document.id, key, "ask 1", messages)


class Writing:
    """The making of one product: rounds of asking for what is missing, until it is there or the tries are over."""

    def __init__(self, document: Document, product: ProductName, settings: AugmentSettings, ask: Ask) -> None:
        self._document, self._product, self._settings, self._ask = document, product, settings, ask
        self.accepted: list[Accepted] = []
        self.dropped: list[Dropped] = []
        self.rounds = 0
        self.usable = False  # whether any answer had the form that was asked for
        self.last_fault = ""

    async def run(self) -> None:
        """Ask until the product is whole or has been asked for often enough."""
        wanted = getattr(self._settings, self._product)
        while len(self.accepted) < wanted and self.rounds < self._settings.tries:
            self.rounds += 1
            items = await self._items(wanted - len(self.accepted))
            self.usable = self.usable or bool(items)
            verified = await self._verified(items)
            for item in items:
                verdict = self._checked(item)
                if isinstance(verdict, Dropped) and verdict.reason == UNSUPPORTED:
                    verdict = verified.get(item, verdict)
                if isinstance(verdict, Dropped):
                    self.dropped.append(verdict)
                    self.last_fault = verdict.reason
                elif len(self.accepted) < wanted:
                    self.accepted.append(verdict)

    async def _items(self, count: int) -> list[Item]:
        """What one round brings: an answer's sound items, after one request to mend it where there are none."""
        messages = self._prompt(self._product).messages(
            document=self._document.passage, count=count, notes=self._notes()
        )
        response = await self._ask(f"ask {self.rounds}", messages, schema(self._product))
        items, fault = read_items(response.text, self._product, response.finish == "length")
        if fault and not items and response.text.strip():
            answered: Message = {"role": "assistant", "content": response.text}
            repair = (*messages, answered, *self._prompt("repair").messages(error=fault))
            response = await self._ask(f"repair {self.rounds}", repair, schema(self._product))
            items, fault = read_items(response.text, self._product, response.finish == "length")
        self.last_fault = fault or self.last_fault
        return items

    async def _verified(self, items: list[Item]) -> dict[Item, Accepted | Dropped]:
        """Of those pairs whose answer does not stand in the passage: does the model give it with the passage too?"""
        if not self._settings.verify:
            return {}
        doubtful = [
            (place, item)
            for place, item in enumerate(items)
            if isinstance(item, QAPair) and getattr(self._checked(item), "reason", "") == UNSUPPORTED
        ]
        verdicts = await asyncio.gather(*(self._verify(*doubt) for doubt in doubtful), return_exceptions=True)
        for verdict in verdicts:  # all have been asked by now, or put on a batch's list
            if isinstance(verdict, BaseException):
                raise verdict
        return {
            pair: verdict
            for (_, pair), verdict in zip(doubtful, verdicts, strict=True)
            if not isinstance(verdict, BaseException)
        }

    async def _verify(self, place: int, pair: QAPair) -> Accepted | Dropped:
        messages = self._prompt("verify").messages(document=self._document.passage, question=pair.question)
        response = await self._ask(f"verify {self.rounds}.{place}", messages, None)
        if same_answer(response.text, pair.answer):
            return Accepted(pair, {"support": 1.0, "by": "model"})
        return Dropped(pair, f"{UNSUPPORTED}, and with the passage the model answers otherwise")

    def _checked(self, item: Item) -> Accepted | Dropped:
        return check_item(self._document, item, self.accepted, self._settings)

    def _notes(self) -> str:
        """What a further round is told of those before it."""
        if self._product == "qa_pairs":
            asked = [accepted.item for accepted in self.accepted] + [dropped.item for dropped in self.dropped]
            lines = [pair.question for pair in asked if isinstance(pair, QAPair)]
            first = "These questions have been asked; ask others:"
        else:
            lines = [dropped.reason for dropped in self.dropped]
            first = "Versions of this kind were not accepted:"
        return "\n".join([first, *(f"- {line}" for line in lines)]) if lines else ""

    def _prompt(self, name: str) -> PromptFile:
        return prompt_file(name, self._settings.prompts)
