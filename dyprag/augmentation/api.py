"""Augmentation by an LLM behind an endpoint: request, parse, check, and request what is missing. Answers are kept.

A product depends only on the answers. To resume a stopped run, the same steps are repeated with the kept answers, and
only missing answers are requested.
"""

import asyncio
import json
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from dyprag.augmentation.answers import BREAKS_OFF
from dyprag.augmentation.batches import Batches, Fetched
from dyprag.augmentation.completions import DECLINED
from dyprag.augmentation.endpoint import Endpoint
from dyprag.augmentation.limits import spent_before
from dyprag.augmentation.prompt_files import prompt_file
from dyprag.augmentation.refusals import PromptTooLong, Unanswered, refusal_in
from dyprag.augmentation.writing import Writing
from dyprag.config import AugmentSettings
from dyprag.corpora.documents import Document
from dyprag.corpora.products import (
    Journal,
    Message,
    OpenBatch,
    Product,
    ProductName,
    Request,
    Response,
    summed,
)
from dyprag.errors import DocumentError, Stopped, StoreError
from dyprag.runtime.interruption import until_interrupted

Result = TypeVar("Result")
SEEDS_PER_RUN = 1000  # more than the rounds of a product


class ApiAugmenter:
    """Writes products with the model of an endpoint. All requests of a process share its limits and one event loop.

    Args:
        settings: resolved settings with `backend` api.
        key: the API key.
        journal: keeps the answers.
        tokens: (in, out) tokens by model that earlier runs spent on this store.
    """

    def __init__(
        self, settings: AugmentSettings, key: str, journal: Journal, tokens: dict[str, tuple[int, int]] | None = None
    ) -> None:
        self.settings, self._journal = settings, journal
        self._closed = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="dyprag-requests").start()
        spent = spent_before(settings.api, tokens or {})

        async def create_endpoint() -> Endpoint:  # on the event loop
            return Endpoint(settings, key, spent)

        self.endpoint = self._run(create_endpoint())
        self._batches = Batches(self.endpoint, journal) if settings.api.batch else None

    def begin(self, document: Document, product: ProductName, key: str) -> Future[Product]:
        """Start writing a product; see `Augmenter.begin`."""
        if self._closed:
            stopped: Future[Product] = Future()
            stopped.set_exception(Stopped("augmentation", "its stage has already ended", "Run again."))
            return stopped
        writing = until_interrupted(self._make(document, product, key))
        return asyncio.run_coroutine_threadsafe(writing, self._loop)

    def stored(self, key: str) -> None:
        """Note that the product is on disk; see `Augmenter.stored`."""
        self._journal.close(key)

    def close(self) -> None:
        """Close the connections and the event loop."""
        self._closed = True
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _end(self) -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:  # document tasks wait for these
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.endpoint.client.close()

    def fetch(self) -> Fetched:
        """Put the answers of finished batches into the journal; see `Batches.fetch`."""
        return self._run(until_interrupted(self._in_batches.fetch()))

    def hand_in(self) -> list[OpenBatch]:
        """Submit the requests that documents wait for as batches; see `Batches.hand_in`."""
        return self._run(until_interrupted(self._in_batches.hand_in()))

    @property
    def _in_batches(self) -> Batches:
        assert self._batches is not None, "augment.api.batch is off"
        return self._batches

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _make(self, document: Document, product: ProductName, key: str) -> Product:
        answered: list[Response] = []
        failures = self._journal.failures(key)

        async def ask(label: str, messages: tuple[Message, ...], form: Any) -> Response:
            number = int(label.split()[1].split(".")[0])  # the seed differs by round and after each failure
            seed = self.settings.seed + SEEDS_PER_RUN * failures + number
            return await self._answer(Request(document.id, key, label, messages, form, seed), answered)

        writing = Writing(document, product, self.settings, ask)
        try:
            await writing.run()
        except (PromptTooLong, Unanswered):
            self._journal.close(key, failed=True)  # a refusal in a batch is kept as an answer; later runs request anew
            raise
        if not writing.usable or (product == "qa_pairs" and not writing.accepted):
            self._journal.close(key, failed=True)
            raise DocumentError(
                f"document {document.id!r}", f"{len(answered)} answers contained no usable "
                f"{product.replace('_', ' ')} ({writing.last_fault.rstrip('.')})", self._remedy(writing.last_fault),
            )  # fmt: skip
        return Product(
            tuple(writing.accepted), tuple(writing.dropped), summed(answered), writing.rounds, writing.filled
        )

    async def _answer(self, request: Request, answered: list[Response]) -> Response:
        """Get an answer. One that consists only of thoughts is requested once more with a higher token limit.

        Args:
            answered: collects the responses, to sum their usage.

        Raises:
            PromptTooLong: the request does not fit the endpoint's context.
            Unanswered: the model declines, or writes nothing but thoughts.
            DocumentError, Waiting: see `_respond`.
        """
        response = await self._respond(request)
        answered.append(response)
        if response.finish == "length" and not response.answer.strip():
            if longer := self.endpoint.room.longer(request):
                request = longer
                answered.append(response := await self._respond(request))
            if response.finish == "length" and not response.answer.strip():
                raise self.endpoint.room.thought_away(request, self.endpoint.stop)
        subject = f"document {request.document_id!r}"
        if response.finish == DECLINED:
            raise Unanswered(subject, f"the model declines to answer ({_short(response.text)})", _OTHERS)
        if response.finish == "content_filter" and not response.answer.strip():
            raise Unanswered(subject, "the endpoint's content filter blocked the answer", _OTHERS)
        if response.answer.strip():
            self.endpoint.room.heard(request)
        return response

    async def _respond(self, request: Request) -> Response:
        """Get the answer from the journal, or else from the endpoint.

        Raises:
            PromptTooLong: the request does not fit the endpoint's context.
            DocumentError: the endpoint refuses the request, or repeatedly fails at it.
            Waiting: the request goes into a batch, or nothing can be sent now.
        """
        response = self._journal.find(request.product_key, request.key)
        if response is None and self._batches is not None:
            raise self._batches.wanted(request)
        if response is None:
            response = await self.endpoint.complete(request)
            try:
                self._journal.add(response)
            except StoreError as error:  # the paid answer could not be kept
                raise self.endpoint.stop(f"{error.reason}: {error.subject}", error.remedy) from error
        if response.finish == "refused":
            refusal = refusal_in(_json(response.text), {})
            if refusal.kind == "context":
                raise PromptTooLong(request.document_id, refusal)
            self._journal.close(request.product_key, failed=True)
            raise DocumentError(
                f"document {request.document_id!r}", f"the endpoint refuses it ({response.text})",
                "If it refuses other documents too, correct augment.api; otherwise remove the document.",
            )  # fmt: skip
        return response

    def _remedy(self, fault: str) -> str:
        if fault == BREAKS_OFF:
            return (
                f"Raise augment.max_new_tokens ({self.settings.max_new_tokens}), or give the server a larger context."
            )
        if self.settings.temperature == 0:
            return "See the answers with dyprag augment --show. Set augment.temperature above 0 to get other answers."
        return "See the answers with dyprag augment --show. Run again to request new answers."


_OTHERS = "Remove the document, or choose another model (augment.api.model)."


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}…"


def _json(text: str) -> dict[str, Any]:
    """Parse a refusal from the journal, which may be truncated."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"message": text}


def first_request(document: Document, product: ProductName, key: str, settings: AugmentSettings) -> Request:
    """The first request for a product."""
    messages = prompt_file(product, settings.prompts).messages(
        document=document.passage, count=getattr(settings, product), notes=""
    )
    return Request(document.id, key, "ask 1", messages)
