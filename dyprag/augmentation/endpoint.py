"""One OpenAI-compatible endpoint: requests go out as fast as its limits allow, and as often as its faults demand."""

import asyncio
import json
import os
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from dyprag.augmentation.answers import BOUNDS, without
from dyprag.augmentation.completions import DECLINED, said_by, usage_of
from dyprag.augmentation.diagnosis import (
    MalformedBody,
    base_address,
    described,
    hopeless,
    never_connected,
    one_line,
    strange,
    unknown_model,
    unreachable,
)
from dyprag.augmentation.disguised import unmask
from dyprag.augmentation.limits import Breaker, Budget, Rate, Slots, cost
from dyprag.augmentation.products import Request, Response, Wanted
from dyprag.augmentation.refusals import (
    PARAMETERS,
    PromptTooLong,
    Refusal,
    bounds_to_leave_out,
    refusal_in,
    refusal_of,
)
from dyprag.augmentation.room import SIGNS, Room
from dyprag.config import AugmentSettings
from dyprag.errors import DocumentError, Stopped
from dyprag.runtime.proxies import prepare_proxies, proxy_of

FORMATS = ("json_schema", "json_object", "text")  # strictest first
BYTES_PER_TOKEN = 4.0  # until answers have told
LONGEST_BACKOFF = 60.0
LEAST_ROOM = 64  # tokens that an answer is given at least, where the context has not so many as are allowed
STRANGE = 3  # answers that are no chat completions, before any that is one, after which none is expected


class Endpoint:
    """Sends requests to one endpoint. Everything happens on the event loop that it was made on.

    Args:
        key: of the endpoint; where it is empty, none is sent that means anything.
        spent: tokens, and money, that earlier runs on this store have spent.
    """

    def __init__(self, settings: AugmentSettings, key: str, spent: tuple[int, float]) -> None:
        self.settings, self.api = settings, settings.api
        address = base_address(self.api.base_url or os.environ.get("OPENAI_BASE_URL"))
        prepare_proxies(address)
        self.client = openai.AsyncOpenAI(
            api_key=key or "none", base_url=address, max_retries=0, timeout=self.api.timeout,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [unmask]}, timeout=self.api.timeout),
        )  # fmt: skip
        self.budget = Budget(self.api, spent)
        self._breaker = Breaker(self.api.give_up_after, name=f"the endpoint {self.client.base_url}")
        self._requests = Rate(self.api.requests_per_minute, self.api.workers)
        self._tokens = Rate(self.api.tokens_per_minute, self.api.workers)
        self._slots = Slots(max(1, self.api.concurrency // self.api.workers), self.api.timeout)
        self._format = FORMATS[0] if self.api.answer_format == "auto" else self.api.answer_format
        # A batch tells of a refusal after hours, so its schema has only what all providers of batches take.
        self._left_out = BOUNDS if self.api.batch else frozenset[str]()
        self._refused: set[str] = set() if self.api.send_seed else {"seed"}  # parameters that are not sent
        self.room = Room(settings.max_new_tokens, self.budget)
        self._seen = [0, 0, 0, 0]  # answers, bytes in, tokens in, tokens out
        self._strange = 0  # answers that were no chat completions
        self._owed = 0  # tokens that answers took beyond what was expected
        self._stopped: Stopped | None = None

    async def complete(self, request: Request) -> Response:
        """Send a request until it is answered, with a chat completion of any content.

        Raises:
            PromptTooLong: its messages do not fit the endpoint's context.
            DocumentError: the endpoint refuses this request, or fails at it again and again.
            Stopped: the budget is spent, the endpoint is down, or it rejects the API key or the model.
        """
        retries, failures, began, longest = 0, 0, time.monotonic(), self.room.tokens(request)
        async with self.budget.set_aside(request.bytes + SIGNS, longest) as took:
            while True:
                body = self.body(request, longest)
                try:
                    async with self._breaker.passed():
                        answer, seconds = await self._send(request, body)
                except Stopped as stop:
                    self._stopped = stop
                    raise
                except (openai.APIError, MalformedBody) as error:
                    if isinstance(error, openai.APIStatusError) and (room := await self._changed(request, error, body)):
                        longest = room
                        continue
                    fault, pause = error, await self._pause(request, error, failures)
                else:
                    response = self.response(request, answer, seconds, retries)
                    took(response)
                    return response
                retries += 1
                limited = isinstance(fault, openai.RateLimitError)
                if limited and time.monotonic() - began > self.api.give_up_after:
                    raise self.stop(
                        f"it has refused a request for {self.api.give_up_after:.0f} seconds (429)",
                        "Lower augment.api.requests_per_minute or concurrency and run again.",
                    )
                failures += not (limited or self._breaker.open or never_connected(fault))
                await asyncio.sleep(pause)

    def stop(self, reason: str, remedy: str) -> Stopped:
        """Nothing more is sent from now on; gives what every request is to raise."""
        self._stopped = Stopped(f"the endpoint {self.client.base_url}", reason, remedy)
        return self._stopped

    async def _send(self, request: Request, body: dict[str, Any]) -> tuple[ChatCompletion, float]:
        """The answer, and the seconds that the endpoint took for it."""
        expected = self.expected_tokens(request.bytes)
        async with self._slots.one():
            await self._requests.take()
            owed, self._owed = self._owed, 0
            await self._tokens.take(expected + owed)
            if self._stopped:  # while it waited for its turn
                raise self._stopped
            began = time.monotonic()
            try:
                answer = await self.client.chat.completions.create(**body)
                if not isinstance(answer, ChatCompletion) or not answer.choices:
                    raise ValueError(described(answer))
            except openai.APIStatusError as error:
                status = error.status_code
                self._breaker.faulted(request.key, f"HTTP {status}") if status >= 500 else self._breaker.answered()
                raise
            except openai.APIConnectionError as error:
                timeout = isinstance(error, openai.APITimeoutError)
                if timeout:
                    self._slots.timed_out(began)
                reason = f"no answer within {self.api.timeout:g} s" if timeout else one_line(error.__cause__ or error)
                if proxy := proxy_of(str(self.client.base_url)):
                    reason += f", through the proxy {proxy}"
                self._breaker.faulted(request.key, reason, never_connected(error))
                raise
            except ValueError as error:  # a body that is no JSON, or other JSON
                self._breaker.faulted(request.key, "no chat completion")
                self._strange += 1
                raise MalformedBody(f"a malformed body: {error}") from None
            seconds = time.monotonic() - began
        self._breaker.answered()
        self._slots.answered()
        if used := usage_of(answer):  # what was taken too little; too much shows in the next expectation
            self._owed += sum(used) - expected  # an answer never waits: the next request takes it too
        return answer, seconds

    def body(self, request: Request, longest: int | None = None) -> dict[str, Any]:
        """The parameters of a chat completion, without those that the endpoint does not take.

        Args:
            longest: tokens of the answer; None: as many as are asked for and the endpoint allows.
        """
        body: dict[str, Any] = {
            "model": self.api.model, "messages": list(request.messages), "temperature": self.settings.temperature,
            "seed": request.seed, "max_tokens": longest or self.room.tokens(request),
        }  # fmt: skip
        if request.schema and self._format == "json_schema":
            body["response_format"] = {"type": "json_schema", "json_schema": without(request.schema, self._left_out)}
        elif request.schema and self._format == "json_object":
            body["response_format"] = {"type": "json_object"}
        if "max_tokens" in self._refused:
            body["max_completion_tokens"] = body["max_tokens"]
        body = {name: value for name, value in body.items() if name not in self._refused}
        return body | ({"extra_body": self.api.extra_body} if self.api.extra_body else {})

    def expected_tokens(self, prompt_bytes: int) -> int:
        """Tokens, in and out, that a request will likely take, by what those before it took."""
        answers, bytes_in, tokens_in, tokens_out = self._seen
        if not answers:
            return int(prompt_bytes / BYTES_PER_TOKEN) + self.settings.max_new_tokens // 2
        return int(prompt_bytes * tokens_in / max(1, bytes_in) + tokens_out / answers)

    def response(self, request: Request | Wanted, answer: ChatCompletion, seconds: float, retries: int) -> Response:
        """An answer with what it took; where the server does not tell the tokens, they are estimated."""
        choice = answer.choices[0] if answer.choices else None
        finish = str(getattr(choice, "finish_reason", None) or "")
        text, declines = said_by(getattr(choice, "message", None), finish)
        finish = DECLINED if declines else finish
        tokens_in, tokens_out = usage_of(answer) or (
            int(request.bytes / BYTES_PER_TOKEN), int(len(text.encode()) / BYTES_PER_TOKEN)
        )  # fmt: skip
        for place, amount in enumerate((1, request.bytes, tokens_in, tokens_out)):
            self._seen[place] += amount
        price = cost(self.api.prices.get(self.api.model), tokens_in, tokens_out)
        return Response(
            request.key, request.product_key, request.document_id, request.label, text, finish, self.api.model,
            tokens_in, tokens_out, request.bytes, seconds, retries, price, time.time(),
        )  # fmt: skip

    async def _pause(self, request: Request, error: Exception, failures: int) -> float:
        """Seconds to wait before a request is sent again.

        Raises:
            Stopped, DocumentError: it is not worth sending again.
        """
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        told = _retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else None
        stop = await hopeless(self.client, self.api, error)
        if stop is None and not self._seen[0]:  # what has never worked
            stop = (
                strange(self.client, one_line(error)) if self._strange >= STRANGE else unreachable(self.client, error)
            )
        if stop is None and told is not None and told > self.api.give_up_after:
            where = f"the endpoint {self.client.base_url}"
            stop = Stopped(where, f"it asks to retry in {told:.0f} seconds", "Run again after that.")
        if stop:
            self._stopped = stop
            raise stop from None
        if status is not None and status < 500 and status not in (408, 409, 425, 429):
            raise self._refusal(request, error) from None
        if failures >= self.api.retries and not self._breaker.open and status != 429:
            reason = f"the endpoint failed {failures + 1} times at its {request.label!r} ({one_line(error)})"
            raise DocumentError(
                f"document {request.document_id!r}", reason, "Run again: answers received so far are kept."
            )
        backoff = random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, 0.5 * 2**failures)
        return backoff if told is None else told + random.uniform(0, 0.1)

    async def _changed(self, request: Request, error: openai.APIStatusError, body: Mapping[str, Any]) -> int | None:
        """How a refused request may be sent again: the tokens that its answer may have, where it can do with fewer, or
        without what was refused; None where this was no refusal.

        Raises:
            PromptTooLong: the context has no room for an answer.
            DocumentError, Stopped: it is refused for another reason.
        """
        status = error.status_code
        if status not in (400, 413, 422) and status < 500:
            return None
        refusal, longest = refusal_of(error, body), body.get("max_tokens") or body.get("max_completion_tokens") or 0
        if refusal.kind == "answer" and longest > 1:
            self.room.longest = min(self.room.longest, _below(refusal.limit, longest))
            return self.room.longest
        if refusal.kind == "context":
            room = _below(refusal.room, longest)
            if room < LEAST_ROOM:
                raise PromptTooLong(request.document_id, refusal) from None
            return room
        passing = status >= 500 and refusal.kind != "schema" and refusal.names != {"seed"}
        if not passing and self._adapts(refusal, body):
            return longest or self.room.tokens(request)
        if extra := sorted(refusal.names & {*self.api.extra_body}):
            raise self.stop(
                f"it refuses {', '.join(extra)} of augment.api.extra_body ({one_line(error)})", "Leave it out."
            )
        if status >= 500:
            return None
        if refusal.kind == "schema":
            raise self.stop(
                f"it refuses the form of the answer ({one_line(error)})", "Set augment.api.answer_format=auto."
            )
        if refusal.kind == "model":
            self._stopped = await unknown_model(self.client, self.api, one_line(error), status)
            raise self._stopped from None
        raise self._refusal(request, error) from None

    def _adapts(self, refusal: Refusal, body: Mapping[str, Any]) -> bool:
        """Whether a request was refused for something that it can do without, which is left out from now on."""
        form = body.get("response_format", {})
        if refusal.kind == "schema" and form:
            bounds = BOUNDS & _keywords(form) if "response_format" not in refusal.names else frozenset()
            if bounds & self._left_out:  # another request has found it out
                return True
            if left_out := bounds_to_leave_out(refusal, BOUNDS - bounds):
                self._left_out |= left_out
                return True
            if self.api.answer_format == "auto":
                if form["type"] == self._format:  # no other request has found it out
                    self._format = FORMATS[FORMATS.index(form["type"]) + 1]
                return True
        for name in PARAMETERS:
            if refusal.kind == "parameter" and name in refusal.names and name in body:
                self._refused.add(name)
                return True
        return False

    def relents(self, told: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
        """Whether what a batch's line was refused for is not sent any more from now on.

        Args:
            told: the body of the refusal.
            sent: what `body` gave for such a line before any line of its batch was read.
        """
        refusal = refusal_in(told, sent)
        if refusal.kind == "answer":
            longest = sent.get("max_tokens") or sent.get("max_completion_tokens") or 0
            self.room.longest = max(1, min(self.room.longest, _below(refusal.limit, longest)))
        return refusal.kind == "answer" or self._adapts(refusal, sent)

    def _refusal(self, request: Request, error: Exception) -> DocumentError:
        return DocumentError(
            f"document {request.document_id!r}", f"the endpoint refuses it ({one_line(error)})",
            "If it refuses other documents too, correct augment.api; otherwise remove the document.",
        )  # fmt: skip


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait."""
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return None


def _below(told: int | None, asked: int) -> int:
    """What is told if it is less than what was asked for, else half of that."""
    return told if told is not None and told < asked else asked // 2


def _keywords(form: Any) -> set[str]:
    """The names of all fields of a JSON value, at any depth."""
    found: set[str] = set()
    json.loads(json.dumps(form), object_pairs_hook=lambda pairs: found.update(name for name, _ in pairs))
    return found
